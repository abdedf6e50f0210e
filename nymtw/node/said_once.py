"""Remembers what has been said about a trouble that goes on, so that the log has each cause once."""

import re

_NUMBER = re.compile(r"\d+(\.\d+)?")
_MOST = 16


class SaidOnce:
    """The causes of one trouble, from its beginning to its end. Two that differ in their numbers are one."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def __bool__(self) -> bool:
        """Whether there is a trouble now."""
        return bool(self._said)

    def is_new(self, cause: str) -> bool:
        """Whether `cause` is to be said: for the first time in this trouble, and not as the seventeenth cause of it."""
        shape = _NUMBER.sub("#", cause)
        if shape in self._said or len(self._said) >= _MOST:
            return False
        self._said.add(shape)
        return True

    def is_over(self) -> bool:
        """The trouble is over: whether there was one, that is, whether its end is to be said."""
        was = bool(self._said)
        self._said.clear()
        return was
