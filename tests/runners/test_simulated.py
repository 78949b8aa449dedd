"""A runner with its own clock, under toy objectives."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hpo.errors import DivergedError
from hpo.ledger import Ledger
from hpo.records import Report, Seeds, TrialConfig, TrialState, Verdict
from hpo.runners.simulated import SimulatedRunner, leads
from hpo.runners.toy import TimedToy
from hpo.samplers import TpeConfig
from hpo.schedulers import AshaConfig, FifoConfig
from hpo.space import FloatRange, IntRange, SearchSpace
from hpo.study.search import StudySearch
from hpo.study.steps import Ladder

SPACE = SearchSpace(
    {
        "learning_rate": FloatRange(1e-5, 1e-3, log=True),
        "hidden_dropout_prob": FloatRange(0.0, 0.3),
        "num_train_epochs": IntRange(1, 4),
    }
)


def timed(config: TrialConfig) -> Iterator[Report]:
    """Two reports; a trial takes as many seconds as its number plus one, each."""
    for step in (1, 2):
        metrics = {"accuracy": config.number / 10, "seconds": step * (config.number + 1.0), "epoch": float(step)}
        yield Report(step, step / 2, metrics, done=step == 2)


def failing(config: TrialConfig) -> Iterator[Report]:
    yield Report(1, 0.5, {"accuracy": 0.5, "seconds": 10.0, "epoch": 1.0})
    if config.number == 0:
        raise DivergedError("it diverges")
    yield Report(2, 1.0, {"accuracy": 0.6, "seconds": 20.0, "epoch": 2.0}, done=True)


@dataclass
class Queue:
    """So many trials, and what was said of them. stopped: trials that end at their first report."""

    left: int
    stopped: tuple[int, ...] = ()
    heard: list[tuple[int, int]] = field(default_factory=list)
    failures: list[int] = field(default_factory=list)
    handed_out: int = 0
    stopping: bool = False

    @property
    def exhausted(self) -> bool:
        return self.handed_out >= self.left

    def ask(self) -> TrialConfig:
        self.handed_out += 1
        return TrialConfig(self.handed_out - 1, {}, Seeds(0, 0))

    def report(self, number: int, report: Report) -> Verdict:
        self.heard.append((number, report.step))
        return Verdict.STOP if report.done or number in self.stopped else Verdict.CONTINUE

    def failed(self, number: int, reason: str) -> None:
        self.failures.append(number)


def study(
    trials: int | None,
    scheduler: AshaConfig | FifoConfig,
    runner: SimulatedRunner,
    folder: Path | None = None,
    **budget: float,
) -> StudySearch:
    return StudySearch(
        ledger=Ledger(folder, study="toy", mode="max", space=SPACE, sampler=TpeConfig(), seed=5),
        scheduler=scheduler.build(SPACE, 5),
        metric="accuracy",
        mode="max",
        ladder=Ladder.of(scheduler, SPACE),
        emit=lambda event: None,
        trials=trials,
        clock=runner.clock,
        **budget,  # type: ignore[arg-type]
    )


def test_reports_are_heard_in_the_order_of_simulated_time() -> None:
    search, runner = Queue(3), SimulatedRunner(timed, slots=3)
    runner.run(search)
    # trial 0 reports after 1 and 2 seconds, trial 1 after 2 and 4, trial 2 after 3 and 6
    assert search.heard == [(0, 1), (0, 2), (1, 1), (2, 1), (1, 2), (2, 2)]
    assert [moment.seconds for moment in runner.moments] == [1, 2, 2, 3, 4, 6]


def test_slots_run_beside_each_other_and_take_the_next_trial_when_they_are_free() -> None:
    one, two = SimulatedRunner(timed, slots=1), SimulatedRunner(timed, slots=2)
    one.run(Queue(3))
    two.run(Queue(3))
    assert one.clock.now == 2 + 4 + 6
    assert two.clock.now == 2 + 6  # the third trial follows the first
    assert one.busy == two.busy == 12


def test_training_that_was_stopped_is_spent_only_as_far_as_it_went() -> None:
    runner = SimulatedRunner(timed)
    runner.run(Queue(2, stopped=(1,)))
    assert runner.moments[-1].epochs == 2 + 1
    assert runner.clock.now == 2 + 2


def test_a_trial_that_fails_leaves_its_slot_to_the_next() -> None:
    search, runner = Queue(2), SimulatedRunner(failing)
    runner.run(search)
    assert search.failures == [0]
    assert search.heard == [(0, 1), (1, 1), (1, 2)]
    assert runner.clock.now == 30


def test_a_search_that_stops_is_left_at_once() -> None:
    @dataclass
    class Impatient(Queue):
        def report(self, number: int, report: Report) -> Verdict:
            self.stopping = True
            return super().report(number, report)

    search = Impatient(5)
    SimulatedRunner(timed, slots=2).run(search)
    assert search.heard == [(0, 1)]


def test_only_trials_that_ran_to_their_end_take_the_lead() -> None:
    runner = SimulatedRunner(timed)
    runner.run(Queue(4, stopped=(3,)))
    history = leads(runner.moments, "accuracy", "max")
    assert [(lead.number, lead.seconds, lead.epochs, lead.started) for lead in history] == [
        (0, 2, 2, 1),
        (1, 6, 4, 2),
        (2, 12, 6, 3),
    ]
    assert [lead.value for lead in leads(runner.moments, "accuracy", "min")] == [0.0]


def test_trials_that_have_not_reported_yet_were_started_all_the_same() -> None:
    runner = SimulatedRunner(timed, slots=3)
    runner.run(Queue(4))
    assert [(lead.number, lead.started) for lead in leads(runner.moments, "accuracy", "max")] == [
        (0, 3),  # after two seconds, when the third trial still works on its first report
        (1, 4),
        (2, 4),
        (3, 4),
    ]


def test_hours_are_those_of_the_simulated_clock() -> None:
    runner = SimulatedRunner(TimedToy(epoch_seconds=60.0), slots=2)
    search = study(None, FifoConfig(), runner, seconds=3600.0)
    began = time.process_time()
    runner.run(search)
    assert time.process_time() - began < 30
    assert 3600 <= runner.clock.now < 3600 + 4 * 60
    assert search.ledger.seconds_used == runner.clock.now


def test_a_simulated_study_is_the_same_every_time() -> None:
    def played() -> list[tuple[object, ...]]:
        runner = SimulatedRunner(TimedToy(), slots=3)
        search = study(20, AshaConfig(), runner)
        runner.run(search)
        return [(record.params, record.state, record.value, record.curve) for record in search.records]

    assert played() == played()


def test_a_ledger_in_memory_makes_the_same_study_as_one_on_disk(tmp_path: Path) -> None:
    found = []
    for folder in (None, tmp_path):
        runner = SimulatedRunner(TimedToy(), slots=2)
        search = study(15, AshaConfig(), runner, folder=folder)
        runner.run(search)
        found.append([(record.params, record.state, record.value, record.curve) for record in search.ledger.records()])
    assert found[0] == found[1]


def test_asha_in_simulated_time_spends_less_than_full_trials() -> None:
    spent = {}
    for scheduler in (AshaConfig(), FifoConfig()):
        runner = SimulatedRunner(TimedToy(), slots=4)
        search = study(30, scheduler, runner)
        runner.run(search)
        spent[scheduler.type] = runner.moments[-1].epochs
        assert len(search.records) == 30
    assert any(record.state is TrialState.COMPLETE for record in search.records)
    assert spent["asha"] < 0.7 * spent["fifo"]


def test_a_thousand_trials_take_less_than_a_minute() -> None:
    runner = SimulatedRunner(TimedToy(), slots=4)
    search = study(1000, AshaConfig(), runner)
    began = time.process_time()
    runner.run(search)
    assert time.process_time() - began < 60
    assert len(search.records) == 1000
