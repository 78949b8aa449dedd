"""Every assignment of a finite space, once."""

import math
from typing import TYPE_CHECKING, Literal

from hpo.samplers.base import SamplerConfig
from hpo.space import Choice, FloatRange, IntRange, SearchSpace, Varying

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

Order = Literal["shuffled", "file"]


class GridConfig(SamplerConfig):
    """Every assignment of the space once, then the study is over. Points that were queued are not proposed again.

    order: `shuffled` by the study's seed, so that a small budget sees all parts of the grid; `file` varies the last
    parameter of the space first. A parameter whose condition does not hold adds no points. A range needs a `step`,
    whole numbers have one.
    """

    type: Literal["grid"] = "grid"
    order: Order = "shuffled"

    def build(self, space: SearchSpace, study_seed: int, trial_seed: int) -> "BaseSampler":
        from hpo.samplers.proposing import Grid

        return Grid(space, self.order, study_seed, trial_seed)


def points_at_most(space: SearchSpace) -> int:
    """Size of the grid before conditions and constraints take points out of it. ValueError where a range has no step.

    Counts without listing: a range of whole numbers may be long.
    """
    return math.prod(_count(own) for own in space.varying.values())


def _count(own: Varying) -> int:
    match own:
        case Choice(values):
            return len(values)
        case IntRange():
            return (own.high - own.low) // own.step + 1
        case FloatRange():
            if own.step is None:
                raise ValueError("a range without a step has no grid")
            return math.floor((own.high - own.low) / own.step + 1e-9) + 1
