"""The command line of `nymtw simulate`."""

from collections.abc import Mapping
from typing import Any, Final

from twisted.python import usage

from nymtw.directory.profiles import PROFILES
from nymtw.node.option_types import CommandOptions
from nymtw.simulate.workload import Workload

ENGINES = ("model", "network")
ROW_FORMATS = ("csv", "parquet")
_IN_MODEL: Final[Mapping[str, tuple[str, ...]]] = {
    "cover": ("drops", "loops", "none"),
    "delays": ("exponential",),
    "routes": ("uniform",),
    "mixing": ("delays",),
}


def _number(least: int, most: int) -> Any:
    def number(text: str) -> int:
        value = int(text) if text.isascii() and text.isdecimal() else -1
        if not least <= value <= most:
            raise ValueError(f"this is a number from {least} to {most}")
        return value

    number.coerceDoc = f"A number from {least} to {most}."  # type: ignore[attr-defined]  # what usage.Options asks for
    return number


class Options(CommandOptions):
    synopsis = "Usage: nymtw simulate [options]"
    longdesc = (
        "Runs trials of a simulated network in which one client sends another one a message, attacks each, and prints "
        "how often the attacks are right: the AUC of the true pair and the rank of the sender, 0.5 by chance. Writes a "
        "report and plots to a folder. What is random follows from the seed. Strategies are bundled ones, or "
        "package.module:factory; those of others run with --engine network, which is the real services on a fake clock."
    )
    optParameters: list[list[Any]] = [
        ["clients", None, 20, "Clients, in turn at the edges", _number(3, 1000)],
        ["edges", None, 2, "Providers", _number(1, 50)],
        ["mixnodes", None, 2, "Mixnodes in each of the three layers", _number(1, 20)],
        ["workload", None, None, "A TOML file: rates and times of the network, and the message that is sent"],
        ["profile", None, None, "Rates, delays and padding of these profiles, with commas: default, safer, faster"],
        ["attack", None, "ml,correlation,ledger", "Attacks, with commas between them"],
        ["trials", None, 100, "Trials", _number(1, 100_000)],
        ["seed", None, 1, "The seed of the first trial; each has the next number", _number(0, 2**31)],
        ["out", None, None, "The folder for report.md, report.json and plots"],
        ["rows", None, None, "Write the rows of the first trial too: csv or parquet"],
        ["engine", None, "model", "model: arrays; network: the real services"],
        ["crypto", None, "none", "With --engine network: none, a table in the place of Sphinx; or sphinx"],
        ["cover", None, "drops", "What fills idle slots: drops, loops, none, or somebody's ICoverStrategy"],
        ["delays", None, "exponential", "The delay strategy"],
        ["routes", None, "uniform", "The route strategy"],
        ["mixing", None, "delays", "How nodes mix: delays, at-once, or somebody's IMixing"],
    ]
    optFlags: list[list[Any]] = [["no-plots", None, "Write no plots"]]

    def __init__(self) -> None:
        super().__init__()
        self.attacks: list[str] = []
        self.profiles: list[str] = []

    def postOptions(self) -> None:
        """Raises `UsageError` for values that do not go together."""
        from nymtw.testing.attacks import PASSIVE

        self.attacks = [name.strip() for name in self["attack"].split(",") if name.strip()]
        unknown = [name for name in self.attacks if name not in PASSIVE]
        if unknown or not self.attacks:
            raise usage.UsageError(f"--attack: {', '.join(unknown) or 'none'}; there are: {', '.join(PASSIVE)}")
        self.profiles = [name.strip() for name in (self["profile"] or "").split(",") if name.strip()]
        unknown = [name for name in self.profiles if name not in PROFILES]
        if unknown:
            raise usage.UsageError(f"--profile: {', '.join(unknown)}; there are: {', '.join(PROFILES)}")
        for option, values in (("engine", ENGINES), ("crypto", ("none", "sphinx")), ("rows", ROW_FORMATS)):
            if self[option] is not None and self[option] not in values:
                raise usage.UsageError(f"--{option}: {self[option]!r:.40} is not one of {', '.join(values)}")
        if self["rows"] is not None and self["out"] is None:
            raise usage.UsageError("--rows needs --out")
        if self["edges"] < 2:
            raise usage.UsageError("--edges: a message goes to another edge, so there are two or more")
        if self["clients"] < self["edges"]:
            raise usage.UsageError("--clients: each edge has one at least")
        if self["engine"] == "model":
            for option, known in _IN_MODEL.items():
                if self[option] not in known:
                    raise usage.UsageError(f"--{option} {self[option]:.80} needs --engine network")

    def check(self, workload: Workload) -> None:
        """Raises `UsageError` where the engine cannot do what the workload says."""
        if self["engine"] == "network" and workload.message.kind != "message":
            raise usage.UsageError(f"a workload with kind = {workload.message.kind!r} needs --engine model")
        if self["engine"] == "network" and self.profiles:
            raise usage.UsageError("--profile needs --engine model")
