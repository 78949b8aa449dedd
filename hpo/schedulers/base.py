"""What every scheduler and its configuration have in common."""

from typing import Literal, Protocol, TypeAlias

from pydantic import BaseModel, ConfigDict

from hpo.records import Exploit, Verdict
from hpo.space import Params

Resource: TypeAlias = Literal["progress", "samples"]
"""What a level of training is counted in. progress: the part of a trial's own schedule, so that all trials are
compared equally far into their warm-up and decay. samples: rows trained on, as a part of those of the longest trial
that the space allows, so that all trials are compared after equal training."""


class Scheduler(Protocol):
    """level: how far the trial is, in (0, 1], counted in the resource of the configuration. Values are to be
    maximised; whoever minimises passes the negative. Levels of one trial come in rising order."""

    def start(self, number: int, params: Params) -> None:
        """The trial trains with `params` from here on: it begins, begins again, or has done what `Exploit` said. Comes
        before its first report."""
        ...

    def report(self, number: int, level: float, value: float) -> Verdict | Exploit: ...

    def recall(self, number: int, rung: float, value: float) -> None:
        """Remember a report that was answered before a restart, at exactly this of `fractions`. Another scheduler may
        have heard it: rungs at which the trial has never reported stay open."""
        ...


class Levels(Protocol):
    """What a scheduler's configuration says before anything runs."""

    @property
    def resource(self) -> Resource: ...

    def fractions(self) -> tuple[float, ...]:
        """The levels at which a trial has to report, in (0, 1], rising; the last one is 1."""
        ...


def has_reached(level: float, rung: float) -> bool:
    """Within a millionth, to which the ledger rounds progress: a level read back from it has reached the same rungs."""
    return level >= rung - 1e-6


class SchedulerConfig(BaseModel):
    """Each has `build(space, seed) -> Scheduler`: decisions follow from the study's seed and from what was reported."""

    model_config = ConfigDict(frozen=True, extra="forbid")
