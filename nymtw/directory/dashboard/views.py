"""The dashboard's part of the API: the nodes, one node and its record, and the history of metrics."""

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from twisted.internet.defer import Deferred

from nymtw.directory.core import Directory, describe
from nymtw.directory.dashboard.history import NETWORK, Standing
from nymtw.directory.dashboard.recorder import Recorder
from nymtw.encoding import key_text, parse_key_text
from nymtw.errors import DirectoryError, EncodingError
from nymtw.web.http import Answer, Call, Route, Unavailable, as_json
from nymtw.web.openapi import KEY, parameter, reading

# The name of a window, and the seconds between two of its points.
WINDOWS = {"hour": 1, "day": 60, "year": 3600}


class DashboardApi:
    """The handlers for the dashboard. `wall_clock`: seconds since 1970."""

    def __init__(self, directory: Directory, recorder: Recorder, wall_clock: Callable[[], float]) -> None:
        self._directory = directory
        self._recorder = recorder
        self._started = f"{int(wall_clock() * 1e6):x}"

    def routes(self) -> list[Route]:
        """The routes below `/api/v1/` that are for people."""
        return [
            Route("GET", "/api/v1/nodes", self.nodes, _NODES),
            Route("GET", "/api/v1/node", self.node, _NODE),
            Route("GET", "/api/v1/history", self.history, _HISTORY),
        ]

    def nodes(self, call: Call) -> Answer:
        """All nodes, with a tag that changes whenever the answer does."""
        directory, publisher = self._directory, self._directory.publisher
        directory.registry.expire()
        directory.unsigned_presence.expire()
        revision, signers = directory.revision, publisher.signers()
        answer = as_json(
            {
                "revision": revision,
                "directory": {
                    "version": version("nymtw"),
                    "identityKeys": [key_text(key) for key in publisher.trust.directories],
                    "threshold": publisher.trust.threshold,
                    "refresh": publisher.refresh,
                    "signers": [key_text(key) for key in signers],
                },
                "nodes": directory.nodes(),
                "silent": directory.silent(),
                "validators": directory.validators(),
            }
        )
        signed = "".join("01"[key in signers] for key in publisher.trust.directories)
        return Answer(answer.body, tag=f"{self._started}-{revision}-{signed}")

    def node(self, call: Call) -> "Deferred[Answer]":
        """One node, present or known from the history. Raises `EncodingError`, `DirectoryError`, `Unavailable`."""
        return Deferred.fromCoroutine(self._node(_identity(call)))

    async def _node(self, identity: bytes) -> Answer:
        entry = self._directory.registry.find(identity)
        standings = await _available(self._recorder.standing(identity))
        if entry is None and not any(standing.watched for standing in standings):
            raise DirectoryError("no node with this identity is known")
        body: dict[str, Any] = {"node": None, "standing": [_standing(standing) for standing in standings]}
        if entry is not None:
            skew = (entry.timestamp - entry.last_seen) / 1e9
            body["node"] = {
                **describe(entry, self._directory.placed(entry)),
                "clockSkew": round(skew, 3),
                "lastSeen": entry.last_seen,
            }
        return as_json(body)

    def history(self, call: Call) -> "Deferred[Answer]":
        """The points of a window, of one node or the network. Raises `EncodingError`, `Unavailable`."""
        name = call.query.get("window", "hour")
        if name not in WINDOWS:
            raise EncodingError(f"window: it is one of {', '.join(WINDOWS)}")
        identity = _identity(call) if "identity" in call.query else NETWORK
        return Deferred.fromCoroutine(self._history(name, identity))

    async def _history(self, name: str, identity: bytes) -> Answer:
        points = await _available(self._recorder.series(identity, WINDOWS[name]))
        return as_json({"window": name, "seconds": WINDOWS[name], "points": points})


_NODES = reading("The nodes, for people. Not signed.", "Nodes", _304="Nothing has changed.")
_NODE = reading(
    "A node, and its record of the last hour, day and 30 days",
    "NodeDetail",
    query=[parameter("identity", KEY, "Its identity key", required=True)],
    _400="There is no such node.",
    _503="The history cannot be read.",
)
_HISTORY = reading(
    "Packets over time: [start in seconds since 1970, sent, received, seconds present]",
    "History",
    query=[
        parameter("window", {"enum": list(WINDOWS)}, "An hour of seconds, a day of minutes, a year of hours"),
        parameter("identity", KEY, "One node; without it, the whole network"),
    ],
    _400="A parameter is wrong.",
    _503="The history cannot be read.",
)


def _identity(call: Call) -> bytes:
    if "identity" not in call.query:
        raise EncodingError("identity: a node's identity key is needed")
    try:
        return parse_key_text(call.query["identity"])
    except EncodingError as error:
        raise EncodingError(f"identity: {error}") from None


async def _available(asked: Any) -> Any:
    try:
        return await asked
    except DirectoryError as error:
        raise Unavailable(str(error)) from None


def _standing(standing: Standing) -> dict[str, int]:
    return {
        "seconds": standing.seconds,
        "watched": standing.watched,
        "up": standing.up,
        "loopsSent": standing.loops_sent,
        "loopsReturned": standing.loops_returned,
    }
