"""What the ledger carries: transfers in one process and on four CometBFT nodes, queries with proof, deposits, memory.

`python benchmarks/ledger.py [--first] [--cometbft SECONDS] [--deposits N]`; without CometBFT (NYMTW_COMETBFT) that part
is left out, and this is said. CPU figures are those of the processes, which other programs of the machine do not change
much; rates are what came out, with other programs' share of the processor beside them.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from threading import Thread
from typing import Any

from mixnode_network import busy_seconds, cpu_seconds_of
from nacl.signing import SigningKey

from twisted.internet.task import Clock

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "ledger"))

from ledger_processes import (  # noqa: E402
    NO_COMETBFT,
    BlockingClient,
    Testnet,
    eventually,
    result_of,
)
from ledger_processes import Clock as WaitingClock  # noqa: E402
from ledger_world import CHAIN, WATCHERS, deposit, some_genesis  # noqa: E402

from nymtw.errors import LedgerError  # noqa: E402
from nymtw.ledger import clients  # noqa: E402
from nymtw.ledger.cometbft.files import VERSION, find_cometbft  # noqa: E402
from nymtw.ledger.embedded.driver import INTERVAL, EmbeddedDriver  # noqa: E402
from nymtw.ledger.machine.kinds.transfer import Transfer  # noqa: E402
from nymtw.ledger.machine.merkle import verify  # noqa: E402
from nymtw.ledger.machine.signatures import AccountKey, address_text  # noqa: E402
from nymtw.ledger.machine.transactions import encode_transaction  # noqa: E402
from nymtw.ledger.rpc.client import HTTPLedger  # noqa: E402
from nymtw.ledger.storage.replica import Replica  # noqa: E402
from nymtw.ledger.storage.store import LedgerStore  # noqa: E402

ACCOUNTS = 2_000
TRANSFERS = 10_000
QUERIES = 2_000
BAR_TRANSFERS = 1_500  # a second, embedded
BAR_QUERY = 2.0  # ms, with proof
BAR_DEPOSIT = 3.0  # seconds beyond the confirmations, median
BAR_SHARE = 0.40  # of the CPU of four nodes, our applications


def people(count: int) -> list[AccountKey]:
    return [AccountKey((number + 1).to_bytes(32)) for number in range(count)]


def funded(driver: EmbeddedDriver, clock: Clock, keys: list[AccountKey]) -> None:
    """Every account has what it needs, notarised by two watchers."""
    for watcher in WATCHERS[:2]:
        for number, key in enumerate(keys):
            fields = deposit(key.address, 10**18, number)
            driver.submit(encode_transaction(watcher, CHAIN, "notarise-deposit", number, fields))
            if number % 200 == 199:
                clock.advance(INTERVAL)
        clock.advance(INTERVAL)


def embedded() -> dict[str, Any]:
    """Transfers from submission to a durable block, in this process, as fast as they go."""
    keys = people(ACCOUNTS)
    with tempfile.TemporaryDirectory(prefix="nymtw-ledger-", dir=HERE) as folder:
        clock = Clock()
        store = LedgerStore(Path(folder) / "ledger.sqlite")
        replica = Replica(store, some_genesis())
        failures: list[Exception] = []
        driver = EmbeddedDriver(clock, replica, SigningKey(bytes(32)), wall_clock=time.time, broken=failures.append)
        driver.startService()
        funded(driver, clock, keys)
        rows = [
            encode_transaction(key, CHAIN, "transfer", nonce, Transfer(keys[(place + 7) % ACCOUNTS].address, 1))
            for nonce in range(TRANSFERS // ACCOUNTS)
            for place, key in enumerate(keys)
        ]
        height, busy, used, start = replica.height, busy_seconds(), time.process_time(), time.perf_counter()
        for number, data in enumerate(rows, 1):
            driver.submit(data)
            if number % (BAR_TRANSFERS // 2) == 0 or number == len(rows):
                clock.advance(INTERVAL)  # a block of half a second at the bar's rate
        took, used = time.perf_counter() - start, time.process_time() - used
        others = busy_seconds() - busy - used
        assert not failures
        done = [code for block in store.blocks(height, 10**6) for code, _ in block.outcomes]
        assert done == [0] * len(rows)
        replica.audit()
        queries = [query(replica, key) for key in keys[:QUERIES]]
        store.close()
    return {
        "accounts": ACCOUNTS,
        "transfers": len(rows),
        "a_second": round(len(rows) / took),
        "cpu_us": round(1e6 * used / len(rows)),
        "other_programs_cores": round(max(0.0, others) / took, 2),
        "query_ms": round(1e3 * median(queries), 3),
        "memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def query(replica: Replica, key: AccountKey) -> float:
    """Seconds for one query with its proof, and checks it outside of them."""
    start = time.perf_counter()
    answer = replica.query(f"account/{address_text(key.address)}", prove=True)
    took = time.perf_counter() - start
    assert answer.proof is not None
    verify(replica.root, answer.key, answer.value, answer.proof)
    return took


def cometbft(seconds: float) -> dict[str, Any]:
    """Transfers on four nodes of this machine; at each another process hands them in, for ten senders at once."""
    with tempfile.TemporaryDirectory(prefix="nymtw-ledger-", dir=HERE) as folder:
        net = Testnet(Path(folder), "cometbft", 4)
        net.start()
        try:
            return loaded(net, seconds)
        finally:
            net.stop()


def loaded(net: Testnet, seconds: float) -> dict[str, Any]:
    senders = people(40)
    for number, key in enumerate(senders):
        for watcher in WATCHERS[:2]:
            fields = deposit(key.address, 10**18, number)
            nonce = result_of(net.nodes[0].ledger.next_nonce(watcher.address))
            data = encode_transaction(watcher, CHAIN, "notarise-deposit", nonce, fields)
            result_of(net.nodes[0].ledger.submit(data))
    eventually(lambda: result_of(clients.totals(net.ledger)).notarised == len(senders) * 10**18)
    ours = [node.process.pid for node in net.nodes if node.process is not None]
    theirs = [node.cometbft for node in net.nodes]
    before = sum(len(block.transactions) for block in all_blocks(net))
    used = [sum(map(cpu_seconds_of, pids)) for pids in (ours, theirs)]
    start = time.perf_counter()
    load = [
        subprocess.Popen([sys.executable, __file__, "--load", node.client.url, str(place), str(seconds)])
        for place, node in enumerate(net.nodes)
    ]
    for each in load:
        assert each.wait() == 0
    eventually(lambda: all(result_of(node.ledger.status()).waiting == 0 for node in net.nodes))
    took = time.perf_counter() - start
    spent = [sum(map(cpu_seconds_of, pids)) - was for pids, was in zip((ours, theirs), used, strict=True)]
    count = sum(len(block.transactions) for block in all_blocks(net)) - before
    return {
        "version": VERSION,
        "transfers": count,
        "a_second": round(count / took),
        "application_share": round(spent[0] / sum(spent), 3),
        "application_cpu_us_a_node": round(1e6 * spent[0] / 4 / max(count, 1)),
        "cometbft_cpu_us_a_node": round(1e6 * spent[1] / 4 / max(count, 1)),
        "application_memory_mib": round(median(memory(pid) for pid in ours)),
        "cometbft_memory_mib": round(median(memory(pid) for pid in theirs)),
    }


def all_blocks(net: Testnet) -> list[Any]:
    found: list[Any] = []
    while more := result_of(net.nodes[0].ledger.blocks(found[-1].height if found else 0)):
        found += more
    return found


def send(url: str, place: int, seconds: float) -> None:
    """What one of the load's processes does: for each of a quarter of the senders, one transfer after the other."""
    keys = people(40)[10 * place : 10 * place + 10]
    end = time.monotonic() + seconds
    threads = [Thread(target=send_one, args=(url, key, keys[0], end)) for key in keys]
    for each in threads:
        each.start()
    for each in threads:
        each.join()


