"""Both runners under the same search, with toy trials: real Ray, real ledger."""

import os
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import ray.cloudpickle

from hpo.errors import DivergedError, ServiceError
from hpo.ledger import Ledger
from hpo.records import (
    AnyEvent,
    Objective,
    Report,
    TrialConfig,
    TrialFinished,
    TrialReported,
    TrialStarted,
    TrialState,
    Verdict,
)
from hpo.runners.inline import InlineRunner
from hpo.runners.ray import RayRunner
from hpo.runners.toy import ToyObjective
from hpo.samplers import RandomConfig
from hpo.schedulers import AshaConfig, FifoConfig
from hpo.space import FloatRange, SearchSpace
from hpo.study.phases import SearchThenConfirm
from hpo.study.search import StudySearch
from hpo.study.steps import Ladder

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers can't import a test

SPACE = SearchSpace({"learning_rate": FloatRange(1e-5, 1e-1, log=True), "hidden_dropout_prob": FloatRange(0.0, 0.5)})


ASHA = AshaConfig()


def search(
    folder: Path, trials: int, scheduler: AshaConfig | FifoConfig = ASHA, events: list[AnyEvent] | None = None
) -> StudySearch:
    ledger = Ledger(folder, study="toy", mode="max", space=SPACE, sampler=RandomConfig(), seed=3)
    ledger.enqueue([("default", {"learning_rate": 1e-5, "hidden_dropout_prob": 0.5})])
    return StudySearch(
        ledger=ledger,
        scheduler=scheduler.build(SPACE, 3),
        metric="accuracy",
        mode="max",
        ladder=Ladder(scheduler.fractions()),
        emit=(events if events is not None else []).append,
        trials=trials,
    )


def outcomes(folder: Path) -> list[tuple[object, ...]]:
    own = search(folder, 0)
    return [
        (one.number, one.origin, tuple(one.params.items()), one.state, one.value, tuple(one.curve.items()))
        for one in own.records
    ]


@dataclass(frozen=True)
class Clumsy:
    """Trial 1 diverges, trial 2 raises what nobody expected, trial 3's process dies; the others are fine."""

    def __call__(self, config: TrialConfig) -> Iterator[Report]:
        if config.number == 1:
            raise DivergedError("the training loss is nan at step 1")
        if config.number == 2:
            raise ZeroDivisionError("nobody expected this")
        if config.number == 3:
            os._exit(9)
        yield from ToyObjective()(config)


def test_ray_and_inline_record_the_same_trials_one_at_a_time(tmp_path: Path) -> None:
    events: list[AnyEvent] = []
    InlineRunner(ToyObjective()).run(search(tmp_path / "inline", 12, events=events))
    RayRunner(ToyObjective(), at_most=1).run(search(tmp_path / "ray", 12))
    assert outcomes(tmp_path / "ray") == outcomes(tmp_path / "inline")
    states = Counter(record[3] for record in outcomes(tmp_path / "ray"))
    assert states[TrialState.PRUNED] > 0
    assert states.total() == 12
    assert len([event for event in events if isinstance(event, TrialStarted)]) == 12
    assert len([event for event in events if isinstance(event, TrialFinished)]) == 12


def test_ray_records_every_kind_of_failure_and_goes_on(tmp_path: Path) -> None:
    objective: Objective = Clumsy()
    own = search(tmp_path, 7, FifoConfig())
    RayRunner(objective).run(own)
    records = {record.number: record for record in own.records}
    assert len(records) == 7
    assert {number for number, record in records.items() if record.state is TrialState.FAILED} == {1, 2, 3}
    assert records[1].reason == "DivergedError: the training loss is nan at step 1"
    assert "nobody expected this" in (records[2].reason or "")
    assert (records[3].reason or "").startswith("its process died 3 times; the last time: ")
    assert [one.kind for one in records[3].setbacks] == ["lost", "lost"]
    assert all(record.value is None for record in records.values() if record.state is TrialState.FAILED)


