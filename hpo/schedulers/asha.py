"""Asynchronous successive halving: the best few of those that reached a rung go on."""

import math
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from hpo.records import Verdict
from hpo.schedulers.base import Resource, Scheduler, SchedulerConfig, has_reached
from hpo.space import Params, SearchSpace


class AshaConfig(SchedulerConfig):
    """Asynchronous successive halving, stopping variant. Li et al., MLSys 2020, arXiv:1810.05934.

    A trial that reaches a rung goes on if its value is among the best 1/reduction_factor of those that reached it.
    The rungs lie at 1, 1/reduction_factor, 1/reduction_factor^2, ... of the resource, `rungs` of them. The defaults are
    those that held on all recorded tasks: below a quarter of a trial's schedule a value says little (docs/search.md).
    """

    type: Literal["asha"] = "asha"
    reduction_factor: Annotated[float, Field(gt=1.0, le=100.0)] = 2.0
    rungs: Annotated[int, Field(ge=1, le=20)] = 3
    resource: Resource = "progress"

    def fractions(self) -> tuple[float, ...]:
        return geometric(self.reduction_factor, self.rungs)

    def build(self, space: SearchSpace, seed: int) -> Scheduler:
        return Asha(self.fractions(), self.reduction_factor)


def geometric(reduction_factor: float, rungs: int) -> tuple[float, ...]:
    """1, and the powers of 1/reduction_factor below it; rising."""
    return tuple(reduction_factor**-exponent for exponent in reversed(range(rungs)))


class Asha:
    """Values reached at each rung, by trial number; a second report of the same trial at a rung changes nothing."""

    def __init__(self, fractions: Sequence[float], reduction_factor: float) -> None:
        self._rungs: dict[float, dict[int, float]] = {fraction: {} for fraction in fractions}
        self._reduction_factor = reduction_factor

    def start(self, number: int, params: Params) -> None:
        """Nothing to remember."""

    def report(self, number: int, level: float, value: float) -> Verdict:
        """The verdict at the rungs that `level` has newly reached; CONTINUE between rungs and at the end."""
        verdict = Verdict.CONTINUE
        for fraction, values in self._rungs.items():
            if number in values or not has_reached(level, fraction):
                continue
            values[number] = value
            if fraction < 1.0 and not self._is_among_the_best(value, values):
                verdict = Verdict.STOP
        return verdict

    def recall(self, number: int, rung: float, value: float) -> None:
        if rung in self._rungs:
            self._rungs[rung].setdefault(number, value)

    def _is_among_the_best(self, value: float, values: dict[int, float]) -> bool:
        """Among the best 1/reduction_factor of those seen, itself included; of few, only as the best so far.

        The paper lets nobody go on before reduction_factor trials are there, since it can resume one later. Stopping is
        for good, so the best so far goes on; letting all of the first few go on finds nothing better for the same
        epochs. Equals pass together: a tie, as among models that all name the most frequent class, is no evidence.
        """
        if math.isnan(value):
            return False
        keep = max(1, math.floor(len(values) / self._reduction_factor + 1e-9))
        return sum(other > value for other in values.values()) < keep
