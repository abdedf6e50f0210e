"""The report of a simulation: a table for the screen, report.md, and report.json, from which it can be repeated."""

import json
import shlex
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from nymtw.simulate.run import Costs, Plan, Trial
from nymtw.sphinx import SizeClass
from nymtw.sphinx.geometry import GEOMETRIES
from nymtw.testing.attacks.figures import Figures, figures

_PACKET = GEOMETRIES[SizeClass.REGULAR].packet_length
_COSTS = (
    "latency, median / 95 %",
    "waiting for lines",
    "a client's line",
    "frames at edges, times",
    "work of a mixnode",
)
_HEAD = ("attack", "trials", "AUC of the true pair", "95 % interval", "rank of the sender")


def summed(plan: Plan, trials: Sequence[Trial]) -> dict[str, Figures]:
    """The figures of each attack."""
    return {
        name: figures([trial.ranks[name][0] for trial in trials], [trial.ranks[name][1] for trial in trials])
        for name in plan.attacks
    }


def command(plan: Plan, seed: int, trials: int, workload: str | None, profiles: str = "") -> str:
    """The words that repeat it."""
    words = ["nymtw", "simulate", f"--clients={plan.clients}", f"--edges={plan.edges}", f"--mixnodes={plan.mixnodes}"]
    if workload is not None:
        words.append(f"--workload={workload}")
    if profiles:
        words.append(f"--profile={profiles}")
    words += [f"--attack={','.join(plan.attacks)}", f"--trials={trials}", f"--seed={seed}", f"--engine={plan.engine}"]
    if plan.engine == "network":
        words.append(f"--crypto={plan.crypto}")
    for option in ("cover", "delays", "routes", "mixing"):
        words.append(f"--{option}={getattr(plan, option)}")
    return shlex.join(words)


def table(results: dict[str, Figures]) -> str:
    """One line an attack."""
    lines = [_HEAD]
    lines += [
        (name, str(one.trials), f"{one.auc:.3f}", f"{one.low:.3f} to {one.high:.3f}", f"{one.sender_rank:.3f}")
        for name, one in results.items()
    ]
    return _aligned(lines)


def comparison(profiles: dict[str, tuple[dict[str, Figures], Costs]]) -> str:
    """One line a profile: what attacks make of it, and what it costs."""
    attacks = list(next(iter(profiles.values()))[0])
    lines = [("profile", *(f"{name}: AUC" for name in attacks), *_COSTS)]
    for name, (results, costs) in profiles.items():
        lines.append(
            (
                name,
                *(f"{one.auc:.3f} ({one.low:.3f} to {one.high:.3f})" for one in results.values()),
                f"{costs.latency * 1e3:.0f} / {costs.latency_95 * 1e3:.0f} ms",
                f"{costs.added * 1e3:.1f} ms",
                f"{costs.client_rate * _PACKET / 1e3:.0f} kB/s",
                f"{costs.overhead:.2f}",
                f"{costs.unwraps:.0f}",
            )
        )
    return _aligned(lines)


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    shown = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([shown[0], rule, *shown[1:]])


def costs_text(costs: Costs) -> str:
    """The costs of the first trial in a few lines."""
    return (
        f"Latency to the mailbox: median {costs.latency * 1e3:.0f} ms, 95 % below {costs.latency_95 * 1e3:.0f} ms; "
        f"added by waiting for lines: median {costs.added * 1e3:.1f} ms.\n"
        f"Frames at edges: {costs.frames}, {costs.dummies} of them dummies ({costs.overhead:.2f} times what is none); "
        f"a client sends {costs.client_rate:.1f} packets a second.\n"
        f"A mixnode gets {costs.mixnode_packets:.0f} packets and {costs.mixnode_dummies:.0f} dummies a second: the "
        f"work of {costs.unwraps:.0f} packets."
    )


def write(
    folder: Path,
    plan: Plan,
    seed: int,
    trials: Sequence[Trial],
    costs: Costs,
    workload: str | None,
    profile: str = "",
) -> dict[str, Figures]:
    """Write report.md and report.json; equal seeds write equal files. Raises `OSError`."""
    results = summed(plan, trials)
    again = command(plan, seed, len(trials), workload, profile)
    network = msgspec.to_builtins(plan.workload)
    content: dict[str, Any] = {
        "version": version("nymtw"),
        "command": again,
        "workload": network,
        "seed": seed,
        "figures": {name: msgspec.to_builtins(one) for name, one in results.items()},
        "costs": msgspec.to_builtins(costs),
        "trials": [msgspec.to_builtins(trial) for trial in trials],
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
    rates = ", ".join(f"{key} = {value!r}" for part in network.values() for key, value in part.items())
    text = (
        f"# A simulation of nymtw {content['version']}\n\n```\n{again}\n```\n\nWorkload: {rates}.\n\n"
        f"{table(results)}\n\n0.5 is chance. The interval is a bootstrap over trials.\n\n{costs_text(costs)}\n"
    )
    (folder / "report.md").write_text(text)
    return results
