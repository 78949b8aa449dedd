"""Median stopping: a trial that never was as good as the middle one on average does not go on."""

import itertools
import math
from collections.abc import Sequence
from statistics import fmean, median
from typing import Annotated, Literal

from pydantic import Field

from hpo.records import Verdict
from hpo.schedulers.base import Resource, Scheduler, SchedulerConfig, has_reached
from hpo.space import Params, SearchSpace


class MedianConfig(SchedulerConfig):
    """The median stopping rule of Vizier. Golovin et al., KDD 2017, section 3.2.

    At `rungs` evenly spaced levels a trial is stopped if its best value so far is worse than the median of the running
    averages that the other trials had at that level. Vizier compares with trials that ran to their end; here all that
    came so far count, or the median would rise with those that were let through. Stops fewer trials than ASHA does.
    grace: part of the resource before the first decision. min_trials: others that a decision takes.
    """

    type: Literal["median"] = "median"
    rungs: Annotated[int, Field(ge=2, le=100)] = 6
    grace: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.25
    min_trials: Annotated[int, Field(ge=1, le=1000)] = 4
    resource: Resource = "progress"

    def fractions(self) -> tuple[float, ...]:
        return tuple(place / self.rungs for place in range(1, self.rungs + 1))

    def build(self, space: SearchSpace, seed: int) -> Scheduler:
        return MedianStopping(self.fractions(), self.grace, self.min_trials)


class MedianStopping:
    """Of each trial its values by level; a report between levels, or again, changes nothing. An average counts where
    all that goes into it is there: later values alone are better ones."""

    def __init__(self, fractions: Sequence[float], grace: float, min_trials: int) -> None:
        self._fractions = tuple(fractions)
        self._grace = grace
        self._min_trials = min_trials
        self._values: dict[int, dict[float, float]] = {}
        self._averages: dict[float, dict[int, float]] = {fraction: {} for fraction in fractions}

    def start(self, number: int, params: Params) -> None:
        """Nothing to remember."""

    def report(self, number: int, level: float, value: float) -> Verdict:
        """The verdict at the highest level that is newly reached; CONTINUE between levels and at the end."""
        known = self._values.get(number, {})
        new = [own for own in self._fractions if own not in known and has_reached(level, own)]
        for own in new:
            self.recall(number, own, value)
        if not new or new[-1] == self._fractions[-1]:
            return Verdict.CONTINUE
        return Verdict.CONTINUE if self._goes_on(number, new[-1]) else Verdict.STOP

    def recall(self, number: int, rung: float, value: float) -> None:
        own = self._values.setdefault(number, {})
        own.setdefault(rung, value if math.isfinite(value) else -math.inf)
        so_far: list[float] = []
        for level in itertools.takewhile(own.__contains__, self._fractions):
            so_far.append(own[level])
            self._averages[level][number] = fmean(so_far)

    def _goes_on(self, number: int, rung: float) -> bool:
        own = self._values[number]
        if own[rung] == -math.inf:
            return False
        if not has_reached(rung, self._grace):
            return True
        others = [average for other, average in self._averages[rung].items() if other != number]
        best = max(value for level, value in own.items() if level <= rung)
        if len(others) < self._min_trials:
            return True
        return best >= (middle := median(others)) or math.isclose(best, middle)  # the average of equals may be rounded
