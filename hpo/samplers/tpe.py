"""Tree-structured Parzen estimator."""

import random
import warnings
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from hpo.samplers.base import SamplerConfig
from hpo.space import SearchSpace

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


class TpeConfig(SamplerConfig):
    """Tree-structured Parzen estimator. Bergstra et al., NeurIPS 2011; Watanabe, arXiv:2304.11127.

    Learns from complete trials, and from pruned ones by how far they came; conditional parameters are modelled in
    groups of those that come together. Of more than a thousand trials it weighs the best, and a thousand of the others
    that are evenly spread. n_startup_trials: random ones before the model is used. n_ei_candidates: draws
    among which expected improvement chooses. multivariate: models parameters together (Falkner et al., BOHB, ICML
    2018), else each by itself. constant_liar: takes trials that still run for bad ones, so that parallel trials differ.
    random_fraction: so many of the later trials are random all the same, so that a model that a few noisy values led
    astray finds back (rho of BOHB; what it is worth: docs/search.md).
    """

    type: Literal["tpe"] = "tpe"
    n_startup_trials: Annotated[int, Field(ge=1)] = 8
    n_ei_candidates: Annotated[int, Field(ge=1)] = 24
    multivariate: bool = True
    constant_liar: bool = True
    random_fraction: Annotated[float, Field(ge=0.0, le=1.0)] = 0.25

    def build(self, space: SearchSpace, study_seed: int, trial_seed: int) -> "BaseSampler":
        from optuna.exceptions import ExperimentalWarning
        from optuna.samplers import RandomSampler

        from hpo.samplers.proposing import Replayed
        from hpo.samplers.thinned import Thinned

        if random.Random(f"random/{trial_seed}").random() < self.random_fraction:
            return Replayed(lambda seed: RandomSampler(seed=seed), trial_seed)

        def make(seed: int) -> Thinned:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)  # `group`, in Optuna since 2.8
                return Thinned(
                    n_startup_trials=self.n_startup_trials,
                    n_ei_candidates=self.n_ei_candidates,
                    multivariate=self.multivariate,
                    group=self.multivariate and space.is_conditional,
                    constant_liar=self.constant_liar,
                    seed=seed,
                )

        return Replayed(make, trial_seed)
