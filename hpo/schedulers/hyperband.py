"""Asynchronous Hyperband: several ASHA brackets, from one that stops early to one that does not stop at all."""

import bisect
import itertools
import math
from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from hpo.records import Verdict
from hpo.schedulers.asha import Asha, geometric
from hpo.schedulers.base import Resource, Scheduler, SchedulerConfig
from hpo.space import Params, SearchSpace

_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0
"""Its multiples, taken modulo 1, fill the unit interval evenly from the first one on (Weyl)."""


class HyperbandConfig(SchedulerConfig):
    """Asynchronous Hyperband. Li et al., JMLR 2018, arXiv:1603.06560, with the brackets run by ASHA, arXiv:1810.05934.

    A hedge against rungs that come too early to tell: bracket 0 has all of ASHA's rungs, each further one begins a rung
    later, and trials are compared within their bracket. Every bracket gets about the same training, so a bracket with
    k rungs below the end gets reduction_factor^k / (k + 1) shares of the trials.
    brackets: how many; None takes one for each rung, so that in the last one every trial runs to its end.
    """

    type: Literal["hyperband"] = "hyperband"
    reduction_factor: Annotated[float, Field(gt=1.0, le=100.0)] = 3.0
    rungs: Annotated[int, Field(ge=1, le=20)] = 3
    brackets: Annotated[int, Field(ge=1, le=20)] | None = None
    resource: Resource = "progress"

    @model_validator(mode="after")
    def _each_bracket_begins_at_a_rung(self) -> Self:
        if self.brackets is not None and self.brackets > self.rungs:
            raise ValueError(
                f"brackets: {self.brackets} are asked for, but each begins at a rung of its own and rungs is "
                f"{self.rungs}; lower brackets, or raise rungs"
            )
        return self

    def fractions(self) -> tuple[float, ...]:
        return geometric(self.reduction_factor, self.rungs)

    def build(self, space: SearchSpace, seed: int) -> Scheduler:
        return Hyperband(self.fractions(), self.reduction_factor, self.brackets or self.rungs)


class Hyperband:
    """A trial's bracket follows from its number alone, so that it is the same after a restart."""

    def __init__(self, fractions: Sequence[float], reduction_factor: float, brackets: int) -> None:
        self._brackets = [Asha(fractions[first:], reduction_factor) for first in range(brackets)]
        halvings = [len(fractions) - 1 - first for first in range(brackets)]
        shares = list(itertools.accumulate(reduction_factor**count / (count + 1) for count in halvings))
        self._ends = [share / shares[-1] for share in shares[:-1]]

    def start(self, number: int, params: Params) -> None:
        """Nothing to remember."""

    def report(self, number: int, level: float, value: float) -> Verdict:
        return self._brackets[self.bracket(number)].report(number, level, value)

    def recall(self, number: int, rung: float, value: float) -> None:
        self._brackets[self.bracket(number)].recall(number, rung, value)

    def bracket(self, number: int) -> int:
        """Spread evenly: any run of consecutive trials has nearly its share in each bracket."""
        return bisect.bisect_right(self._ends, (number * _GOLDEN) % 1.0)
