"""A search for quality and cost at once, over a toy whose best is its dearest."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpo.ledger import Ledger
from hpo.objectives import pareto, values_of
from hpo.records import Report, TrialConfig, TrialState
from hpo.runners.inline import InlineRunner
from hpo.samplers import RandomConfig, TpeConfig
from hpo.schedulers import AshaConfig, FifoConfig, Levels
from hpo.space import FloatRange, IntRange, SearchSpace
from hpo.study.search import StudySearch
from hpo.study.steps import Ladder

SPACE = SearchSpace({"num_train_epochs": IntRange(1, 8), "learning_rate": FloatRange(1e-5, 1e-2, log=True)})


def dear(config: TrialConfig) -> Iterator[Report]:
    """The more epochs, the better and the slower; one learning rate is right."""
    epochs, rate = float(config.params["num_train_epochs"]), float(config.params["learning_rate"])
    for step in (1, 2, 3):
        quality = (1 - 0.7**epochs) * min(rate, 1e-3) / max(rate, 1e-3) * (0.7 + 0.1 * step)
        metrics = {"accuracy": quality, "seconds": epochs * step, "epoch": epochs * step / 3}
        yield Report(step=step, progress=step / 3, metrics=metrics, done=step == 3)


def study(
    folder: Path, scheduler: AshaConfig | FifoConfig, sampler: TpeConfig | RandomConfig, trials: int
) -> StudySearch:
    levels: Levels = scheduler
    book = Ledger(folder, study="both", mode="max", space=SPACE, sampler=sampler, seed=3, others={"seconds": "min"})
    return StudySearch(
        ledger=book,
        scheduler=scheduler.build(SPACE, 3),
        metric="accuracy",
        mode="max",
        ladder=Ladder.of(levels, SPACE),
        emit=lambda event: None,
        trials=trials,
    )


@pytest.mark.parametrize("sampler", [TpeConfig(n_startup_trials=5), RandomConfig()], ids=["tpe", "random"])
def test_pruned_and_complete_trials_feed_a_search_for_two_things(
    tmp_path: Path, sampler: TpeConfig | RandomConfig
) -> None:
    search = study(tmp_path, AshaConfig(reduction_factor=3, rungs=2), sampler, 25)
    InlineRunner(dear).run(search)
    again = study(tmp_path, AshaConfig(reduction_factor=3, rungs=2), sampler, 25)
    assert again.exhausted
    assert again.records == search.records
    states = [record.state for record in again.records]
    assert states.count(TrialState.PRUNED) > 3
    assert states.count(TrialState.PRUNED) + states.count(TrialState.COMPLETE) == 25
    assert all(record.curve for record in again.records)


def test_the_front_trades_one_for_the_other(tmp_path: Path) -> None:
    search = study(tmp_path, FifoConfig(), TpeConfig(n_startup_trials=10), 40)
    InlineRunner(dear).run(search)
    front = pareto(search.records, {"accuracy": "max", "seconds": "min"})
    points = [values_of(search.records[number].metrics, ("accuracy", "seconds")) for number in front]
    assert len(front) >= 3
    assert points == sorted(points, reverse=True)
    seconds = [point[1] for point in points if point]
    assert seconds == sorted(seconds, reverse=True)  # whoever is less good is faster


def test_a_trial_without_a_cost_that_is_searched_for_is_an_error_that_names_it(tmp_path: Path) -> None:
    def silent(config: TrialConfig) -> Iterator[Report]:
        yield Report(step=1, progress=1.0, metrics={"accuracy": 0.5}, done=True)

    with pytest.raises(ValueError, match="has to report seconds"):
        InlineRunner(silent).run(study(tmp_path, FifoConfig(), RandomConfig(), 2))


def test_a_winner_that_breaks_a_limit_is_named_and_not_promoted(films: Path, inline: Any) -> None:
    done = inline(
        "run", "--space", films, "--set", "search.metric=[accuracy, seconds, trainable_parameters]",
        "--set", "budget.trials=3", "--set", "promotion.limits={trainable_parameters: 10}",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "promotion.limits is not kept: its trainable_parameters is" in done.stdout
    folder = films.parent / "studies" / "films"
    outcome = json.loads((folder / "outcome.json").read_text())
    assert outcome["decision"]["verdict"] == "keep"
    assert "Pareto" in (folder / "report.html").read_text()
