"""What fills a slot of the sending stream when nothing waits: an `ICoverStrategy`, by name."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from zope.interface import implementer

from nymtw.errors import PluginError
from nymtw.interfaces import ICoverStrategy
from nymtw.mixing.strategies import find_factory


@implementer(ICoverStrategy)
class LoopCover:
    """A loop: a packet to oneself."""

    def fill(self, sender: Any) -> None:
        """Send a loop."""
        sender.send_loop()


@implementer(ICoverStrategy)
class DropCover:
    """A packet that a random edge discards (Loopix, section 4.1.1)."""

    def fill(self, sender: Any) -> None:
        """Send drop cover."""
        sender.send_drop()


@implementer(ICoverStrategy)
class NoCover:
    """Nothing: an observer of the line sees when its client sends."""

    def fill(self, sender: Any) -> None:
        """Leave the slot empty."""


COVERS: Final[Mapping[str, Callable[..., Any]]] = {"loops": LoopCover, "drops": DropCover, "none": NoCover}


def cover_strategy(name: str) -> ICoverStrategy:
    """The cover strategy `name`, a bundled one or "package.module:factory". Raises `PluginError`."""
    strategy = find_factory(name, COVERS, "cover")()
    if not ICoverStrategy.providedBy(strategy):
        raise PluginError(f"the cover strategy {name!r:.80} does not provide ICoverStrategy")
    return strategy
