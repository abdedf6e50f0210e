"""Public tools for tests: a whole network in one process, on a fake clock, from one seed.

`clock.FakeClock`, `network.MemoryNetwork`, `security.MemorySecurity` and `impairment.Impairment` are the parts;
`simulation.SimulatedNetwork` is a directory, mixnodes, providers and clients made of them; `contracts` has suites for
the interfaces of `nymtw.interfaces`, `provider_contracts` for providers; `pytest_plugin` prints the seed of a test that
failed. What most tests begin with can be had from here.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # loaded by `__getattr__` below
    from nymtw.testing.clock import FakeClock
    from nymtw.testing.provider_contracts import ProviderContract, ServiceContract
    from nymtw.testing.service_bench import ServiceBench
    from nymtw.testing.simulation import SimulatedNetwork

__all__ = ["FakeClock", "ProviderContract", "ServiceBench", "ServiceContract", "SimulatedNetwork"]

_MODULES = {
    "FakeClock": "clock",
    "ProviderContract": "provider_contracts",
    "ServiceBench": "service_bench",
    "ServiceContract": "provider_contracts",
    "SimulatedNetwork": "simulation",
}


def __getattr__(name: str) -> Any:
    """Imported when it is asked for: the contracts need pytest, the network everything."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
