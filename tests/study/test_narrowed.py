"""A finished study whose space is narrowed: who wins then, with which weights, and compared with what."""

from pathlib import Path
from typing import Any

import pytest

from hpo.ledger import Ledger
from hpo.records import AGAIN, BASELINE, AnyEvent, Report, Seeds, TrialDropped, TrialRecord, TrialState
from hpo.samplers import RandomConfig
from hpo.schedulers import AshaConfig
from hpo.space import FloatRange, SearchSpace
from hpo.study import history
from hpo.study.confirm import leaders
from hpo.study.search import StudySearch
from hpo.study.steps import Ladder
from hpo.study.told import catch_up
from hpo.study.trials import baseline_of, has_weights, ranked, remove_strangers, with_weights
from hpo.tracking.spool import Spool

WIDE, NARROW = 0.1, 0.05
RATES = {BASELINE: 0.01, "a": 0.04, "b": 0.03, "best": 0.09}


def opened(folder: Path, high: float) -> Ledger:
    space = SearchSpace({"learning_rate": FloatRange(1e-3, high)})
    return Ledger(folder, study="s", mode="max", space=space, sampler=RandomConfig(), seed=1)


def search_in(ledger: Ledger, **options: Any) -> StudySearch:
    scheduler = AshaConfig(reduction_factor=3, rungs=2)
    space = SearchSpace({"learning_rate": FloatRange(1e-3, WIDE)})
    defaults: dict[str, Any] = {"trials": 4, "keep": 1}
    return StudySearch(
        ledger=ledger,
        scheduler=scheduler.build(space, 1),
        metric="accuracy",
        mode="max",
        ladder=Ladder(scheduler.fractions()),
        emit=lambda event: None,
        **{**defaults, **options},
    )


def play(search: StudySearch, folder: Path, luck: float = 0.0) -> list[str]:
    """Train until the search is over; the value is the learning rate, and luck. Returns the origins of what ran."""
    origins = []
    while (config := search.ask()) is not None:
        origins.append(search.ledger.records()[-1].origin)
        value = float(config.params["learning_rate"]) + luck
        checkpoint = None
        if search.report(config.number, Report(1, 0.1, {"accuracy": value - 0.05, "epoch": 0.1})) != "continue":
            continue
        if config.keep_above is None or value >= config.keep_above:
            checkpoint = folder / "checkpoints" / config.name
            checkpoint.mkdir(parents=True)
            (checkpoint / "model.safetensors").write_bytes(b"x")
        metrics = {"accuracy": value, "epoch": 1.0}
        search.report(config.number, Report(9, 1.0, metrics, done=True, checkpoint=checkpoint))
    return origins


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """Four trials, of which the best one alone has weights, and the default configuration."""
    ledger = opened(tmp_path, WIDE)
    ledger.enqueue((name, {"learning_rate": rate}) for name, rate in RATES.items())
    search = search_in(ledger)
    play(search, tmp_path)
    assert [record.number for record in search.records if has_weights(record)] == [0, 3]
    return tmp_path


@pytest.mark.parametrize("budget", [{}, {"trials": 3}, {"seconds": 0.0}, {"epochs": 1.0}, {"target": 0.02}])
def test_the_best_trial_that_fits_wins_with_weights_of_its_own_assignment(finished: Path, budget: Any) -> None:
    ledger = opened(finished, NARROW)
    ledger.enqueue([("grid", {"learning_rate": 0.002})])
    history.train_again(ledger, "max")
    search = search_in(ledger, **budget)
    assert not search.exhausted
    ran = play(search, finished, luck=-0.02)  # its other seeds are unlucky, and the scheduler would stop it
    assert ran[0] == f"{AGAIN}1"
    assert len(ran) == 1, "what is owed is trained, and no more than the budget allows beside it"
    best, note = with_weights(ranked(search.records, "max"))
    assert has_weights(best)
    assert best.params == search.records[1].params
    assert note == (
        "trial 1 is the best one, but its weights are gone; "
        f"trial {best.number}, which trained the same assignment again, stands for it"
    )


def test_trials_that_the_space_has_dropped_leave_their_place_in_the_budget(finished: Path) -> None:
    search = search_in(opened(finished, 0.035), trials=4)  # two are dropped
    assert len(play(search, finished)) == 2
    assert sum(not record.dropped for record in search.records) == 4


def test_a_default_that_the_space_has_moved_is_trained_whatever_the_budget(finished: Path) -> None:
    ledger = opened(finished, NARROW)
    ledger.enqueue([(BASELINE, {"learning_rate": 0.02})])
    search = search_in(ledger, trials=1)
    assert play(search, finished) == [BASELINE]
    moved = baseline_of(search.records)
    assert moved is not None
    assert moved.number == 4
    assert [record.number for record in leaders(ranked(search.records, "max"), 1, moved.number)] == [1, 4]


def test_a_winner_without_weights_is_not_replaced_without_a_word(finished: Path) -> None:
    search = search_in(opened(finished, NARROW), trials=3)
    best, note = with_weights(ranked(search.records, "max"))
    assert best.number == 0
    assert note is not None
    assert note.startswith("trial 1 is the best one, but its weights are gone, and could not be trained again; trial 0")


def test_weights_that_are_gone_are_trained_again_without_a_change_too(finished: Path) -> None:
    ledger = opened(finished, WIDE)
    history.train_again(ledger, "max")
    assert ledger.queued == []
    best = ledger.records()[3]
    assert best.checkpoint is not None
    best.checkpoint.joinpath("model.safetensors").unlink()
    best.checkpoint.rmdir()
    history.train_again(ledger, "max")
    assert ledger.queued == [best.params]


def test_weights_of_dropped_trials_are_removed(finished: Path) -> None:
    records = opened(finished, NARROW).records()
    remove_strangers(finished / "checkpoints", records)
    assert [folder.name for folder in (finished / "checkpoints").iterdir()] == ["trial-0000"]


class Deaf:
    """A tracker of no use: what is appended is in the spool."""

    def apply(self, event: AnyEvent) -> None:
        pass

    def close(self) -> None:
        pass


def test_trackers_are_told_once_that_a_trial_was_dropped_and_that_it_is_back(finished: Path) -> None:
    spool = Spool(finished, Deaf)
    for high in (WIDE, NARROW, NARROW, WIDE, WIDE):
        catch_up(spool, opened(finished, high).records(), {})
    told = [event for event in spool.events() if isinstance(event, TrialDropped)]
    spool.close(5.0)
    assert [(event.number, event.dropped) for event in told] == [(3, True), (3, False)]


def default(number: int, **fields: Any) -> TrialRecord:
    known: dict[str, Any] = {"state": TrialState.COMPLETE, "value": 0.5, "params": {}, "seeds": Seeds(0, 0), **fields}
    return TrialRecord(number=number, origin=BASELINE, **known)


def test_the_newest_default_that_fits_is_the_one_to_compare_with() -> None:
    assert baseline_of([default(0), default(7)]) == default(7)
    assert baseline_of([default(0), default(7, dropped=True, value=None)]) == default(0)
    assert baseline_of([default(0), default(7, state=TrialState.FAILED, value=None)]) is None
