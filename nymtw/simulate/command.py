"""Runs the trials that the options ask for, and reports on them."""

from pathlib import Path

from nymtw.simulate import report
from nymtw.simulate.options import Options
from nymtw.simulate.run import Costs, Plan, costs, evaluate, observe, run
from nymtw.simulate.workload import Workload, in_profile, read_workload
from nymtw.testing.attacks.figures import Figures


def simulate(options: Options) -> None:
    """Print the report, and write it where `--out` says. Raises `NymtwError`, `OSError`, `ImportError`."""
    workload = read_workload(options["workload"])
    options.check(workload)
    out = None if options["out"] is None else Path(options["out"])
    if not options.profiles:
        _run(options, workload, out)
        return
    found = {}
    for profile in options.profiles:
        print(f"Profile {profile}")
        folder = out and out / profile
        found[profile] = _run(options, in_profile(workload, profile), folder, profile)
        print()
    compared = report.comparison(found)
    print(compared)
    if out is not None:
        (out / "profiles.md").write_text(f"{compared}\n")


def _run(
    options: Options, workload: Workload, folder: Path | None, profile: str = ""
) -> tuple[dict[str, Figures], Costs]:
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
    results = report.summed(plan, trials)
    print(report.table(results))
    print(report.costs_text(spent))
    print(f"Repeat it: {report.command(plan, seed, count, options['workload'], profile)}")
    if folder is None:
        return results, spent
    report.write(folder, plan, seed, trials, spent, options["workload"], profile)
    if options["rows"] == "csv":
        rows.write_csv(folder / "rows.csv")
    elif options["rows"] == "parquet":
        rows.write_parquet(folder / "rows.parquet")
    if not options["no-plots"]:
        from nymtw.simulate.plots import write_plots

        write_plots(folder, plan, results, trials, rows)
    print(f"Written to {folder}")
    return results, spent