@pytest.mark.parametrize("when", ["ask", "report"])
def test_what_the_search_raises_comes_out_whole(tmp_path: Path, when: str) -> None:
    own = search(tmp_path, 4, FifoConfig())

    class Breaking(StudySearch):
        def ask(self) -> TrialConfig | None:
            if when == "ask" and len(self.records) == 1:
                raise ServiceError("storage: no space left")
            return super().ask()

        def report(self, number: int, report: Report) -> Verdict:
            if when == "report" and number == 1:
                raise ServiceError("storage: no space left")
            return super().report(number, report)

    breaking = Breaking(**{name: getattr(own, name) for name in own.__dataclass_fields__})
    with pytest.raises(ServiceError, match="no space left"):
        RayRunner(ToyObjective(), at_most=1).run(breaking)


def test_the_driver_s_signal_handlers_survive_ray(tmp_path: Path) -> None:
    import signal

    def handler(number: int, frame: object) -> None: ...

    before = signal.signal(signal.SIGTERM, handler)
    seen = []

    class Watching(StudySearch):
        def ask(self) -> TrialConfig | None:
            seen.append(signal.getsignal(signal.SIGTERM))
            return super().ask()

    try:
        own = search(tmp_path, 1)
        watching = Watching(**{name: getattr(own, name) for name in own.__dataclass_fields__})
        RayRunner(ToyObjective(), at_most=1).run(watching)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen
    assert set(seen) == {handler}


def test_a_trial_that_asks_for_more_than_there_is_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="lower `resources`"):
        RayRunner(ToyObjective(), gpus=64.0).run(search(tmp_path, 1))


def test_an_address_where_no_cluster_is_says_so(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="no Ray answers at"):
        RayRunner(ToyObjective(), address="127.0.0.1:1").run(search(tmp_path, 1))


def test_inline_lets_bugs_out_and_records_what_trials_say(tmp_path: Path) -> None:
    own = search(tmp_path, 7, FifoConfig())
    with pytest.raises(ZeroDivisionError):
        InlineRunner(Clumsy()).run(own)
    assert [record.state for record in own.records] == [TrialState.COMPLETE, TrialState.FAILED, TrialState.RUNNING]


def test_a_stopped_search_ends_soon_and_goes_on_later(tmp_path: Path) -> None:
    events: list[AnyEvent] = []
    own = search(tmp_path, 8, FifoConfig(), events)
    reports = 0

    def stop_after(event: AnyEvent) -> None:
        nonlocal reports
        events.append(event)
        reports += isinstance(event, TrialReported)
        if reports == 8:
            study.stopped_by = 15

    own.emit = stop_after
    study = SearchThenConfirm(own, lambda: None)
    RayRunner(ToyObjective(seconds=0.05)).run(study)
    unfinished = [record.number for record in own.records if not record.state.is_finished]
    assert unfinished
    assert len(own.records) < 8
    again = search(tmp_path, 8, FifoConfig(), events)
    for event in list(events):  # as the driver reads them back
        if isinstance(event, TrialReported):
            again.told.setdefault(event.number, set()).add(event.step)
    RayRunner(ToyObjective()).run(again)
    assert [record.number for record in again.records] == list(range(8))
    assert all(record.state is TrialState.COMPLETE for record in again.records)
    steps = Counter((event.number, event.step) for event in events if isinstance(event, TrialReported))
    assert set(steps.values()) == {1}


def test_tune_keeps_little_of_trials_that_have_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of its private parts two are reached into; that they are there, and that nothing is left in them."""
    from ray.tune.execution.tune_controller import TuneController

    seen: list[TuneController] = []
    ended = TuneController.cleanup

    def cleanup(self: TuneController) -> None:
        seen.append(self)
        ended(self)

    monkeypatch.setattr(TuneController, "cleanup", cleanup)
    assert callable(TuneController._mark_trial_to_checkpoint)
    RayRunner(ToyObjective(), at_most=1).run(search(tmp_path, 3, FifoConfig()))
    controller = seen[0]
    trials = controller.get_trials()
    assert len(trials) >= 3
    for trial in trials[:3]:
        assert trial.run_metadata.last_result["training_iteration"] == 3
        assert trial.run_metadata.metric_analysis == trial.run_metadata.metric_n_steps == {}
    assert len(controller._get_trial_checkpoints()) <= 1, "those that were there before the search was known"
