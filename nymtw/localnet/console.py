"""Output for the user: lines on standard output, and on a terminal a line that changes while they wait."""

import sys
from typing import Any, TextIO

from tqdm import tqdm

_CLEAR = "\r\x1b[K"


class Console:
    """Writes to `file`. A terminal that was closed is no reason to stop."""

    def __init__(self, file: TextIO | None = None) -> None:
        self._file = sys.stdout if file is None else file
        self.is_terminal = self._file.isatty()
        self._shown = ""
        self.bar: Any = None

    def write_line(self, text: str = "") -> None:
        """One or more lines that stay."""
        cleared, self._shown = _CLEAR if self._shown else "", ""
        if self.bar is not None:
            self.bar.clear()
        self._write(f"{cleared}{text}\n")
        if self.bar is not None:
            self.bar.refresh()

    def show(self, text: str) -> None:
        """The line that changes; nothing where the output is no terminal."""
        if self.is_terminal and text != self._shown:
            self._write(f"{_CLEAR}{text}")
            self._shown = text

    def progress(self, done: int, total: int) -> None:
        """A bar of fragments acknowledged, with rate and time left, on a terminal only; gone when `done` is `total`."""
        if not self.is_terminal:
            return
        try:
            if self.bar is None:
                self.bar = _Bar(total=total, unit=" fragments", file=self._file, leave=False, dynamic_ncols=True)
            self.bar.update(done - self.bar.n)
        except OSError:
            return
        if done == total:
            self.end_progress()

    def end_progress(self) -> None:
        """Take the bar away."""
        bar, self.bar = self.bar, None
        if bar is not None:
            try:
                bar.close()
            except OSError:
                pass

    def _write(self, text: str) -> None:
        try:
            self._file.write(text)
            self._file.flush()
        except (OSError, ValueError):
            pass


class _Bar(tqdm):
    # No thread to keep it moving: updates come often enough.
    monitor_interval = 0
