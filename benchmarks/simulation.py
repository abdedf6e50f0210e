"""An hour of network time: 20 clients whose streams each send a packet in ten seconds, in one process on one core.

    python benchmarks/simulation.py [--hours 1] [--clients 20] [--seed 1] [--profile]

Prints the seconds of processor time it took and the transcript's digest, which a seed always repeats. Exits with
status 1 where an hour took a minute or more, or a message did not arrive.
"""

import argparse
import cProfile
import pstats
import sys
import time

from nymtw.directory.config import RecommendedSection
from nymtw.testing.simulation import SimulatedNetwork

RATE = 0.1  # packets a second
BAR = 60.0  # seconds of processor time for an hour


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--profile", action="store_true", help="show where the time goes")
    options = parser.parse_args()
    rates = RecommendedSection(
        loop_cover_traffic_rate=RATE,
        message_sending_rate=RATE,
        drop_cover_traffic_rate=RATE,
        fetch_message_rate=RATE,
    )
    names = [f"client-{number}" for number in range(1, options.clients + 1)]
    profile = cProfile.Profile()
    started = time.process_time()
    with SimulatedNetwork(options.seed, clients=names, recommended=rates) as network:
        if options.profile:
            profile.enable()
        for sender, recipient in zip(names, names[1:] + names[:1], strict=True):
            network.send(sender, recipient, f"from {sender}".encode())
        network.run(options.hours * 3600)
        profile.disable()
        received = sum(len(client.received) for client in network.clients.values())
        packets = sum(counters.received for counters in network.counters().values())
        digest = network.transcript.digest()
    seconds = time.process_time() - started
    print(f"{options.hours:g} h of {options.clients} clients took {seconds:.1f} s of processor time")
    print(f"{packets} packets at all nodes, {received} of {len(names)} messages delivered, transcript {digest}")
    if options.profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(30)
    return 0 if seconds < BAR * options.hours and received == len(names) else 1


if __name__ == "__main__":
    sys.exit(main())
