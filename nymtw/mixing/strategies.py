"""Strategies by name: the bundled ones, and anybody's as "package.module:factory"."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Final

from nymtw.errors import PluginError
from nymtw.interfaces import IDelayStrategy, IMixing, IRouteStrategy
from nymtw.mixing.at_once import AtOnce
from nymtw.mixing.delay_distributions import ExponentialDelays
from nymtw.mixing.delay_queue import DelayQueue
from nymtw.mixing.routes import UniformRoutes
from nymtw.topology.document import Recommended

DelayFactory = Callable[[float], IDelayStrategy]
"""Makes an `IDelayStrategy` for a mean delay in seconds, which the network recommends and may change."""

DELAYS: Final[Mapping[str, Callable[..., Any]]] = {"exponential": ExponentialDelays}
MIXINGS: Final[Mapping[str, Callable[..., Any]]] = {"delays": DelayQueue, "at-once": AtOnce}
ROUTES: Final[Mapping[str, Callable[..., Any]]] = {"uniform": UniformRoutes}


def find_factory(name: str, bundled: Mapping[str, Callable[..., Any]], what: str) -> Callable[..., Any]:
    """The factory called `name`: one of `bundled`, or what "package.module:factory" names.

    `what` is the kind of strategy, for errors. Importing runs that module's code. Raises `PluginError`.
    """
    if name in bundled:
        return bundled[name]
    module, colon, attribute = name.partition(":")
    if not colon:
        known = ", ".join(sorted(bundled))
        raise PluginError(f"no {what} strategy is called {name!r:.80}; there are: {known}, or package.module:factory")
    try:
        factory = getattr(import_module(module), attribute)
    except Exception as error:
        raise PluginError(
            f"the {what} strategy {name!r:.80} cannot be loaded: {type(error).__name__}: {error}"
        ) from None
    if not callable(factory):
        raise PluginError(f"the {what} strategy {name!r:.80} is not a factory")
    return factory


def delay_factory(name: str) -> DelayFactory:
    """What makes the delay strategy `name` for a mean delay. Raises `PluginError` where it makes none."""
    factory = find_factory(name, DELAYS, "delay")

    def make(mean_seconds: float) -> IDelayStrategy:
        return _made(factory, IDelayStrategy, f"delay strategy {name!r:.80}", mean_seconds)

    make(Recommended().average_packet_delay)
    return make


def route_strategy(name: str) -> IRouteStrategy:
    """The route strategy `name`; its factory takes no argument. Raises `PluginError`."""
    return _made(find_factory(name, ROUTES, "route"), IRouteStrategy, f"route strategy {name!r:.80}")


def _made(factory: Callable[..., Any], interface: Any, what: str, *arguments: Any) -> Any:
    try:
        strategy = factory(*arguments)
    except Exception as error:
        raise PluginError(f"the {what} cannot be made: {type(error).__name__}: {error}") from None
    if not interface.providedBy(strategy):
        raise PluginError(f"the {what} does not provide {interface.__name__}")
    return strategy


def mixing_factory(name: str) -> Callable[..., IMixing]:
    """What makes the `IMixing` called `name`. Raises `PluginError`."""
    return find_factory(name, MIXINGS, "mixing")
