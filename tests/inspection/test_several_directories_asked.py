"""What the commands find where they ask several directories."""

import time

import pytest
from nacl.signing import SigningKey

from twisted.internet.defer import Deferred, fail, succeed

from nymtw.encoding import key_text
from nymtw.errors import DirectoryError, TopologySignatureError
from nymtw.inspection.ask import Directories, Options
from nymtw.inspection.check import Report, check_signatures
from nymtw.testing.clock import FakeClock
from nymtw.topology.document import Topology, Trust, sign_topology

KEYS = [SigningKey(bytes([number]) * 32) for number in (1, 2, 3)]
TEXTS = [key_text(bytes(key.verify_key)) for key in KEYS]
NETWORK = Trust(tuple(bytes(key.verify_key) for key in KEYS), 2).network


def signed(age: float, *keys: SigningKey) -> bytes:
    published = int((time.time() - age) * 1e9)
    topology = Topology(
        serial=published,
        network=NETWORK,
        published=published,
        valid_until=published + 10**12,
        refresh=2.0,
        epoch=0,
        epoch_seconds=60,
    )
    return sign_topology(topology, keys)


class Answering:
    def __init__(self, url: str, answer: bytes | Exception) -> None:
        self.url = url
        self._answer = answer

    def topology(self) -> "Deferred[bytes]":
        return fail(self._answer) if isinstance(self._answer, Exception) else succeed(self._answer)


def look(*answers: bytes | Exception) -> "Deferred[object]":
    options = Options()
    options.parseOptions([f"--directory-key={text}" for text in TEXTS])
    directories = Directories(FakeClock(), options)
    directories.all = [Answering(f"http://d{number}", answer) for number, answer in enumerate(answers, 1)]  # type: ignore[misc]
    return Deferred.fromCoroutine(directories.fetch())


def outcome(asked: "Deferred[object]") -> object:
    found: list[object] = []
    asked.addBoth(found.append)
    return found[0]


def test_who_signed_and_who_is_dead_or_behind_or_lies_is_reported() -> None:
    found = outcome(
        look(
            signed(1, *KEYS[:2]),
            DirectoryError("http://d2: no connection"),
            signed(30, *KEYS[:2]),
            signed(0, KEYS[2], SigningKey(bytes([9]) * 32)),
        )
    )
    lines: list[str] = []
    report = Report(lines.append)
    check_signatures(found, report)  # type: ignore[arg-type]
    assert lines[0].startswith("ok    the topology is signed by")
    assert "(2 of 3, 2 are needed)" in lines[0]
    assert TEXTS[2] in lines[1]
    assert "http://d2" in lines[2]
    assert "no connection" in lines[2]
    assert "1 valid signatures of the 2 needed" in " ".join(lines)
    assert "older than that of the others" in " ".join(lines)
    assert report.problems == len(lines) - 1 == 4


def test_where_all_agree_nothing_is_wrong() -> None:
    lines: list[str] = []
    report = Report(lines.append)
    check_signatures(outcome(look(*[signed(0.1, *KEYS)] * 3)), report)  # type: ignore[arg-type]
    assert (len(lines), report.problems) == (1, 0)


def test_what_is_wrong_with_the_first_is_told_where_none_can_be_believed() -> None:
    failure = outcome(look(signed(1, KEYS[0]), DirectoryError("away")))
    with pytest.raises(TopologySignatureError):
        failure.raiseException()  # type: ignore[attr-defined]
