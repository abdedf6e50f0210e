"""Remembers logged causes of a lasting trouble, so that the log has each of them once."""

import re

_NUMBER = re.compile(r"\d+(\.\d+)?")
_MOST = 16


class LogOnce:
    """The causes of one trouble, from its beginning to its end. Two that differ in their numbers are one."""

    def __init__(self) -> None:
        self._log_once: set[str] = set()

    def __bool__(self) -> bool:
        """Whether there is a trouble now."""
        return bool(self._log_once)

    def is_new(self, cause: str) -> bool:
        """Whether `cause` is to be said: for the first time in this trouble, and not as the seventeenth cause of it."""
        shape = _NUMBER.sub("#", cause)
        if shape in self._log_once or len(self._log_once) >= _MOST:
            return False
        self._log_once.add(shape)
        return True

    def is_over(self) -> bool:
        """The trouble is over: whether there was one, that is, whether its end is to be said."""
        was = bool(self._log_once)
        self._log_once.clear()
        return was
