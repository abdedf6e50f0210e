"""`nymtw simulate`: options, trials, report."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from twisted.python import usage

from nymtw.errors import NymtwError

if TYPE_CHECKING:
    from nymtw.simulate.options import Options


def main(arguments: Sequence[str]) -> int:
    """Run with the words behind `nymtw simulate`; returns the exit status."""
    try:
        from nymtw.simulate import options as command_line

        options = command_line.Options()
        options.parseOptions(list(arguments))
        return _run(options)
    except usage.UsageError as error:
        print(f"nymtw simulate: {error}: see 'nymtw simulate --help'", file=sys.stderr)
    except ImportError as error:
        print(f"nymtw simulate: {error}: install nymtw[lab], and nymtw[plots] for plots", file=sys.stderr)
    except (NymtwError, OSError) as error:
        print(f"nymtw simulate: {error}", file=sys.stderr)
    return 1


def _run(options: "Options") -> int:
    from nymtw.simulate import report
    from nymtw.simulate.run import Plan, costs, judge, observe, run
    from nymtw.simulate.workload import read_workload

    workload = read_workload(options["workload"])
    options.check(workload)
    plan = Plan(
        clients=options["clients"],
        edges=options["edges"],
        mixnodes=options["mixnodes"],
        workload=workload,
        attacks=tuple(options.attacks),
        **{name: options[name] for name in ("engine", "crypto", "cover", "delays", "routes", "mixing")},
    )
    seed, count = options["seed"], options["trials"]
    rows, scene, sender, recipient = observe(plan, seed)
    spent = costs(rows, plan)
    trials = [judge(plan, seed, rows, scene, sender, recipient), *run(plan, range(seed + 1, seed + count))]
    print(report.table(report.summed(plan, trials)))
    print(report.costs_text(spent))
    print(f"Repeat it: {report.command(plan, seed, count, options['workload'])}")
    if options["out"] is None:
        return 0
    folder = Path(options["out"])
    results = report.write(folder, plan, seed, trials, spent, options["workload"])
    if options["rows"] == "csv":
        rows.write_csv(folder / "rows.csv")
    elif options["rows"] == "parquet":
        rows.write_parquet(folder / "rows.parquet")
    if not options["no-plots"]:
        from nymtw.simulate.plots import write_plots

        write_plots(folder, plan, results, trials, rows)
    print(f"Written to {folder}")
    return 0
