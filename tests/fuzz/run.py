"""Coverage-guided fuzzing with atheris: all targets at once, side by side.

FUZZ_SECONDS is for how long each (default 5; `tox -e full`: 600). The corpus beside this file is read and not written;
an input that breaks a target is left in the current folder by libFuzzer, and the run fails.
"""

import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

HERE = Path(__file__).resolve().parent


def fuzz(name: str, options: list[str]) -> None:
    """Fuzz one target in this process, which ends here."""
    import atheris

    with atheris.instrument_imports(include=["nymtw.sphinx", "nymtw.credentials", "fuzz_targets"]):
        from fuzz_targets import TARGETS

    atheris.Setup([sys.argv[0], *options], TARGETS[name])
    atheris.Fuzz()


def main() -> int:
    seconds = int(os.environ.get("FUZZ_SECONDS", "5"))
    with ExitStack() as stack:
        running = {}
        for name in ("packet", "surb", "credential"):
            print(f"fuzzing {name} for {seconds} s", flush=True)
            found = stack.enter_context(tempfile.TemporaryDirectory())
            command = [sys.executable, __file__, name, found, str(HERE / "corpus" / name)]
            limits = [f"-max_total_time={seconds}", "-max_len=4096", "-timeout=60", "-rss_limit_mb=1024"]
            running[name] = subprocess.Popen([*command, *limits, "-verbosity=0", "-print_final_stats=1"])
        statuses = {name: process.wait() for name, process in running.items()}
    for name, status in statuses.items():
        if status != 0:
            print(f"{name}: broken, status {status}")
    return int(any(statuses.values()))


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    if len(sys.argv) > 1:
        fuzz(sys.argv[1], sys.argv[2:])
    sys.exit(main())
