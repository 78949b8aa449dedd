"""The benchmarks over recorded curves: small runs of the real thing."""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

sys.path.insert(0, str(Path(__file__).parent.parent))  # benchmarks are not installed with the package

from benchmarks import live, record, regret, rungs
from benchmarks.recorded import METRIC, Recorded, available, load, write_section
from benchmarks.setups import Setting
from hpo.records import Report, Seeds, TrialConfig
from hpo.runners.replay import Curve, Evaluation, ReplayObjective
from hpo.schedulers import AshaConfig, FifoConfig


@pytest.fixture(scope="module")
def sst2() -> Recorded:
    return load("sst2")


def ordered(task: Recorded) -> Recorded:
    """Trials that keep one order from their first evaluation to their last."""
    curves = tuple(
        Curve(
            number,
            "random",
            {"learning_rate": 1e-5 * 1.1**number, "num_train_epochs": 2},
            18,
            tuple(
                Evaluation(part / 18, {METRIC: 0.5 + number * part / 1800, "seconds": part}) for part in range(1, 19)
            ),
        )
        for number in range(24)
    )
    return Recorded(task.name, task.study, curves)


def test_the_recorded_tasks_are_there(sst2: Recorded) -> None:
    assert "sst2" in [task.name for task in available()]
    assert len(sst2.draws) >= 24
    assert 0.5 < sst2.best < 1
    assert sst2.error == pytest.approx((sst2.best * (1 - sst2.best) / 872) ** 0.5)


def test_correlations_are_those_of_scipy() -> None:
    draw = np.random.default_rng(1)
    seen = draw.integers(0, 8, 30).astype(float)
    final = seen + draw.normal(0, 3, 30)
    spearman, low, high, kendall, lower, upper = rungs._ranked(seen, final)
    assert spearman == pytest.approx(stats.spearmanr(seen, final).statistic)
    assert kendall == pytest.approx(stats.kendalltau(seen, final).statistic)
    assert low < spearman < high
    assert lower < kendall < upper


def test_trials_that_keep_their_order_correlate_perfectly(sst2: Recorded) -> None:
    found = list(rungs.correlations(ordered(sst2)))
    assert {one.resource for one in found} == {"progress", "samples"}
    assert all(one.spearman == pytest.approx(1) and one.kendall == pytest.approx(1) for one in found)


def test_asha_finds_the_best_of_trials_that_keep_their_order_for_less(sst2: Recorded) -> None:
    task = ordered(sst2)
    full = rungs.replayed(task, FifoConfig(), "value", orders=10, slots=2)
    asha = rungs.replayed(task, AshaConfig(reduction_factor=3, rungs=3), "value", orders=10, slots=2)
    assert full.regret == asha.regret == 0
    assert full.spent == 1
    assert asha.spent < 0.6
    assert asha.regret_early < full.regret_early


def test_the_tables_of_the_rungs_hold_every_arm(sst2: Recorded) -> None:
    third = {"reduction_factor": 3.0, "rungs": 3}
    arms = [FifoConfig(), AshaConfig(**third), AshaConfig(**third, resource="samples")]
    results = [rungs.replayed(sst2, scheduler, "value", orders=3, slots=2) for scheduler in arms]
    text = rungs.text([sst2], list(rungs.correlations(sst2)), results, 3)
    for word in ("none: all in full", "progress, /3, 3 rungs, value", "samples, /3, 3 rungs, value", "progress 1/4"):
        assert f"| {word}" in text
    assert "Least regret after equal training" in text


def test_the_verdict_names_what_cannot_be_told_apart() -> None:
    text = rungs.verdict({"a": (1.0, 0.1), "b": (1.2, 0.1), "c": (1.9, 0.1)})
    assert "a (1.00)" in text
    assert "b (1.20)" in text
    assert "c" not in text.split("difference:")[1]


def test_every_arm_runs_on_recorded_curves(sst2: Recorded) -> None:
    fed = regret.regrets([sst2], seeds=1, slots=2)
    assert {one.arm for one in fed} == {*regret.FEEDBACK}
    assert all(0 <= one.at[-1] <= one.at[0] for one in fed)
    fast = regret.speeds([sst2], 1, 2, regret.ARMS)
    wanted = {*regret.ARMS} - (set() if sst2.grid else {regret.GRID})
    assert {one.arm for one in fast} == wanted
    assert all(one.epochs > 0 for one in fast)


def test_the_grid_runs_until_the_target(sst2: Recorded) -> None:
    grid = tuple(
        Curve(1000 + place, "bert-paper-grid", one.params, one.steps, one.evaluations)
        for place, one in enumerate(sst2.draws[:18])
    )
    task = Recorded(sst2.name, sst2.study, (*sst2.draws, *grid))
    (found,) = regret.speeds([task], 1, 1, {regret.GRID: regret.ARMS[regret.GRID]})
    assert found.reached
    assert found.trials <= 18
    assert found.epochs <= sum(one.epochs for one in grid)


def test_a_section_of_a_document_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "search.md"
    file.write_text("before\n<!-- rungs -->\nold\n<!-- /rungs -->\nafter\n")
    write_section("rungs", "new", file)
    write_section("rungs", "newer", file)
    assert file.read_text() == "before\n<!-- rungs -->\nnewer\n<!-- /rungs -->\nafter\n"
    with pytest.raises(SystemExit, match="has no place for this table"):
        write_section("regret", "new", file)


def test_a_share_is_every_nth_from_its_own_on() -> None:
    assert record.share("2/8") == (2, 8)
    for wrong in ("8/8", "2", "a/b", "-1/8"):
        with pytest.raises(argparse.ArgumentTypeError, match="is not like 0/8"):
            record.share(wrong)


def test_searches_that_are_really_trained_end_at_the_target(sst2: Recorded) -> None:
    objective = live.Unkept(ReplayObjective(sst2.study.space, sst2.curves))
    points = [(one.number, one.params) for one in sst2.draws[:18]]
    task = live.Live("sst2", sst2.study, objective, sst2.best - 0.02, points)
    found = []
    for name, arm in regret.ARMS.items():
        setting = Setting(task, 0, slots=1, epochs=live.MOST_EPOCHS, target=task.target)
        found.append(regret.speed(name, setting, arm(setting)))
    lines = [{**asdict(one), "target": task.target} for one in found]
    assert all(one.reached or one.epochs >= live.MOST_EPOCHS - 4 or one.trials >= 18 for one in found)
    told = live.text(lines)
    assert f"target: sst2 accuracy {task.target:.4f}" in told
    assert all(f"| {name} |" in told for name in regret.ARMS)


def test_a_trial_of_a_live_search_leaves_no_checkpoint() -> None:
    asked: list[TrialConfig] = []

    def objective(config: TrialConfig) -> Iterator[Report]:
        asked.append(config)
        yield Report(1, 1.0, {}, done=True)

    list(live.Unkept(objective)(TrialConfig(0, {}, Seeds(0, 0))))
    assert asked[0].keep_above == float("inf")
