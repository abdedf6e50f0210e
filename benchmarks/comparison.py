"""Parts of the benchmarks that compare implementations: a Rust program that times itself, and the table of ratios."""

import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

Row = tuple[str, float, str, bool]  # (what is compared, its ratio, the bar, whether it is met)


class RustProgram:
    """The release build of the crate in `folder`, asked to time itself. Raises `RuntimeError` for another answer."""

    def __init__(self, folder: Path, name: str, target: Path, options: Sequence[str] = ()) -> None:
        command = ["cargo", "build", "--quiet", "--release", "--locked", "--target-dir", str(target), *options]
        subprocess.run(command, cwd=folder, check=True)
        self.process = subprocess.Popen(
            [target / "release" / name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def seconds(self, *words: object) -> float:
        """The seconds of one operation; bytes go to the program as hex."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        request = " ".join(word.hex() if isinstance(word, bytes) else str(word) for word in words)
        self.process.stdin.write(request + "\n")
        self.process.stdin.flush()
        status, answer = self.process.stdout.readline().split(maxsplit=1)
        if status != "ok":
            raise RuntimeError(f"the Rust program answers: {answer}")
        return float(answer) / 1e9

    def close(self) -> None:
        """End the program."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def rust_version() -> str:
    """The version of the compiler."""
    return subprocess.run(["rustc", "--version"], capture_output=True, text=True, check=True).stdout.strip()


def best_of(measures: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """The least of each measure. They take turns, so that a busy machine slows all alike."""
    best = dict.fromkeys(measures, float("inf"))
    for _ in range(rounds):
        for name, measure in measures.items():
            best[name] = min(best[name], measure())
    return best


def print_ratios(rows: Iterable[Row]) -> None:
    """The table of ratios and bars."""
    print("\n| ratio | is | bar | |\n|---|--:|---|---|")
    for what, ratio, bar, met in rows:
        print(f"| {what} | {ratio:.2f} | {bar} | {'met' if met else 'MISSED'} |")


def ratios_object(rows: Iterable[Row]) -> dict[str, dict[str, object]]:
    """The same for JSON."""
    return {what: {"ratio": ratio, "bar": bar, "met": met} for what, ratio, bar, met in rows}
