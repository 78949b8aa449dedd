"""Schedulers: continue or stop, decided from the reports of all trials. Pure: no Ray, no clock, no disk.

A scheduler sees (trial, rung, value) and answers a Verdict. Its state is nothing but what was reported, so it is
rebuilt from the ledger by replaying it.
"""

import math
from typing import Annotated, Literal, Protocol, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from hpo.records import Verdict


class Scheduler(Protocol):
    """Values are to be maximised; whoever minimises passes the negative."""

    def report(self, number: int, progress: float, value: float) -> Verdict: ...


class SchedulerConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FifoConfig(SchedulerConfig):
    """Every trial runs to its end."""

    type: Literal["fifo"] = "fifo"

    def fractions(self) -> tuple[float, ...]:
        """The rungs, as fractions of a trial's own training."""
        return (1.0,)

    def build(self) -> Scheduler:
        return Fifo()


class AshaConfig(SchedulerConfig):
    """Asynchronous successive halving, stopping variant. Li et al., MLSys 2020, arXiv:1810.05934.

    A trial that reaches a rung goes on if its value is among the best 1/reduction_factor of those that reached it.
    The rungs lie at 1, 1/reduction_factor, 1/reduction_factor^2, ... of each trial's own training, `rungs` of them.
    """

    type: Literal["asha"] = "asha"
    reduction_factor: Annotated[float, Field(gt=1.0, le=100.0)] = 3.0
    rungs: Annotated[int, Field(ge=1, le=20)] = 3

    def fractions(self) -> tuple[float, ...]:
        return tuple(self.reduction_factor**-exponent for exponent in reversed(range(self.rungs)))

    def build(self) -> Scheduler:
        return Asha(self.fractions(), self.reduction_factor)


SchedulerUnion: TypeAlias = Annotated[FifoConfig | AshaConfig, Field(discriminator="type")]


class Fifo:
    def report(self, number: int, progress: float, value: float) -> Verdict:
        return Verdict.CONTINUE


class Asha:
    """Values reached at each rung, by trial number; a second report of the same trial at a rung changes nothing."""

    def __init__(self, fractions: tuple[float, ...], reduction_factor: float) -> None:
        self._rungs: dict[float, dict[int, float]] = {fraction: {} for fraction in fractions}
        self._reduction_factor = reduction_factor

    def report(self, number: int, progress: float, value: float) -> Verdict:
        """The verdict at the highest rung that `progress` has newly reached; CONTINUE between rungs and at the end."""
        verdict = Verdict.CONTINUE
        for fraction, values in self._rungs.items():
            if progress + 1e-9 < fraction or number in values:
                continue
            values[number] = value
            if fraction < 1.0 and not self._is_among_the_best(value, values):
                verdict = Verdict.STOP
        return verdict

    def _is_among_the_best(self, value: float, values: dict[int, float]) -> bool:
        """Among the best 1/reduction_factor of those seen, itself included; alone or with few, only as the best."""
        if math.isnan(value):
            return False
        keep = max(1, math.floor(len(values) / self._reduction_factor))
        return sum(other > value for other in values.values()) < keep
