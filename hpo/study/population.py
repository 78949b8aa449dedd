"""The search's side of population based training: who goes on from whom, and which states may go.

The ledger holds every exploit before anybody acts on it, so that a trial that is trained again does what it did the
first time. Must not know what a state is.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from hpo.ledger import PARTS, Ledger, part_of
from hpo.records import Exploit, Exploited, TrialRecord
from hpo.schedulers import Scheduler
from hpo.schedulers.pbt import CHANGEABLE, TOLERANCE, Pbt
from hpo.space import Scalar
from hpo.training.exchange import Exchange, parts

FOLDER = "population"
"""In the study's folder, where all machines see it."""

METRICS = (*CHANGEABLE, "peak_learning_rate", "weights_from")
"""What a member of a population reports besides: the values in force, and whose weights it trains."""


@dataclass(frozen=True)
class Population:
    """levels: at which trials leave their states, rising, below 1."""

    ledger: Ledger
    scheduler: Pbt
    exchange: Exchange
    levels: tuple[float, ...]

    @classmethod
    def of(cls, scheduler: Scheduler, ledger: Ledger, levels: Iterable[float]) -> "Population | None":
        """None where the scheduler needs none. levels: all of the scheduler's."""
        if not isinstance(scheduler, Pbt):
            return None
        below = tuple(level for level in levels if level < 1.0)
        return cls(ledger, scheduler, Exchange((ledger.folder / FOLDER).resolve()), below)

    def open(self) -> None:
        """Before any trial runs, after the scheduler has seen the past: clear up after a crash. States that are gone,
        as they are when a study had finished, are not gone on from."""
        self.exchange.clean()
        there = self.exchange.states().keys()
        for number, level in self.scheduler.sources():
            if (number, parts(level)) not in there:
                self.scheduler.lose(number, level)

    def exploit(self, record: TrialRecord, progress: float, exploit: Exploit, source: TrialRecord) -> TrialRecord:
        """Write down that the trial goes on from another one, and tell it; saying so again changes nothing."""
        level = self._level(progress)
        if exploited_at(record, progress) is None:
            step = Exploited(
                level=level,
                progress=part_of(progress) / PARTS,
                source=exploit.source,
                params=dict(exploit.params),
                schedule=_descent(source, level, dict(exploit.params)),
            )
            record = record.model_copy(update={"exploits": (*record.exploits, step)})
            self.ledger.told(record)
        self.exchange.tell(record.number, level, exploit)
        self.scheduler.start(record.number, {**record.params, **exploit.params})
        return record

    def _level(self, progress: float) -> float:
        """The last one that was reached; 0 before the first."""
        return max((level for level in self.levels if level <= progress + TOLERANCE), default=0.0)

    def tidy(self, unfinished: Sequence[TrialRecord], reached: Mapping[int, float], *, is_over: bool) -> None:
        """Remove the states that nobody can need any more.

        unfinished: all trials that have not ended. reached: how far each has reported; one to be trained again, how far
        it had come. is_over: no further trial will start.
        """
        if is_over and not unfinished:
            self.exchange.remove()
            return
        last = {record.number: self._level(reached.get(record.number, 0.0)) for record in unfinished}
        lowest = min(last.values()) if is_over else 0.0
        wanted = {(number, level) for number, level in self.scheduler.sources() if level >= lowest}
        for record in unfinished:
            wanted |= {(one.source, one.level) for one in record.exploits}  # should it have to be trained again
            wanted |= {(record.number, level) for level in self.levels if level > last[record.number]}
        self.exchange.keep(wanted)


def exploited_at(record: TrialRecord, progress: float) -> Exploited | None:
    """What the trial was told after its report at this point of its training, if it was told to exploit."""
    return next((one for one in record.exploits if abs(one.progress - progress) < TOLERANCE), None)


def _descent(
    source: TrialRecord, level: float, params: dict[str, Scalar]
) -> tuple[tuple[float, dict[str, Scalar]], ...]:
    """All that the source's weights at `level` went through, and `params` from there on."""
    before = [one for one in source.exploits if one.level < level - TOLERANCE]
    past = before[-1].schedule if before else ((0.0, {name: source.params[name] for name in params}),)
    return (*past, (level, params))
