"""Every assignment of a finite space, once."""

from typing import TYPE_CHECKING, Literal

from hpo.samplers.base import SamplerConfig
from hpo.space import SearchSpace

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
