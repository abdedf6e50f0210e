"""The speed of a machine, and rates at which a network on it leaves most of it to other programs."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final, Self

from nymtw.node.engine.capacity import UnwrapTrial

# An idle network takes this share of the machine at most, and this one of what other programs leave.
IDLE_SHARE: Final = 1 / 3
SHARE_OF_REST: Final = 2 / 3
# Packets a second of each client: faster is of no use for trying things, slower is no fun.
MOST: Final = 40
LEAST: Final = 5
# What a network costs, in unwraps, a unit that a slow machine has fewer of: a client's packet on its whole way and
# back, with pulls, pushed mail and acks; and a second of a process that waits. From `benchmarks/startup.py`.
PACKET_COST: Final = 45.0
PROCESS_COST: Final = 28.0
_TRIAL: Final = 0.4  # seconds: other programs get their turn several times


@dataclass(frozen=True, slots=True)
class Machine:
    """`unwraps`: packets a second that one core unwraps; `share`: of its cores, what other programs leave."""

    unwraps: float
    cores: int
    share: float

    @property
    def power(self) -> float:
        """Unwraps a second on all cores."""
        return self.unwraps * self.cores


@dataclass(frozen=True, slots=True)
class Rates:
    """Packets or events a second. `clients`: how many send all the time, `processes`: how many there are."""

    sending: float
    clients: int
    processes: int

    @classmethod
    def for_machine(cls, machine: Machine, clients: int, processes: int) -> Self:
        """Rates at which an idle network takes a third of `machine` at most, and leaves room for other programs."""
        left = machine.power * min(IDLE_SHARE, machine.share * SHARE_OF_REST) - processes * PROCESS_COST
        return cls(min(MOST, max(LEAST, left // (clients * PACKET_COST))), clients, processes)

    def idle(self, machine: Machine) -> float:
        """The share of `machine` that an idle network takes, 0 to 1."""
        return (self.clients * self.sending * PACKET_COST + self.processes * PROCESS_COST) / machine.power

    @property
    def loops(self) -> float:
        """Loops of a client beside those that its stream sends anyway."""
        return self.sending / 20

    @property
    def fetching(self) -> float:
        """A client gets its own loops, their acks, and what others send: three times its own rate; 16 in a pull."""
        return max(5.0, 0.3 * self.sending)

    @property
    def downlink(self) -> float:
        """Slots from a gateway: the same, with room for a gateway that comes too late for some of its frames."""
        return 5 * self.sending

    @property
    def client(self) -> float:
        """The rate that a provider or gateway allows a client, with room for clients that are tried at other rates."""
        return max(400.0, 4 * self.sending)

    @property
    def node(self) -> int:
        """The rate that a node is sized for: these clients, a service that answers one of them, and room."""
        return int(max(50, 5 * self.sending))

    @property
    def service(self) -> int:
        """The rate of a service while it answers."""
        return int(max(15, 3 * self.sending))

    @property
    def mix_loops(self) -> float:
        """Loops of each mixnode."""
        return min(1.0, self.sending / MOST)


USUAL: Final = Rates(MOST, 2, 13)


def measure(random: Random, wall: Callable[[], float] = time.monotonic) -> Machine:
    """This machine as it is now, others' work included. Takes half a second."""
    trial = UnwrapTrial(random)
    began, used = wall(), time.thread_time()
    best = trial.unwraps_per_second()
    while wall() - began < _TRIAL:
        best = max(best, trial.unwraps_per_second())
    share = min(1.0, (time.thread_time() - used) / (wall() - began))
    return Machine(best, usable_cores(), share)


def usable_cores() -> int:
    """On how many cores this process may run."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1


def explained(machine: Machine, rates: Rates, chosen: bool) -> str:
    """A sentence for the user: what was measured, and what follows. `chosen`: the user chose the rate."""
    cores = "its core" if machine.cores == 1 else f"each of {machine.cores} cores"
    left = "" if machine.share > 0.9 else f", of which other programs leave {machine.share:.0%}"
    idle = rates.idle(machine)
    why = "as you said" if chosen else "--rate N for another rate"
    text = (
        f"This machine unwraps {machine.unwraps:.0f} packets a second on {cores}{left}: clients send "
        f"{rates.sending:g} packets a second ({why}), and an idle network takes about {idle:.0%} of the machine"
    )
    return f"{text}, which is more than it should" if idle > min(IDLE_SHARE, machine.share) else text
