"""The log of a directory about the others that sign with it: each cause once, and its end."""

from collections.abc import Mapping

from twisted.logger import Logger

from nymtw.directory.consensus.votes import Vote
from nymtw.encoding import key_text
from nymtw.node.process.log_once import LogOnce

_MOST_NAMED = 5  # settings


class PeerLog:
    """`names`: how the log calls the other directories, by their identities."""

    log = Logger()

    def __init__(self, names: Mapping[bytes, str]) -> None:
        self._names = names
        self._lying = {key: LogOnce() for key in names}
        self._differing = {key: LogOnce() for key in names}
        self._failing = LogOnce()

    def of(self, key: bytes, text: str) -> None:
        """Something is wrong with one of them."""
        if key in self._names:
            self._log_change(self._lying, key, text)

    def failing(self, text: str) -> None:
        """There is no new topology."""
        if self._failing.is_new(text):
            self.log.warn("No new topology is signed, the last one stays valid: {text}", text=text)

    def well(self) -> None:
        """There is one."""
        if self._failing.is_over():
            self.log.info("New topologies are signed again")

    def compare(self, votes: Mapping[bytes, Vote], settings: Mapping[str, str], admission: bytes) -> None:
        """Name the settings in which a vote differs from those here, and whether others are let in there."""
        for key, logged in self._differing.items():
            vote = votes.get(key)
            if vote is None:
                continue
            different = [
                f"{name} is {vote.settings.get(name, 'not there')!r:.60} there and "
                f"{settings.get(name, 'not there')!r} here"
                for name in sorted(vote.settings.keys() | settings.keys())
                if vote.settings.get(name) != settings.get(name)
            ]
            if different:
                self._log_change(self._differing, key, f"its settings differ: {'; '.join(different[:_MOST_NAMED])}")
            if vote.admission != admission:
                self._log_change(
                    self._differing,
                    key,
                    "it admits other nodes: the topology has those that enough directories admit",
                )
            if not different and vote.admission == admission and logged.is_over():
                self.log.info("The directory {name} agrees with the others again", name=self._names[key])

    def _log_change(self, logged: Mapping[bytes, LogOnce], key: bytes, text: str) -> None:
        if logged[key].is_new(text):
            name = f"{self._names[key]} ({key_text(key)})"
            self.log.warn("The directory {name}: {text}", name=name, text=text)
