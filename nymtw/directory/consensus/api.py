"""What directories that sign together ask of each other, over the same API. One directory alone has none of it."""

import re

from nymtw.directory.consensus.agreement import Agreement
from nymtw.directory.consensus.peers import CBOR, NOTICES, PART, STATEMENTS
from nymtw.directory.consensus.votes import read_asked, statements_answer
from nymtw.directory.core import Directory
from nymtw.errors import DirectoryError, EncodingError
from nymtw.web.http import Answer, Call, Route, as_json
from nymtw.web.openapi import answers, parameter, reading

_BYTES = {"type": "string", "format": "binary"}
_REFUSED = {400: "It is refused; the answer says why.", 413: "The body is longer than 65,536 bytes."}


def agreement_routes(directory: Directory) -> list[Route]:
    """The routes below `/api/v1/agreement/`; all are for programs, in CBOR."""
    if directory.agreement is None:
        return []
    agreement: Agreement = directory.agreement

    def notices(call: Call) -> Answer:
        try:
            agreement.receive(call.body)
        except (EncodingError, DirectoryError):
            directory.posts["notices", False] += 1
            raise
        directory.posts["notices", True] += 1
        return as_json({"ok": True}, 201)

    def part(call: Call) -> Answer:
        name = call.query.get("digest", "")
        if not re.fullmatch("[0-9a-f]{64}", name):
            raise EncodingError("digest: 64 hexadecimal digits are needed")
        return Answer(agreement.part(bytes.fromhex(name)), content_type=CBOR, tag=name)

    def statements(call: Call) -> Answer:
        return Answer(statements_answer(agreement.statements(read_asked(call.body))), content_type=CBOR)

    # What a body is called is not looked at; not every program knows the first name.
    body = {"required": True, "content": {kind: {"schema": _BYTES} for kind in (CBOR, "application/octet-stream")}}
    return [
        Route(
            "POST",
            NOTICES,
            notices,
            {
                "summary": "What another directory knows of the next topology",
                "requestBody": body,
                "responses": answers({"$ref": "#/components/schemas/Ok"}, 201, also=_REFUSED),
            },
        ),
        Route(
            "GET",
            PART,
            part,
            reading(
                "A vote of a directory, or a signed topology, by its digest",
                {},
                content={CBOR: _BYTES},
                query=[parameter("digest", {"type": "string", "pattern": "^[0-9a-f]{64}$"}, "BLAKE2b", required=True)],
                _304="You have it.",
                _400="There is no such thing here.",
            ),
        ),
        Route(
            "POST",
            STATEMENTS,
            statements,
            {
                "summary": "What nodes have said, by the digests of it",
                "requestBody": body,
                "responses": answers(_BYTES, kind=CBOR, also=_REFUSED),
            },
        ),
    ]
