"""A population of toys under the real search and ledger: who goes on from whom, what stays, what a crash changes."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hpo.ledger import Ledger
from hpo.records import AnyEvent, Report, Seeds, TrialConfig, TrialRecord, TrialReported, TrialState
from hpo.runners.inline import InlineRunner
from hpo.runners.ray import RayRunner
from hpo.runners.simulated import SimulatedRunner
from hpo.runners.toy import TimedToy, ToyObjective
from hpo.samplers import RandomConfig
from hpo.schedulers import FifoConfig, PbtConfig
from hpo.space import FloatRange, SearchSpace
from hpo.study.population import FOLDER
from hpo.study.search import StudySearch
from hpo.study.steps import Ladder
from hpo.study.trials import ranked

SPACE = SearchSpace({"learning_rate": FloatRange(1e-5, 1e-1, log=True), "hidden_dropout_prob": FloatRange(0.0, 0.5)})
PBT = PbtConfig()
TOY = ToyObjective(reports=8)


class Crash(BaseException):
    """The driver is gone."""


def ignore(event: AnyEvent) -> None:
    """Nobody is told."""


def search(
    folder: Path, trials: int, emit: Callable[[AnyEvent], None] = ignore, scheduler: Any = PBT, **options: Any
) -> StudySearch:
    ledger = Ledger(folder, study="toy", mode="max", space=SPACE, sampler=RandomConfig(), seed=5)
    return StudySearch(
        ledger=ledger,
        scheduler=scheduler.build(SPACE, 3),
        metric="accuracy",
        mode="max",
        ladder=Ladder(scheduler.fractions()),
        emit=emit,
        trials=trials,
        **options,
    )


def states(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / FOLDER).glob("*"))


def exploiting(records: list[TrialRecord]) -> list[TrialRecord]:
    return [record for record in records if record.exploits]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> list[TrialRecord]:
    own = search(tmp_path_factory.mktemp("whole"), 16)
    InlineRunner(TOY).run(own)
    return own.records


def test_the_lowest_go_on_from_others_and_every_trial_runs_to_its_end(finished: list[TrialRecord]) -> None:
    assert {record.state for record in finished} == {TrialState.COMPLETE}
    assert len(exploiting(finished)) >= 4
    for record in exploiting(finished):
        for one in record.exploits:
            source = finished[one.source]
            assert one.source < record.number
            assert source.curve[one.progress] > record.curve[one.progress]
            assert SPACE.contains({**record.params, **one.params})


def test_going_on_from_a_better_one_helps(finished: list[TrialRecord], tmp_path: Path) -> None:
    alone = search(tmp_path, 16, scheduler=FifoConfig())
    InlineRunner(TOY).run(alone)
    for record in exploiting(finished):
        before = alone.records[record.number]
        assert before.params == record.params
        assert before.value is not None
        assert record.value is not None
        assert record.value > before.value


def test_the_default_configuration_trains_with_its_own_values_to_the_end(tmp_path: Path) -> None:
    own = search(tmp_path, 4, scheduler=PbtConfig(quantile=0.5))
    points = [("first", 1e-3), ("default", 1e-5)]
    own.ledger.enqueue([(name, {"learning_rate": rate, "hidden_dropout_prob": 0.1}) for name, rate in points])
    own.ledger.enqueue([("first", {"learning_rate": 1e-5, "hidden_dropout_prob": 0.2})])
    InlineRunner(TOY).run(own)
    assert own.records[1].origin == "default"
    assert own.records[1].exploits == ()
    assert own.records[2].exploits


def test_a_schedule_tells_all_that_the_weights_went_through(finished: list[TrialRecord]) -> None:
    for record in exploiting(finished):
        last = record.exploits[-1]
        points = [point for point, _ in record.schedule]
        assert points == sorted(points)
        assert points[0] == 0.0
        assert record.schedule[-1] == (last.level, last.params)
        source = finished[last.source]
        before = [one.schedule for one in source.exploits if one.level < last.level]
        past = before[-1] if before else ((0.0, source.params),)
        assert record.schedule[:-1] == past
    assert any(len(record.schedule) > 2 for record in exploiting(finished))


def test_training_again_with_the_schedule_gives_the_same_value(finished: list[TrialRecord]) -> None:
    """Without noise, a toy with the schedule of the weights learns what they learnt."""
    for record in exploiting(finished):
        config = TrialConfig(0, record.params, Seeds(1, 2), rungs=(1.0,), schedule=record.schedule)
        *_, last = TOY(config)
        assert last.metrics["accuracy"] == pytest.approx(record.value, abs=1e-9)


def test_a_schedule_ends_where_the_best_weights_were_found() -> None:
    record = TrialRecord.model_validate(
        {
            "number": 1,
            "state": "complete",
            "origin": "tpe",
            "params": {"learning_rate": 1e-3},
            "seeds": Seeds(1, 2),
            "metrics": {"best_step": 5.0, "steps": 10.0},
            "exploits": [
                {"level": 0.25, "progress": 0.3, "source": 0, "params": {}, "schedule": [(0.0, {}), (0.25, {})]},
                {"level": 0.5, "progress": 0.5, "source": 0, "params": {}, "schedule": [(0.0, {}), (0.5, {})]},
            ],
        }
    )
    assert record.schedule == ((0.0, {}), (0.25, {}))
    assert record.model_copy(update={"metrics": {"best_step": 2.0, "steps": 10.0}}).schedule == ()


def test_only_outcomesthat_may_be_asked_for_stay_and_none_when_it_is_over(tmp_path: Path) -> None:
    most = 0

    def watch(event: AnyEvent) -> None:
        nonlocal most
        most = max(most, len([name for name in states(tmp_path) if name.endswith(".state")]))

    own = search(tmp_path, 30, watch)
    InlineRunner(TOY).run(own)
    assert 3 < most <= 3 * PBT.max_sources + 3 + 3  # those of the running one, and those that it went on from
    assert states(tmp_path) == []


def test_nothing_is_saved_under_another_scheduler(tmp_path: Path) -> None:
    own = search(tmp_path, 3, scheduler=FifoConfig())
    InlineRunner(TOY).run(own)
    assert not (tmp_path / FOLDER).exists()


def test_reports_say_whose_weights_are_trained(tmp_path: Path) -> None:
    events: list[AnyEvent] = []
    own = search(tmp_path, 12, events.append)
    InlineRunner(TOY).run(own)
    for record in own.records:
        told = [event for event in events if isinstance(event, TrialReported) and event.number == record.number]
        expected = {
            event.progress: next(
                (one.source for one in reversed(record.exploits) if one.progress < event.progress - 1e-6), record.number
            )
            for event in told
        }
        assert {event.progress: event.metrics["weights_from"] for event in told} == expected


@pytest.mark.parametrize("every", [5, 13])
def test_a_study_that_crashes_decides_as_one_that_does_not(
    finished: list[TrialRecord], tmp_path: Path, every: int
) -> None:
    seen: set[tuple[object, ...]] = set()

    def crash(event: AnyEvent) -> None:
        place = (event.kind, getattr(event, "number", None), getattr(event, "step", None))
        if place not in seen:
            seen.add(place)
            if len(seen) % every == 0:
                (tmp_path / FOLDER).mkdir(exist_ok=True)
                (tmp_path / FOLDER / ".trial-0003-250000.state.77").write_text("half")
                raise Crash

    while True:
        before = len(seen)
        own = search(tmp_path, 16, crash)
        assert not list((tmp_path / FOLDER).glob(".*"))
        try:
            InlineRunner(TOY).run(own)
        except Crash:
            continue
        if len(seen) == before:
            break
    assert own.records == finished


def test_an_instruction_that_was_written_down_is_given_again(tmp_path: Path) -> None:
    """The ledger had the exploit, and the driver was gone before the trial was told."""
    own = search(tmp_path, 16)
    InlineRunner(TOY).run(own)
    number = exploiting(own.records)[0].number
    crashed = search(tmp_path / "crashed", 16)
    exchange = crashed._population.exchange  # type: ignore[union-attr]

    def gone(*_: object) -> None:
        raise Crash

    object.__setattr__(exchange, "tell", gone)
    with pytest.raises(Crash):
        InlineRunner(TOY).run(crashed)
    left = search(tmp_path / "crashed", 16)
    assert [record.number for record in left.records if record.exploits] == [number]
    InlineRunner(TOY).run(left)
    assert left.records == own.records


def test_a_larger_budget_goes_on_without_the_outcomesthat_are_gone(tmp_path: Path) -> None:
    InlineRunner(TOY).run(search(tmp_path, 8))
    more = search(tmp_path, 24)
    InlineRunner(TOY).run(more)
    assert {record.state for record in more.records} == {TrialState.COMPLETE}
    assert all(one.source >= 8 for record in more.records[8:] for one in record.exploits)


def test_a_state_that_is_gone_all_the_same_fails_the_trial_that_asks_for_it(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Losing(ToyObjective):
        def __call__(self, config: TrialConfig) -> Iterator[Report]:
            for report in super().__call__(config):
                yield report
                assert config.population is not None
                for path in config.population.glob("*.state"):
                    path.unlink()

    own = search(tmp_path, 8)
    InlineRunner(Losing(reports=8)).run(own)
    outcomes = Counter(record.state for record in own.records)
    assert outcomes[TrialState.FAILED] > 0
    assert outcomes[TrialState.COMPLETE] > 0
    assert "can't be read" in next(record.reason or "" for record in own.records if record.state is TrialState.FAILED)


@pytest.mark.parametrize("slots", [1, 4, 9])
def test_trials_beside_each_other_in_simulated_time_make_a_population(tmp_path: Path, slots: int) -> None:
    own = search(tmp_path, 24)
    InlineRunner(TimedToy()).run(own) if slots == 1 else SimulatedRunner(TimedToy(), slots).run(own)
    assert {record.state for record in own.records} == {TrialState.COMPLETE}
    assert exploiting(own.records)
    assert states(tmp_path) == []


def test_members_on_ray_go_on_from_each_other(tmp_path: Path) -> None:
    own = search(tmp_path, 14)
    RayRunner(ToyObjective(reports=8, seconds=0.02), at_most=2).run(own)
    assert {record.state for record in own.records} == {TrialState.COMPLETE}
    assert exploiting(own.records)
    for record in exploiting(own.records):
        config = TrialConfig(0, record.params, Seeds(1, 2), schedule=record.schedule)
        *_, last = TOY(config)
        assert last.metrics["accuracy"] == pytest.approx(record.value, abs=1e-9)
    assert ranked(own.records, "max")[0].value is not None
