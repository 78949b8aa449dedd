"""A study that goes on with another scheduler: a trial counts at a rung only where it was evaluated for it."""

from pathlib import Path
from typing import Any, NamedTuple

import pytest

from hpo.ledger import Ledger
from hpo.records import Report, TrialConfig, Verdict
from hpo.samplers import RandomConfig
from hpo.schedulers import AshaConfig, FifoConfig, HyperbandConfig, MedianConfig
from hpo.space import Choice, FloatRange, SearchSpace
from hpo.study.search import StudySearch
from hpo.study.steps import Ladder
from hpo.trial import evaluation_steps

STEPS = 9
"""Of an epoch."""

GO, STOP = Verdict.CONTINUE, Verdict.STOP


class Length(NamedTuple):
    total_steps: int
    steps_per_epoch: int = STEPS


def space(*epochs: int) -> SearchSpace:
    return SearchSpace({"learning_rate": FloatRange(1e-5, 1e-1, log=True), "num_train_epochs": Choice(epochs)})


def opened(folder: Path, scheduler: Any, own: SearchSpace) -> StudySearch:
    return StudySearch(
        ledger=Ledger(folder, study="s", mode="max", space=own, sampler=RandomConfig(), seed=1),
        scheduler=scheduler.build(own, 1),
        metric="accuracy",
        mode="max",
        ladder=Ladder.of(scheduler, own),
        emit=lambda event: None,
    )


def asked(search: StudySearch, epochs: int, rate: float) -> TrialConfig:
    search.ledger.enqueue([("first", {"learning_rate": rate, "num_train_epochs": epochs})])
    config = search.ask()
    assert config is not None
    assert config.params["num_train_epochs"] == epochs
    return config


def trained(search: StudySearch, config: TrialConfig, value: float, until: float = 1.0) -> list[Verdict]:
    """The answers to all its reports, evaluated where a training is, up to the first that stops it."""
    total = STEPS * int(config.params["num_train_epochs"])
    verdicts = []
    for step in sorted(evaluation_steps(Length(total), config.rungs)):
        if step / total > until + 1e-9:
            break
        report = Report(step, step / total, {"accuracy": value, "epoch": step / STEPS}, done=step == total)
        verdicts.append(search.report(config.number, report))
        if verdicts[-1] is STOP:
            break
    return verdicts


ASHA, HYPERBAND = AshaConfig(reduction_factor=3, rungs=3), HyperbandConfig(rungs=3, brackets=1)
THREE, SIX = MedianConfig(rungs=3, grace=0.0, min_trials=2), MedianConfig(rungs=6, grace=0.0, min_trials=2)
FOUR = MedianConfig(rungs=4, grace=0.0, min_trials=2)


def samples(scheduler: Any) -> Any:
    return scheduler.model_copy(update={"resource": "samples"})


@pytest.mark.parametrize(
    ("before", "after", "verdicts"),
    [
        # evaluated after each of 3 epochs, at 1/3, 2/3, 1; now also at 1/9
        pytest.param(FifoConfig(), ASHA, [GO, STOP], id="fifo to asha"),
        pytest.param(FifoConfig(), HYPERBAND, [GO, STOP], id="fifo to hyperband"),
        pytest.param(FifoConfig(), THREE, [STOP], id="fifo to median at the same levels"),
        pytest.param(FifoConfig(), SIX, [GO] * 5 + [STOP], id="fifo to median, averages without their beginning"),
        pytest.param(AshaConfig(reduction_factor=3, rungs=2), ASHA, [GO, STOP], id="two rungs to three"),
        pytest.param(HyperbandConfig(rungs=2, brackets=1), HYPERBAND, [GO, STOP], id="hyperband: two rungs to three"),
        pytest.param(ASHA, AshaConfig(reduction_factor=3, rungs=2), [STOP], id="three rungs to two"),
        pytest.param(HYPERBAND, HyperbandConfig(rungs=2, brackets=1), [STOP], id="hyperband: three rungs to two"),
        pytest.param(SIX, THREE, [STOP], id="median: six levels to three"),
        pytest.param(THREE, SIX, [GO] * 5 + [STOP], id="median: three levels to six"),
    ],
)
def test_levels_at_which_a_trial_was_not_evaluated_stay_open(
    before: Any, after: Any, verdicts: list[Verdict], tmp_path: Path
) -> None:
    search = opened(tmp_path, before, space(3))
    for place in range(4):
        assert trained(search, asked(search, 3, 1e-4 * (place + 1)), 0.80)[-1] is STOP  # at its end
    assert [record.value for record in search.records] == [0.80] * 4
    search = opened(tmp_path, after, space(3))
    assert trained(search, asked(search, 3, 1e-3), 0.79) == verdicts


