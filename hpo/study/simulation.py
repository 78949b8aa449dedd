"""A whole study in simulated time: its sampler, scheduler and budget as the space file has them, no training.

The ledger is a real one, in memory; nobody is told, nothing is promoted. Must not know what
stands in for the training.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from hpo.config import StudyConfig
from hpo.ledger import Ledger
from hpo.records import AnyEvent, Objective, TrialRecord, TrialState
from hpo.runners.simulated import Lead, Moment, SimulatedRunner, leads
from hpo.study.search import StudySearch
from hpo.study.steps import Ladder


@dataclass(frozen=True)
class Simulation:
    """How one study went. seconds: simulated wall time. busy: the same of all slots together, waiting not counted.

    epochs: of training, all trials together. leads: its best complete trial, over the time.
    """

    records: Sequence[TrialRecord]
    moments: Sequence[Moment]
    leads: Sequence[Lead]
    seconds: float
    busy: float

    @property
    def epochs(self) -> float:
        return self.moments[-1].epochs if self.moments else 0.0

    @property
    def best(self) -> Lead | None:
        return self.leads[-1] if self.leads else None

    def count(self, state: TrialState) -> int:
        return sum(record.state is state for record in self.records)


def simulate(config: StudyConfig, objective: Objective, *, seed: int, slots: int = 1) -> Simulation:
    """Play the study of `config` under `seed`, with `slots` trials beside each other."""
    runner = SimulatedRunner(objective, slots)
    ledger = Ledger(
        None,
        study=config.study,
        mode=config.mode,
        space=config.space,
        sampler=config.search.sampler,
        seed=seed,
    )
    ledger.enqueue(config.first_points())
    search = StudySearch(
        ledger=ledger,
        scheduler=config.search.scheduler.build(config.space, seed),
        metric=config.metric,
        mode=config.mode,
        ladder=Ladder.of(config.search.scheduler, config.space),
        emit=_ignore,
        trials=config.budget.trials,
        seconds=config.budget.hours * 3600 if config.budget.hours is not None else None,
        epochs=config.budget.epochs,
        target=config.budget.target,
        clock=runner.clock,
    )
    runner.run(search)
    records = tuple(search.records)
    moments = tuple(runner.moments)
    history = leads(moments, config.metric, config.mode)
    return Simulation(records, moments, tuple(history), runner.clock.now, runner.busy)


def _ignore(event: AnyEvent) -> None:
    """Nobody watches a simulation."""
