"""The live feed: once a second, it makes the frames for all viewers and the entry for the history."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from nymtw.directory.core import MOST_PACKETS, VALIDATORS, Directory
from nymtw.directory.dashboard.history import Second, Sums
from nymtw.directory.dashboard.recorder import Recorder, network_sums
from nymtw.directory.dashboard.websocket import ViewerGroup
from nymtw.topology.presence import Metric

INTERVAL = 1.0  # seconds
MOST_LINES = 20_000  # metrics shown one by one in a second; the sums include all


class LiveFeed(Service):
    """Counts every metric, and sends new counts to two kinds of viewers each second.

    * `metrics`: viewers of `/ws`, who get a line with a JSON object for every metric.
    * `dashboards`: viewers of `/api/v1/live`, who get one JSON object with a row for every node, in the order of
      `/api/v1/nodes` at that `revision`, and one for every validator there: age, height, time of the last block.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        wall_clock: Callable[[], float],
        directory: Directory,
        recorder: Recorder,
        each_second: Sequence[Callable[[], None]] = (),
    ) -> None:
        """`each_second`: further functions to call each second."""
        self._each_second = each_second
        self.clock = clock
        self._wall_clock = wall_clock
        self._directory = directory
        self._recorder = recorder
        self._lines: list[str] = []
        self._sums: dict[bytes, Sums] = {}
        self._call: Any = None
        self._due = 0.0
        self.metrics = ViewerGroup(clock.seconds)
        self.dashboards = ViewerGroup(clock.seconds)
        directory.metric_accepted = self.count
        directory.line_accepted = self.show_line

    def startService(self) -> None:
        """Begin with the next second."""
        super().startService()
        self._due = self.clock.seconds() + INTERVAL
        self._call = self.clock.callLater(INTERVAL, self._tick)

    def stopService(self) -> None:
        """Disconnect all viewers."""
        super().stopService()
        if self._call is not None:
            self._call.cancel()
            self._call = None
        self.metrics.close()
        self.dashboards.close()

    def count(self, metric: Metric) -> None:
        """Count an accepted metric."""
        if self.metrics.viewers and len(self._lines) < MOST_LINES:
            self._lines.append(metric_line(metric.public_key, metric.sent, metric.received, self._now()))
        before = self._sums.get(metric.identity, Sums())
        # A lying node can only spoil its own numbers: sums stay far below 2**63.
        if before.sent + before.received < MOST_PACKETS:
            self._sums[metric.identity] = before + Sums(
                metric.sent, metric.received, 0, metric.loops_sent, metric.loops_returned
            )

    def show_line(self, public_key: str, sent: int, received: int, timestamp: int) -> None:
        """Show an unsigned metric. The sums do not include it."""
        if self.metrics.viewers and len(self._lines) < MOST_LINES:
            self._lines.append(metric_line(public_key, sent, received, timestamp))

    def _tick(self) -> None:
        # Seconds do not drift. Seconds that a busy process missed are skipped.
        now = self.clock.seconds()
        self._due = max(self._due + INTERVAL, now)
        self._call = self.clock.callLater(self._due - now, self._tick)
        lines, self._lines = self._lines, []
        sums, self._sums = self._sums, {}
        entries = self._directory.registry.present()
        try:
            self.metrics.show("\n".join(lines))
            if self.dashboards.viewers:
                self.dashboards.show(self._frame(sums))
            else:
                self.dashboards.show("")
            there = {e.record.identity: sums.get(e.record.identity, Sums()) + Sums(up=1) for e in entries}
            self._recorder.record(Second(int(self._wall_clock()), network_sums({**sums, **there})))
            for each in self._each_second:
                each()
        except Exception:
            self._log.failure("a second of the live stream failed")

    def _frame(self, sums: Mapping[bytes, Sums]) -> str:
        now = self.clock.seconds()
        rows = []
        for entry in self._directory.registry.present():
            counted = sums.get(entry.record.identity)
            age = round(now - entry.seen, 1)
            rows.append([age, counted.sent, counted.received] if counted else [age])
        frame = {
            "revision": self._directory.revision,
            "time": int(self._wall_clock() * 1000),
            "rows": rows,
            "validators": [
                [round(now - shown.seen, 1), shown.post.get("height"), shown.post.get("blockTime") or 0]
                for shown in self._directory.unsigned_presence.posts(VALIDATORS)
            ],
        }
        return json.dumps(frame, separators=(",", ":"))

    def _now(self) -> int:
        return int(self._wall_clock() * 1e9)


def metric_line(public_key: str, sent: int, received: int, timestamp: int) -> str:
    """One line of `/ws`; times are nanoseconds since 1970."""
    return json.dumps({"pubKey": public_key, "sent": sent, "received": received, "timestamp": timestamp})