@pytest.mark.parametrize(
    ("before", "after", "epochs", "verdicts"),
    [
        # trials of 1 epoch reported at their own 1/3 and 1, for the levels 1/9 and 1/3 of the samples of 3 epochs
        pytest.param(samples(ASHA), ASHA, 1, [GO, STOP], id="asha: samples to progress"),
        pytest.param(samples(HYPERBAND), HYPERBAND, 1, [GO, STOP], id="hyperband: samples to progress"),
        pytest.param(samples(SIX), SIX, 1, [GO] * 5 + [STOP], id="median: samples to progress"),
        # trials of 1 epoch reported at their own 1/9, 1/3, 1, two of which are the levels 1/9 and 1/3 of the samples
        pytest.param(ASHA, samples(ASHA), 1, [STOP], id="asha: progress to samples"),
        pytest.param(HYPERBAND, samples(HYPERBAND), 1, [STOP], id="hyperband: progress to samples"),
        pytest.param(SIX, samples(THREE), 1, [STOP], id="median: progress to samples"),
    ],
)
def test_a_trial_counts_where_it_was_evaluated_in_the_new_resource(
    before: Any, after: Any, epochs: int, verdicts: list[Verdict], tmp_path: Path
) -> None:
    search = opened(tmp_path, before, space(1, 3))
    for place in range(4):
        trained(search, asked(search, epochs, 1e-4 * (place + 1)), 0.80)
    search = opened(tmp_path, after, space(1, 3))
    assert trained(search, asked(search, epochs, 1e-3), 0.79) == verdicts


@pytest.mark.parametrize(
    ("scheduler", "verdicts"),
    [
        # at 2/18, 6/18, 9/18 and 18/18 of 2 epochs; 1/9 of 3 epochs is at 3/18, and 1/3 at 9/18
        pytest.param(samples(ASHA), [GO, STOP], id="asha"),
        pytest.param(samples(HYPERBAND), [GO, STOP], id="hyperband"),
        # for the levels of 3 epochs at 7/18, 14/18: the first one is missing, so no average counts
        pytest.param(samples(FOUR), [GO] * 5 + [STOP], id="median"),
    ],
)
def test_longer_trials_move_the_levels_of_the_old_ones(scheduler: Any, verdicts: list[Verdict], tmp_path: Path) -> None:
    search = opened(tmp_path, scheduler, space(2))
    for place in range(4):
        trained(search, asked(search, 2, 1e-4 * (place + 1)), 0.80)
    search = opened(tmp_path, scheduler, space(2, 3))
    assert trained(search, asked(search, 3, 1e-3), 0.79) == verdicts


@pytest.mark.parametrize("scheduler", [ASHA, HYPERBAND, THREE])
def test_a_trial_that_fifo_let_run_is_judged_when_it_is_trained_again(scheduler: Any, tmp_path: Path) -> None:
    search = opened(tmp_path, FifoConfig(), space(3))
    left = asked(search, 3, 1e-5)
    assert trained(search, left, 0.79, until=2 / 3) == [GO, GO]
    for place in range(4):
        trained(search, asked(search, 3, 1e-4 * (place + 1)), 0.80)
    search = opened(tmp_path, scheduler, space(3))
    again = search.ask()
    assert again is not None
    assert again.number == left.number
    verdicts = trained(search, again, 0.79)
    assert verdicts[-1] is STOP
    assert max(search.records[left.number].curve) == pytest.approx(2 / 3, abs=1e-6)
    assert len(verdicts) <= 2  # at a third: what it had reported there was never judged