def send_one(url: str, key: AccountKey, recipient: AccountKey, end: float) -> None:
    ledger = HTTPLedger(WaitingClock(), [], [BlockingClient(url)])
    nonce = 0
    while time.monotonic() < end:
        data = encode_transaction(key, CHAIN, "transfer", nonce, Transfer(recipient.address, 1))
        try:
            result_of(ledger.submit(data))
            nonce += 1
        except LedgerError:
            time.sleep(0.05)  # as many as may wait do


def deposits(count: int) -> dict[str, Any]:
    """From a transfer on Ethereum to the balance on the ledger, with all roles as processes, and their memory."""
    program = [sys.executable, HERE / "ledger_deposits.py", "--deposits", str(count)]
    found: dict[str, Any] = json.loads(subprocess.run(program, stdout=subprocess.PIPE, check=True).stdout)
    return found


def memory(pid: int) -> float:
    """Resident, in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cometbft", type=float, default=20.0, help="seconds of load on four nodes; 0: none")
    parser.add_argument(
        "--first", action="store_true", help="other programs wait (as root); not those of CometBFT's part"
    )
    parser.add_argument("--deposits", type=int, default=20, help="transfers on Ethereum that are followed; 0: none")
    parser.add_argument("--load", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.load:
        send(arguments.load[0], int(arguments.load[1]), float(arguments.load[2]))
        return 0
    result: dict[str, Any] = {"python": platform.python_version(), "cores": len(os.sched_getaffinity(0))}
    if arguments.first:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    result["embedded"] = embedded()
    if arguments.first:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    if arguments.cometbft and not NO_COMETBFT:
        result["cometbft_program"] = os.path.basename(find_cometbft())
        result["cometbft"] = cometbft(arguments.cometbft)
    else:
        print("CometBFT is not installed, or not asked for: its part was not measured", file=sys.stderr)
    if arguments.deposits:
        result["deposits"] = deposits(arguments.deposits)
    rows = [
        ("transfers embedded, a second", result["embedded"]["a_second"], BAR_TRANSFERS, True),
        ("query with proof, median ms", result["embedded"]["query_ms"], BAR_QUERY, False),
    ]
    if "cometbft" in result:
        share = result["cometbft"]["application_share"]
        rows.append(("four CometBFT nodes: our applications' share of the CPU", share, BAR_SHARE, False))
    if "deposits" in result:
        name = "from a transfer on Ethereum to the balance, beyond the confirmations, median s"
        rows.append((name, result["deposits"]["median_s"], BAR_DEPOSIT, False))
    missed = False
    print(json.dumps(result, indent=2))
    for name, value, bar, least in rows:
        met = value >= bar if least else value <= bar
        missed |= not met
        print(f"{name}: {value} (at {'least' if least else 'most'} {bar}): {'met' if met else 'MISSED'}")
    (HERE / "ledger.json").write_text(json.dumps(result, indent=2) + "\n")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
