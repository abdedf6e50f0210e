"""Runs the trials that the options ask for, and reports on them."""

from pathlib import Path

from nymtw.simulate import report
from nymtw.simulate.options import Options
from nymtw.simulate.run import Plan, costs, evaluate, observe, run
from nymtw.simulate.workload import read_workload


def simulate(options: Options) -> None:
    """Print the report, and write it where `--out` says. Raises `NymtwError`, `OSError`, `ImportError`."""
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
    trials = [evaluate(plan, seed, rows, scene, sender, recipient), *run(plan, range(seed + 1, seed + count))]
    print(report.table(report.summed(plan, trials)))
    print(report.costs_text(spent))
    print(f"Repeat it: {report.command(plan, seed, count, options['workload'])}")
    if options["out"] is None:
        return
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
