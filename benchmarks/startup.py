"""What a role costs before its first packet, and a localnet that nobody uses.

    python benchmarks/startup.py [--runs 5] [--seconds 30] [--first] [--before FOLDER] [--json FILE]

Each role is started anew with `twistd`, in a network of which the others run already; printed is the median of the
processor time that it took from its start until its port listens. Then a localnet runs at its default rates: printed is
the processor time that all its processes took until it was complete, and, for a while in which nobody sends, what they
take a second and the memory that is theirs: resident (a page counts for each process that has it), and in proportion
(a page of three processes counts as a third for each). `--before`: another checkout, which is measured in turn with
this one.
"""

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from machine import children, cpu_seconds, free_port, go_first, is_listening, memory

HERE = Path(__file__).resolve().parent.parent
TWISTD = "from twisted.scripts.twistd import run; run()"
LOCALNET = "import sys; from nymtw.commands import main; sys.exit(main())"
LIMIT = 120.0
BARS = {"start": 0.5, "idle": 0.7, "memory": 0.7}


def environment(source: Path, home: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(source), "NYMTW_HOME": str(home)}


@contextlib.contextmanager
def started(source: Path, home: Path, port: int, *command: str) -> Iterator[float]:
    """A role that runs; gives the processor seconds that it took until it listened at `port`."""
    arguments = [sys.executable, "-P", "-c", TWISTD, "--nodaemon", "--pidfile=", "--logfile=-", *command]
    with open(home / "log", "ab") as log:
        process = subprocess.Popen(
            [*arguments, f"--port={port}"], env=environment(source, home), cwd=home, stdout=log, stderr=log
        )
    try:
        end = time.monotonic() + LIMIT
        while not is_listening(port):
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"{command[0]} did not start:\n{(home / 'log').read_text()[-2000:]}")
            time.sleep(0.002)
        yield cpu_seconds(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def roles(source: Path) -> dict[str, float]:
    """Processor seconds of each role, once."""
    took = {}
    with tempfile.TemporaryDirectory(prefix="nymtw-startup-") as folder, contextlib.ExitStack() as stack:
        home = Path(folder)
        directory = free_port()
        took["nym-directory"] = stack.enter_context(started(source, home, directory, "nym-directory", "--id=directory"))
        key = home / "directories/directory/config/identity_public_key.pem"
        common = [f"--directory=http://127.0.0.1:{directory}", f"--directory-key={key}"]
        node = [*common, "--host=127.0.0.1", "--rate=100"]
        door = ["--client-port=0", *node]
        for name, command in {
            "nym-mixnode": ["--layer=1", *node],
            "nym-provider": door,
            "nym-gateway": door,
            "nym-node": ["--mode=mixnode", *node],
            "nym-client": ["--socket=tcp", *common],
        }.items():
            arguments = [name, f"--id={name}", *command]
            took[name] = stack.enter_context(started(source, home, free_port(), *arguments))
    return took


def localnet(source: Path, seconds: float) -> dict[str, float]:
    """Figures of a whole localnet."""
    with tempfile.TemporaryDirectory(prefix="nymtw-startup-") as folder:
        home, log = Path(folder), Path(folder) / "log"
        with open(log, "wb") as output:
            command = [sys.executable, "-P", "-c", LOCALNET, "localnet"]
            process = subprocess.Popen(
                command, env={**environment(source, home), "TMPDIR": folder}, stdout=output, cwd=home
            )
        try:
            end = time.monotonic() + LIMIT
            complete = 0.0
            while "Running until Ctrl-C" not in log.read_text():
                if process.poll() is not None or time.monotonic() > end:
                    raise SystemExit(f"the localnet is not complete:\n{log.read_text()[-2000:]}")
                if not complete and "is complete" in log.read_text():
                    complete = sum(map(cpu_seconds, children(process.pid)))
                time.sleep(0.05)
            time.sleep(10)  # what a start leaves to do
            everybody = children(process.pid)
            before, began = sum(map(cpu_seconds, everybody)), time.monotonic()
            time.sleep(seconds)
            idle = (sum(map(cpu_seconds, everybody)) - before) / (time.monotonic() - began)
            resident, proportional = (sum(each) for each in zip(*map(memory, everybody), strict=True))
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)
    return {
        "localnet, CPU s until complete": complete,
        "localnet idle, cores": idle,
        "localnet, resident MB": resident,
        "localnet, proportional MB": proportional,
        "localnet, processes": len(everybody),
    }


def measure(source: Path, runs: int, seconds: float) -> dict[str, list[float]]:
    """All figures of the checkout in `source`."""
    found: dict[str, list[float]] = {}
    roles(source)  # compiles what has not been, and fills the page cache
    for _ in range(runs):
        for name, took in roles(source).items():
            found.setdefault(name, []).append(took)
    for name, value in localnet(source, seconds).items():
        found[name] = [value]
    return found


def bar(name: str) -> float | None:
    """The most that may be left of what it was before; None where there is no bar."""
    if name.startswith("nym-"):
        return BARS["start"]
    if "idle" in name:
        return BARS["idle"]
    return BARS["memory"] if "MB" in name else None


def show(after: dict[str, list[float]], before: dict[str, list[float]] | None) -> bool:
    """Print a table; whether every bar is met."""
    met = True
    print(f"{'':36} {'before':>8} {'after':>8} {'ratio':>6}  bar")
    for name, values in after.items():
        value = statistics.median(values)
        if before is None:
            print(f"{name:36} {'':8} {value:8.3f}")
            continue
        old, limit = statistics.median(before[name]), bar(name)
        ratio = value / old
        verdict = "" if limit is None else f"at most {limit:.2f}: {'met' if ratio <= limit else 'NOT MET'}"
        met = met and (limit is None or ratio <= limit)
        print(f"{name:36} {old:8.3f} {value:8.3f} {ratio:6.2f}  {verdict}")
    return met


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--first", action="store_true", help="as root: other programs wait while this runs")
    parser.add_argument("--json", type=Path)
    options: Any = parser.parse_args(argv)
    if options.first:
        go_first()
    before = measure(options.before.resolve(), options.runs, options.seconds) if options.before else None
    after = measure(HERE, options.runs, options.seconds)
    met = show(after, before)
    if options.json:
        machine = {"python": sys.version.split()[0], "cores": os.cpu_count()}
        options.json.write_text(json.dumps({"machine": machine, "before": before, "after": after}, indent=1) + "\n")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
