"""The REST API between directories that sign together: a handler for each route, and the table of routes."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from nymtw.directory.consensus.agreement import Agreement
from nymtw.directory.consensus.peers import CBOR, NOTICES, PART, STATEMENTS
from nymtw.directory.consensus.votes import read_asked, statements_answer
from nymtw.directory.core import Directory
from nymtw.directory.post_gate import PostGate
from nymtw.errors import DirectoryError, EncodingError
from nymtw.web.http import Answer, Call, Route, as_json
from nymtw.web.openapi import answers, parameter, reading

_BYTES = {"type": "string", "format": "binary"}
_REFUSED = {
    400: "It is refused; the answer says why.",
    413: "The body is longer than 65,536 bytes.",
    429: "Too many posts from this address.",
}


# Some programs do not know the first name; neither is checked.
_BODY = {"required": True, "content": {kind: {"schema": _BYTES} for kind in (CBOR, "application/octet-stream")}}


def agreement_routes(directory: Directory) -> list[Route]:
    """The routes below `/api/v1/agreement/`; all are for programs, in CBOR. None for a directory that signs alone."""
    return (
        []
        if directory.agreement is None
        else AgreementApi(directory.agreement, directory.gate, directory.posts).routes()
    )


class AgreementApi:
    """The handlers for requests of other directories. `posts` counts notices by (path, accepted)."""

    def __init__(self, agreement: Agreement, gate: PostGate, posts: Counter[tuple[str, bool]]) -> None:
        self._agreement, self._gate, self._posts = agreement, gate, posts

    def notices(self, call: Call) -> Answer:
        """A notice of another directory. Raises `EncodingError` or `DirectoryError`."""
        try:
            self._gate.look_at_notice(call.source)
            if self._agreement.receive(call.body):
                self._gate.notice_was(True, call.source)
        except (EncodingError, DirectoryError) as error:
            self._posts["notices", False] += 1
            if isinstance(error, EncodingError):
                self._gate.notice_was(False, call.source)
            raise
        self._posts["notices", True] += 1
        return as_json({"ok": True}, 201)

    def part(self, call: Call) -> Answer:
        """A vote or a signed topology by its digest. Raises `EncodingError` or `DirectoryError`."""
        name = call.query.get("digest", "")
        if not re.fullmatch("[0-9a-f]{64}", name):
            raise EncodingError("digest: 64 hexadecimal digits are needed")
        return Answer(self._agreement.part(bytes.fromhex(name)), content_type=CBOR, tag=name)

    def statements(self, call: Call) -> Answer:
        """Posts of nodes by their digests. Raises `EncodingError`."""
        found = self._agreement.statements(read_asked(call.body))
        return Answer(statements_answer(found), content_type=CBOR)

    def routes(self) -> list[Route]:
        """The routes with their descriptions."""
        digest = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
        part = reading(
            "A vote of a directory, or a signed topology, by its digest",
            {},
            content={CBOR: _BYTES},
            query=[parameter("digest", digest, "BLAKE2b", required=True)],
            _304="You have it.",
            _400="There is no such thing here.",
        )
        ok = answers({"$ref": "#/components/schemas/Ok"}, 201, also=_REFUSED)
        found = answers(_BYTES, kind=CBOR, also=_REFUSED)
        return [
            Route("POST", NOTICES, self.notices, _posting("What another directory knows of the next topology", ok)),
            Route("GET", PART, self.part, part),
            Route("POST", STATEMENTS, self.statements, _posting("What nodes have said, by the digests of it", found)),
        ]


def _posting(summary: str, responses: Mapping[str, Any]) -> dict[str, Any]:
    return {"summary": summary, "requestBody": _BODY, "responses": responses}
