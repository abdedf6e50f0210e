"""`nymtw simulate`: its words, its workload, its report."""

import json
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from zope.interface import implementer

from nymtw.commands import main
from nymtw.errors import ConfigError
from nymtw.interfaces import IDelayStrategy
from nymtw.simulate.plots import write_plots
from nymtw.simulate.run import Plan, costs, draw_pair, observe, run
from nymtw.simulate.workload import MessageSection, NetworkSection, Workload, read_workload

SMALL = ("--clients=4", "--trials=3", "--no-plots", "--attack=ml")


@implementer(IDelayStrategy)
class NoDelays:
    def __init__(self, mean_seconds: float) -> None:
        pass

    def draw(self, hops: int, random: random.Random) -> Sequence[int]:
        return [0] * hops


def workload(folder: Path, text: str) -> str:
    path = folder / "workload.toml"
    path.write_text(text)
    return f"--workload={path}"


def test_it_prints_a_table_and_writes_a_report_that_its_seed_repeats(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*SMALL, workload(tmp_path, "[message]\nseconds = 3.0\nbefore = 3.0\n")]
    for folder in ("one", "two"):
        assert main(["simulate", *words, f"--out={tmp_path / folder}", "--rows=csv"]) == 0
    printed = capsys.readouterr().out
    assert "| ml " in printed
    assert "nymtw simulate --clients=4" in printed
    for name in ("report.md", "report.json", "rows.csv"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    report = json.loads((tmp_path / "one" / "report.json").read_text())
    assert len(report["trials"]) == 3
    assert 0 <= report["figures"]["ml"]["auc"] <= 1


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (["--attack=guess"], "--attack"),
        (["--engine=magic"], "--engine"),
        (["--edges=1"], "--edges"),
        (["--delays=test_simulate:NoDelays"], "needs --engine network"),
        (["--rows=csv"], "--rows needs --out"),
        (["--clients=2"], "from 3 to 1000"),
        (["--clients=3", "--edges=5"], "--clients"),
        (["--workload=/nowhere"], "/nowhere"),
        (["--engine=network", "--cover=chaff"], "chaff"),
    ],
)
def test_words_that_cannot_be_meant_end_in_one_line(
    words: list[str], cause: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", "--trials=1", *words]) == 1
    logged = capsys.readouterr().err
    assert cause in logged
    assert logged.count("\n") == 1


def test_the_real_services_run_with_strategies_of_somebody_else(tmp_path: Path) -> None:
    words = [
        "--clients=4",
        "--trials=1",
        "--attack=ml",
        "--engine=network",
        f"--delays={__name__}:NoDelays",
        "--cover=loops",
        "--mixing=at-once",
        "--no-plots",
        f"--out={tmp_path / 'out'}",
        workload(tmp_path, "[message]\nseconds = 1.0\nbefore = 0.5\nafter = 0.5\n"),
    ]
    assert main(["simulate", *words]) == 0
    spent = json.loads((tmp_path / "out" / "report.json").read_text())["costs"]
    assert spent["latency"] < 0.02


def test_the_pair_is_always_of_two_edges() -> None:
    plan = Plan(10, 3, 2, Workload(), ("ml",))
    pairs = [draw_pair(plan, seed) for seed in range(50)]
    assert all(sender % 3 != recipient % 3 for sender, recipient in pairs)
    assert len(set(pairs)) > 25


def test_a_workload_has_defaults_and_no_unknown_keys(tmp_path: Path) -> None:
    assert read_workload(None) == Workload()
    path = tmp_path / "bad.toml"
    path.write_text("[message]\nsecond = 3\n")
    with pytest.raises(ConfigError, match="second"):
        read_workload(str(path))
    path.write_text("[network]\nsending_rate = 0.0\n")
    with pytest.raises(ConfigError, match="sending_rate"):
        read_workload(str(path))


def test_a_message_is_as_long_as_its_slots() -> None:
    assert Workload().packets == 680
    assert Workload(message=MessageSection(seconds=0.0)).packets == 1
    assert Workload().share == pytest.approx(0.8)
    download = Workload(message=MessageSection(kind="download", seconds=10.0))
    assert download.replies == 1000
    assert download.packets < 300


def test_costs_show_what_padding_adds() -> None:
    spent = []
    for wait in (0.0, 0.015):
        network, message = NetworkSection(line_wait=wait), MessageSection(seconds=5.0, before=5.0)
        plan = Plan(20, 2, 2, Workload(network=network, message=message), ("ml",))
        spent.append(costs(observe(plan, 1)[0], plan))
    plain, padded = spent
    assert plain.overhead == 1.0
    assert 1.1 < padded.overhead < 2.0
    assert abs(plain.added) < 1e-6
    assert 0.005 < padded.added < 0.03
    assert padded.client_rate == pytest.approx(25, rel=0.05)


def test_plots_are_written(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from nymtw.simulate.report import summed

    plan = Plan(4, 2, 2, Workload(message=MessageSection(seconds=2.0, before=2.0)), ("ml", "ledger"))
    trials = run(plan, range(3))
    rows = observe(plan, 0)[0]
    names = write_plots(tmp_path, plan, summed(plan, trials), trials, rows)
    assert names == ["auc.png", "ranks.png", "emission.png"]
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in names)


def test_profiles_are_compared_in_one_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*SMALL, "--profile=faster,safer", workload(tmp_path, "[message]\nseconds = 2.0\nbefore = 2.0\n")]
    assert main(["simulate", *words, f"--out={tmp_path / 'out'}"]) == 0
    printed = capsys.readouterr().out
    assert "--profile=safer" in printed
    head, _, faster, safer = (tmp_path / "out" / "profiles.md").read_text().splitlines()
    assert [cell.strip() for cell in head.split("|")][1:4] == ["profile", "ml: AUC", "latency, median / 95 %"]
    latency = {line.split("|")[1].strip(): float(line.split("|")[3].split()[0]) for line in (faster, safer)}
    assert 60 < latency["faster"] < 150 < 500 < latency["safer"] < 800
    reports = [json.loads((tmp_path / "out" / name / "report.json").read_text()) for name in ("faster", "safer")]
    assert [report["workload"]["network"]["mean_delay"] for report in reports] == [0.02, 0.2]
    assert main(["simulate", "--profile=fastest"]) == 1
    assert "there are: default, safer, faster" in capsys.readouterr().err
