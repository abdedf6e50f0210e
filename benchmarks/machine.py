"""What Linux says of processes and the processor: time, memory, children, ports, the name."""

import contextlib
import os
import platform
import socket
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")
_LISTENING = "0A"  # a state in /proc/net/tcp


def processor() -> str:
    """The processor's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def cpu_seconds(process: int) -> float:
    """Processor time of all threads of `process` until now, to the nanosecond where the kernel counts so; 0 if gone."""
    try:
        threads = list(Path(f"/proc/{process}/task").iterdir())
        return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9
    except OSError:
        pass
    try:
        fields = _stat(process)
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICK


def memory(process: int) -> tuple[float, float]:
    """Resident MB of `process`, and its share of them in proportion to how many processes have each page."""
    found = {}
    for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, rest = line.partition(":")
        found[name] = int(rest.split()[0]) / 1024
    return found["Rss"], found["Pss"]


def children(root: int) -> list[int]:
    """`root` and every process that descends from it."""
    below: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            below.setdefault(int(_stat(int(folder.name))[1]), []).append(int(folder.name))
        except OSError:
            continue
    found = [root]
    for process in found:
        found += below.get(process, [])
    return found


def go_first() -> None:
    """As root: this process and its children before all other programs, which wait. Linux shares a core out between
    sessions first, and within each by niceness."""
    os.setpriority(os.PRIO_PROCESS, 0, -15)
    with contextlib.suppress(OSError):  # a kernel that does not group by session
        Path("/proc/self/autogroup").write_text("-15")


def is_listening(port: int) -> bool:
    """Whether somebody listens at this TCP port of an IPv4 address."""
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return any(row[3] == _LISTENING and int(row[1].rpartition(":")[2], 16) == port for row in rows)


def free_port() -> int:
    """A TCP port of the loopback that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _stat(process: int) -> list[str]:
    """The fields of /proc/PID/stat behind the name."""
    text = Path(f"/proc/{process}/stat").read_text()
    return text[text.rindex(")") + 2 :].split()
