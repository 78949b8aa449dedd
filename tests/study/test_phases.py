"""The search and the confirmation as one: the second begins when nothing of the first runs any more."""

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import ray.cloudpickle

from hpo.ledger import Ledger
from hpo.ledger.seeds import SeedLedger
from hpo.records import Failure, FailureKind, Report, TrialConfig, TrialState
from hpo.runners.inline import InlineRunner
from hpo.runners.machine import cores
from hpo.runners.ray import RayRunner
from hpo.runners.toy import ToyObjective
from hpo.samplers import RandomConfig
from hpo.schedulers import FifoConfig
from hpo.space import Choice, FloatRange, Parameter, SearchSpace
from hpo.study.confirm import Confirmation, leaders
from hpo.study.phases import SearchThenConfirm
from hpo.study.search import StudySearch
from hpo.study.steps import Ladder
from hpo.study.trials import ranked

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers can't import a test

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


@dataclass(frozen=True)
class Together:
    """Leaves a mark with its process's number; trials and runs named in pairs begin when both are there."""

    folder: Path

    def __call__(self, config: TrialConfig) -> Iterator[Report]:
        (self.folder / f"{config.name}.{os.getpid()}").touch()
        end = time.monotonic() + 60
        for pair in ({"trial-0000", "trial-0001"}, {f"trial-{number:04d}-seed-1" for number in range(3)}):
            while config.name in pair and len(self._there(pair)) < 2 and time.monotonic() < end:
                time.sleep(0.02)
        yield from ToyObjective()(config)

    def _there(self, pair: set[str]) -> set[str]:
        return {mark.stem for mark in self.folder.iterdir()} & pair


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
    study.stopped_by = 15
    assert study.stopping


def test_a_stop_while_the_confirmation_is_made_is_not_forgotten(tmp_path: Path) -> None:
    InlineRunner(ToyObjective()).run(made(tmp_path, trials=1).search)
    study = made(tmp_path, trials=1)
    make = study.confirm

    def interrupted() -> Confirmation | None:
        study.stopped_by = 2
        return make()

    study.confirm = interrupted
    study.open()
    assert study.confirmation is not None
    assert study.stopping
    assert study.stopped_by == 2


def test_a_phase_that_can_t_go_on_stops_the_study_and_says_why(tmp_path: Path) -> None:
    study = made(tmp_path, trials=1)
    config = study.ask()
    assert config is not None
    study.failed(config.number, Failure(kind=FailureKind.BUG, reason="no driver"))
    assert study.stopping
    assert "no driver" in (study.trouble or "")
    assert study.confirmation is None


def test_a_search_in_which_nothing_finished_has_nothing_to_confirm(tmp_path: Path) -> None:
    study = made(tmp_path, Choice((0.9, 0.95)), trials=2)
    InlineRunner(ToyObjective()).run(study)
    assert {record.state for record in study.search.records} == {TrialState.FAILED}
    assert study.exhausted
    assert study.confirmation is None


@pytest.mark.skipif(cores() < 2, reason="two trials at a time need two cores")
def test_the_confirmation_begins_in_the_processes_of_the_search(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    RayRunner(Together(marks), at_most=2).run(made(tmp_path))
    assert len([*marks.iterdir()]) == 3 + 2 * 2
    assert len({mark.suffix for mark in marks.iterdir()}) == 2
