"""CMA-ES."""

import warnings
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from hpo.samplers.base import SamplerConfig
from hpo.space import SearchSpace

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

Variant = Literal["full", "separable", "margin", "lr_adapt"]


class CmaesConfig(SamplerConfig):
    """Covariance matrix adaptation. Hansen, arXiv:1604.00772.

    Learns how to draw the ranges; choices are drawn at random. Its distribution moves on with every `population_size`
    trials that it proposed itself: points that were queued teach it nothing. population_size: 4 + 3 ln(ranges) where
    none is given. n_startup_trials: random ones first. variant: `full` covariances; `separable`, the variances alone,
    for many ranges (Ros and Hansen, PPSN 2008; `full` where there is one range); `margin`, which keeps whole numbers
    and steps from freezing (Hamano et al., GECCO 2022); `lr_adapt`, for noise (Nomura et al., GECCO 2023). pruned:
    `rank` gives a pruned trial its last value, else two in three trials of ASHA would teach nothing; `ignore` leaves
    it out.
    """

    type: Literal["cmaes"] = "cmaes"
    n_startup_trials: Annotated[int, Field(ge=1)] = 1
    population_size: Annotated[int, Field(ge=4)] | None = None
    variant: Variant = "full"
    pruned: Literal["rank", "ignore"] = "rank"

    def build(self, space: SearchSpace, study_seed: int, trial_seed: int) -> "BaseSampler":
        from optuna.exceptions import ExperimentalWarning

        from hpo.samplers.proposing import Cmaes, Replayed, ranges_of

        ranges = ranges_of(space)

        def make(seed: int) -> Cmaes:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)  # variants and pruned trials, since 2.0 to 3.3
                return Cmaes(
                    ranges,
                    n_startup_trials=self.n_startup_trials,
                    popsize=self.population_size,
                    use_separable_cma=self.variant == "separable" and len(ranges) > 1,
                    with_margin=self.variant == "margin",
                    lr_adapt=self.variant == "lr_adapt",
                    consider_pruned_trials=self.pruned == "rank",
                    seed=seed,
                )

        return Replayed(make, trial_seed)
