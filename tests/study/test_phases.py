"""The search and the confirmation as one: the second begins when nothing of the first runs any more."""

from pathlib import Path

from hpo.ledger import Ledger
from hpo.ledger.seeds import SeedLedger
from hpo.records import Report, TrialConfig, TrialState
from hpo.runners.inline import InlineRunner
from hpo.runners.toy import ToyObjective
from hpo.samplers import RandomConfig
from hpo.schedulers import FifoConfig
from hpo.space import Choice, FloatRange, Parameter, SearchSpace
from hpo.study.confirm import Confirmation, leaders
from hpo.study.phases import SearchThenConfirm
from hpo.study.search import StudySearch
from hpo.study.steps import Ladder
from hpo.study.trials import ranked

RATES = FloatRange(1e-5, 1e-1, log=True)


def made(folder: Path, rates: Parameter = RATES, trials: int = 3) -> SearchThenConfirm:
    space, fifo = SearchSpace({"learning_rate": rates}), FifoConfig()
    ladder = Ladder(fifo.fractions())
    ledger = Ledger(folder, study="s", mode="max", space=space, sampler=RandomConfig(), seed=1)
    search = StudySearch(
        ledger=ledger,
        scheduler=fifo.build(space, 1),
        metric="accuracy",
        mode="max",
        ladder=ladder,
        emit=lambda event: None,
        trials=trials,
    )

    def confirm() -> Confirmation | None:
        complete = ranked(search.records, "max")
        fresh = SeedLedger(folder, study="s", mode="max", seed=1)
        emit = search.emit
        if not complete:
            return None
        return Confirmation(fresh, leaders(complete, 2, None), 2, 0.95, "accuracy", "max", ladder, emit, None)

    return SearchThenConfirm(search, confirm)


def last(config: TrialConfig, value: float) -> Report:
    return Report(1, 1.0, {"accuracy": value}, done=True)


def test_one_run_of_a_runner_searches_and_confirms(tmp_path: Path) -> None:
    study = made(tmp_path)
    InlineRunner(ToyObjective()).run(study)
    assert study.confirmation is not None
    assert len(study.search.records) == 3
    assert [len(one.values) for one in study.confirmation.standing] == [2, 2]
    again = made(tmp_path)
    assert not again.exhausted
    assert again.confirmation is None, "asking whether it is over makes nothing"
    again.open()
    assert again.exhausted
    assert again.confirmation is not None
    assert again.confirmation.standing == study.confirmation.standing


def test_a_space_that_is_tried_out_is_confirmed_too(tmp_path: Path) -> None:
    study = made(tmp_path, Choice((1e-3, 1e-2)), trials=9)
    InlineRunner(ToyObjective()).run(study)
    assert len(study.search.records) == 2
    assert study.confirmation is not None
    assert study.confirmation.exhausted


def test_the_confirmation_waits_for_the_last_trial_of_the_search(tmp_path: Path) -> None:
    study = made(tmp_path, trials=2)
    first, second = study.ask(), study.ask()
    assert first is not None
    assert second is not None
    study.report(first.number, last(first, 0.5))
    assert study.ask() is None
    assert not study.exhausted
    study.report(second.number, last(second, 0.6))
    seed = study.ask()
    assert seed is not None
    assert (seed.of, seed.replicate) == (second.number, 1)


def test_a_stop_is_passed_to_what_is_under_way(tmp_path: Path) -> None:
    study = made(tmp_path, trials=1)
    config = study.ask()
    assert config is not None
    study.report(config.number, last(config, 0.5))
    study.ask()
    study.stop(15)
    assert study.stopping
    assert study.stopped_by == 15
    assert study.search.stopped_by is None


def test_a_search_in_which_nothing_finished_has_nothing_to_confirm(tmp_path: Path) -> None:
    study = made(tmp_path, Choice((0.9, 0.95)), trials=2)
    InlineRunner(ToyObjective()).run(study)
    assert {record.state for record in study.search.records} == {TrialState.FAILED}
    assert study.exhausted
    assert study.confirmation is None
