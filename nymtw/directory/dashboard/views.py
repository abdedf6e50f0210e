"""What the dashboard asks for: the nodes, one node with how it has done, and the history of metrics."""

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

# What a window is called, and how many seconds one point of it has.
WINDOWS = {"hour": 1, "day": 60, "year": 3600}


def view_routes(directory: Directory, recorder: Recorder, wall_clock: Callable[[], float]) -> list[Route]:
    """The routes below `/api/v1/` that are for people."""
    started = f"{int(wall_clock() * 1e6):x}"

    def nodes(call: Call) -> Answer:
        directory.registry.expire()
        directory.unsigned_presence.expire()
        revision = directory.revision
        publisher = directory.publisher
        signers = publisher.signers()
        listed = as_json(
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
        return Answer(listed.body, tag=f"{started}-{revision}-{signed}")

    def node(call: Call) -> "Deferred[Answer]":
        identity = _identity(call)
        entry = directory.registry.find(identity)

        async def describe_it() -> Answer:
            standings = await _available(recorder.standing(identity))
            if entry is None and not any(standing.watched for standing in standings):
                raise DirectoryError("no node with this identity is known")
            body: dict[str, Any] = {
                "node": None,
                "standing": [_standing(standing) for standing in standings],
            }
            if entry is not None:
                skew = (entry.timestamp - entry.last_seen) / 1e9
                body["node"] = {
                    **describe(entry, directory.placed(entry)),
                    "clockSkew": round(skew, 3),
                    "lastSeen": entry.last_seen,
                }
            return as_json(body)

        return Deferred.fromCoroutine(describe_it())

    def history(call: Call) -> "Deferred[Answer]":
        name = call.query.get("window", "hour")
        if name not in WINDOWS:
            raise EncodingError(f"window: it is one of {', '.join(WINDOWS)}")
        identity = _identity(call) if "identity" in call.query else NETWORK

        async def read() -> Answer:
            points = await _available(recorder.series(identity, WINDOWS[name]))
            return as_json({"window": name, "seconds": WINDOWS[name], "points": points})

        return Deferred.fromCoroutine(read())

    return [
        Route(
            "GET",
            "/api/v1/nodes",
            nodes,
            reading("Who is there, for people. Not signed.", "Nodes", _304="Nothing has changed."),
        ),
        Route(
            "GET",
            "/api/v1/node",
            node,
            reading(
                "A node, and how it has done in the last hour, day and 30 days",
                "NodeDetail",
                query=[parameter("identity", KEY, "Its identity key", required=True)],
                _400="There is no such node.",
                _503="The history cannot be read.",
            ),
        ),
        Route(
            "GET",
            "/api/v1/history",
            history,
            reading(
                "Packets over time: [start in seconds since 1970, sent, received, seconds there]",
                "History",
                query=[
                    parameter(
                        "window", {"enum": list(WINDOWS)}, "An hour of seconds, a day of minutes, a year of hours"
                    ),
                    parameter("identity", KEY, "One node; without it, the whole network"),
                ],
                _400="A parameter is wrong.",
                _503="The history cannot be read.",
            ),
        ),
    ]


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
