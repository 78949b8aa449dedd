"""Trials of a toy study that fail and are trained again: what the ledger, the events and the next driver know."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hpo.errors import OutOfMemoryError
from hpo.ledger import Ledger
from hpo.ledger.seeds import SeedLedger
from hpo.records import (
    AnyEvent,
    Failure,
    FailureKind,
    Report,
    Seeds,
    TrialConfig,
    TrialFinished,
    TrialNoted,
    TrialRecord,
    TrialReported,
    TrialState,
)
from hpo.runners.inline import InlineRunner
from hpo.runners.toy import ToyObjective
from hpo.samplers import RandomConfig
from hpo.schedulers import FifoConfig
from hpo.space import FloatRange, Scalar, SearchSpace
from hpo.study.confirm import Confirmation
from hpo.study.retries import Need, Retries, Rows
from hpo.study.search import StudySearch
from hpo.study.steps import Ladder

SPACE = SearchSpace({"learning_rate": FloatRange(1e-5, 1e-1, log=True)})
LOST = Failure(kind=FailureKind.LOST, reason="its worker was killed")
MakeSearch = Callable[..., StudySearch]


@pytest.fixture
def make(tmp_path: Path) -> MakeSearch:
    def search(events: list[AnyEvent], **options: Any) -> StudySearch:
        return StudySearch(
            ledger=Ledger(tmp_path, study="s", mode="max", space=SPACE, sampler=RandomConfig(), seed=1),
            scheduler=FifoConfig().build(SPACE, 1),
            metric="accuracy",
            mode="max",
            ladder=Ladder(FifoConfig().fractions()),
            emit=events.append,
            **options,
        )

    return search


@dataclass
class Cramped:
    """Takes as many rows at a time as it is allowed, and runs out of memory in the middle where they are too many."""

    fits: int = 5
    taken: list[int] = field(default_factory=list)

    def __call__(self, config: TrialConfig) -> Iterator[Report]:
        rows = config.micro_batch or 32
        self.taken.append(rows)
        for place, report in enumerate(ToyObjective()(config)):
            if place == 1 and rows > self.fits:
                raise OutOfMemoryError(f"{rows} rows")
            yield report


def test_a_trial_out_of_memory_ends_well_and_later_ones_begin_with_what_fits(make: MakeSearch) -> None:
    events: list[AnyEvent] = []
    objective = Cramped()
    own = make(events, trials=3)
    InlineRunner(objective).run(own)
    assert objective.taken == [32, 16, 8, 4, 4, 4]
    assert [record.state for record in own.records] == [TrialState.COMPLETE] * 3
    assert [record.micro_batch for record in own.records] == [4, None, None]
    assert [one.kind for one in own.records[0].setbacks] == [FailureKind.OUT_OF_MEMORY] * 3
    notes = [event for event in events if isinstance(event, TrialNoted)]
    assert [note.tags["hpo.micro_batch_size"] for note in notes] == ["16", "8", "4"]
    assert notes[0].text == "out of memory with 32 rows at a time; again with 16, the batch stays 32"
    reported = [(event.number, event.step) for event in events if isinstance(event, TrialReported)]
    assert len(reported) == len(set(reported))
    assert sum(isinstance(event, TrialFinished) for event in events) == 3


def test_the_next_driver_knows_what_fits(make: MakeSearch) -> None:
    InlineRunner(Cramped()).run(make([], trials=1))
    again = Cramped()
    InlineRunner(again).run(make([], trials=3))
    assert again.taken == [4, 4]


def test_a_row_that_never_fits_fails_the_trial(make: MakeSearch) -> None:
    own = make([], trials=1)
    InlineRunner(Cramped(fits=0)).run(own)
    assert own.records[0].state is TrialState.FAILED
    assert "one row at a time" in (own.records[0].reason or "")


def record(number: int = 0, **params: Scalar) -> TrialRecord:
    return TrialRecord(
        number=number, state=TrialState.RUNNING, origin="first", params=params, seeds=Seeds(init=1, order=2)
    )


def short(stage: Any) -> Failure:
    return Failure(kind=FailureKind.OUT_OF_MEMORY, reason="no memory", stage=stage)


def test_what_a_large_model_needs_does_not_bind_a_small_one() -> None:
    own = Retries()
    own.judge(record(model="large"), short("task"), Rows())
    assert own.rows(record(1, model="large")) == Rows(task=16)
    assert own.rows(record(2, model="small")) == Rows()


@pytest.mark.parametrize(
    "heavier",
    [
        {"rdrop_alpha": 1.0},
        {"adversarial": "fgm"},
        {"averaging": "ema"},
        {"bf16": False},
    ],
)
def test_what_is_too_much_for_a_plain_trial_is_too_much_for_a_heavier_one_and_not_the_other_way_round(
    heavier: dict[str, Scalar],
) -> None:
    plain, heavy = record(), record(1, **heavier)
    own = Retries()
    own.judge(heavy, short("task"), Rows())
    assert own.rows(plain) == Rows()
    own = Retries()
    own.judge(plain, short("task"), Rows())
    assert own.rows(heavy) == Rows(task=16)


@pytest.mark.parametrize("coupling", [{"supcon_weight": 0.1}, {"mixup_alpha": 0.2}])
def test_a_trial_whose_rows_meet_is_not_given_fewer_at_a_time(coupling: dict[str, Scalar]) -> None:
    """It would learn something else, and its score be that of other hyperparameters."""
    own = Retries()
    own.judge(record(), short("task"), Rows())
    coupled = record(1, **coupling)
    assert own.rows(record(2)) == Rows(task=16)
    assert own.rows(coupled) == own.rows(coupled.model_copy(update={"micro_batch": 4})) == Rows()
    (name,) = coupling
    assert own.judge(coupled, short("task"), Rows()) == (
        f"out of memory with 32 rows at a time, which {name} needs together; lower per_device_train_batch_size "
        "(no memory)"
    )
    again = own.judge(coupled, short(None), Rows())  # whoever took the memory of its machine
    assert not isinstance(again, str)
    assert own.rows(again[0]).task is None
    params = {**coupling, "adapt_per_device_train_batch_size": 64}
    assert not isinstance(own.judge(record(3, **params), short("adapt"), Rows()), str)  # where they never meet


@pytest.mark.parametrize("lighter", [{"peft": "lora"}, {"frozen_layers": 2}, {"freeze_embeddings": True}])
def test_what_is_too_much_for_a_whole_model_may_fit_where_less_of_it_is_trained(lighter: dict[str, Scalar]) -> None:
    own = Retries()
    own.judge(record(), short("task"), Rows())
    assert own.rows(record(1, **lighter)) == Rows()
    assert Need.of(record(), "task").is_at_least(Need.of(record(1, **lighter), "task"))


def test_a_stage_that_is_short_of_memory_leaves_the_task_its_batches() -> None:
    own, params = Retries(), {"adapt_per_device_train_batch_size": 64}
    again = own.judge(record(**params), short("adapt"), Rows())
    assert not isinstance(again, str)
    trial, note = again
    assert (trial.micro_batch, trial.adapt_micro_batch) == (None, 32)
    assert note.text == (
        "out of memory while its model was adapted, with 64 rows at a time; again with 32, the batch stays 64"
    )
    assert note.tags["hpo.adapt_micro_batch_size"] == "32"
    assert own.rows(record(1, **params)) == Rows(adapt=32)
    assert Retries.after([trial]).rows(record(1, **params)) == Rows(adapt=32)
    last = own.judge(trial, short("adapt"), Rows(adapt=1))
    assert isinstance(last, str)
    assert "lower stages.adapt.task.max_length" in last


def test_where_nobody_knows_which_stage_was_short_of_memory_both_get_fewer_rows() -> None:
    own = Retries()
    again = own.judge(record(), short(None), Rows(task=8))
    assert not isinstance(again, str)
    assert (again[0].micro_batch, again[0].adapt_micro_batch) == (4, 16)
    assert own.rows(record(1)) == Rows(task=4, adapt=16)  # as after a resume, which knows no more


def test_the_ledger_keeps_how_many_rows_fit_in_either_stage(make: MakeSearch) -> None:
    own = make([], trials=1)
    config = own.ask()
    assert config is not None
    own.failed(config.number, short("adapt"))
    own.failed(config.number, LOST)  # is not running any more
    again = make([], trials=1).ask()
    assert again is not None
    assert (again.micro_batch, again.adapt_micro_batch) == (None, 16)


def test_a_lost_trial_is_given_out_again_before_others_and_counts_once(make: MakeSearch) -> None:
    events: list[AnyEvent] = []
    own = make(events, trials=2)
    first, second = own.ask(), own.ask()
    assert first is not None
    assert second is not None
    assert own.exhausted
    own.failed(first.number, LOST)
    assert not own.exhausted
    again = own.ask()
    assert again == first
    assert own.exhausted
    assert [record.state for record in own.records] == [TrialState.RUNNING] * 2


def test_setbacks_count_over_drivers(make: MakeSearch) -> None:
    InlineRunner(ToyObjective()).run(make([], trials=1))
    for _ in range(2):
        own = make([], trials=2)
        config = own.ask()
        assert config is not None
        own.failed(config.number, LOST)
    last = make([], trials=2)
    assert last.ask() is not None
    assert len(last.records[1].setbacks) == 2
    last.failed(1, LOST)
    assert last.records[1].state is TrialState.FAILED
    assert (last.records[1].reason or "").startswith("its process died 3 times")
    assert last.exhausted


def test_epochs_are_spent_once(make: MakeSearch) -> None:
    own = make([], epochs=10.0)
    config = own.ask()
    assert config is not None
    for _ in range(2):
        for step in (1, 2, 3):
            own.report(config.number, Report(step, step / 9, {"accuracy": 0.5, "epoch": float(step)}))
        own.failed(config.number, LOST)
        assert own.ask() == config
    assert not own.exhausted
    assert own._epochs_spent == 3.0


def test_what_a_trial_says_of_itself_is_an_event(make: MakeSearch) -> None:
    events: list[AnyEvent] = []
    own = make(events, trials=1)
    config = own.ask()
    assert config is not None
    own.report(config.number, Report(1, 0.1, {"accuracy": 0.5}, notes=("it goes on after step 1 of 9",)))
    assert [event.text for event in events if isinstance(event, TrialNoted)] == ["it goes on after step 1 of 9"]


def test_what_a_trial_had_written_down_is_removed_when_it_ends_and_not_before(make: MakeSearch) -> None:
    gone: list[str] = []
    own = make([], trials=1, forget=gone.append)
    config = own.ask()
    assert config is not None
    own.failed(config.number, LOST)
    assert gone == []
    assert own.ask() is not None
    own.report(config.number, Report(9, 1.0, {"accuracy": 0.5}, done=True))
    assert gone == ["trial-0000"]


def test_a_run_over_a_fresh_seed_is_tried_again_too(make: MakeSearch, tmp_path: Path) -> None:
    own = make([], trials=2)
    InlineRunner(ToyObjective()).run(own)
    events: list[AnyEvent] = []

    def confirmation() -> Confirmation:
        return Confirmation(
            ledger=SeedLedger(tmp_path, study="s", mode="max", seed=1),
            trials=own.records,
            seeds=2,
            confidence=0.95,
            metric="accuracy",
            mode="max",
            ladder=Ladder(FifoConfig().fractions()),
            emit=events.append,
            baseline=None,
        )

    first = confirmation()
    config = first.ask()
    assert config is not None
    first.failed(config.number, LOST)
    second = confirmation()
    objective = Cramped()
    InlineRunner(objective).run(second)
    assert objective.taken[:4] == [32, 16, 8, 4]
    assert set(objective.taken[4:]) == {4}
    assert all(len(one.values) == 2 and one.failed == 0 for one in second.standing)
    runs = second.ledger.finished()
    kinds = [one.kind for one in runs[config.of or 0, config.replicate].setbacks]
    assert kinds == [FailureKind.LOST, *[FailureKind.OUT_OF_MEMORY] * 3]
