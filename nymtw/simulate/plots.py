"""Plots of a simulation, as PNG files. They need the extra `nymtw[plots]`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nymtw.simulate.run import Plan, Trial
from nymtw.testing.attacks.figures import Figures
from nymtw.testing.attacks.scene import sent_by
from nymtw.testing.rows import Rows

_SIZE = (5.0, 3.4)
_DPI = 150


def write_plots(
    folder: Path, plan: Plan, results: dict[str, Figures], trials: Sequence[Trial], rows: Rows
) -> list[str]:
    """Write auc.png, ranks.png and emission.png (of the first trial's sender). Their names.

    Raises `ImportError` without matplotlib, `OSError`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    def axes(title: str, x: str, y: str) -> tuple[Figure, object]:
        figure = Figure(figsize=_SIZE, layout="constrained")
        FigureCanvasAgg(figure)
        plot = figure.add_subplot()
        plot.set_title(title, fontsize=10)
        plot.set_xlabel(x)
        plot.set_ylabel(y)
        return figure, plot

    def save(figure: Figure, name: str) -> str:
        figure.savefig(folder / name, dpi=_DPI, metadata={"Software": None})
        return name

    written = []
    figure, plot = axes("AUC of the true pair, with its 95 % interval", "", "AUC")
    names = list(results)
    middle = np.array([results[name].auc for name in names])
    low, high = (np.array([getattr(results[name], bound) for name in names]) for bound in ("low", "high"))
    plot.errorbar(names, middle, yerr=np.maximum((middle - low, high - middle), 0), fmt="o", capsize=5)  # type: ignore[attr-defined]
    plot.axhline(0.5, linestyle=":", color="grey")  # type: ignore[attr-defined]
    plot.set_ylim(0, 1.02)  # type: ignore[attr-defined]
    written.append(save(figure, "auc.png"))

    figure, plot = axes(
        "Trials whose true pair has this rank at most", "rank (1: the most suspicious)", "share of trials"
    )
    for name in names:
        ranks = np.sort([trial.ranks[name][0] for trial in trials])
        plot.step(ranks, np.arange(1, len(ranks) + 1) / len(ranks), where="post", label=name)  # type: ignore[attr-defined]
    plot.plot((0, 1), (0, 1), linestyle=":", color="grey", label="chance")  # type: ignore[attr-defined]
    plot.legend(fontsize=8)  # type: ignore[attr-defined]
    written.append(save(figure, "ranks.png"))

    figure, plot = axes(f"Gaps on the line of {trials[0].sender}", "seconds", "share of gaps that are longer")
    gaps = np.sort(np.diff(sent_by(rows, trials[0].sender)))
    rate = plan.workload.network.sending_rate + plan.workload.network.loop_rate
    if len(gaps):
        plot.step(gaps, 1 - np.arange(len(gaps)) / len(gaps), where="post", label="seen")  # type: ignore[attr-defined]
        plot.plot(gaps, np.exp(-rate * gaps), linestyle=":", label=f"exponential, {rate:g} a second")  # type: ignore[attr-defined]
        plot.set_yscale("log")  # type: ignore[attr-defined]
        plot.legend(fontsize=8)  # type: ignore[attr-defined]
    written.append(save(figure, "emission.png"))
    return written
