"""Gaussian process."""

import warnings
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from hpo.samplers.base import SamplerConfig
from hpo.space import SearchSpace

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


class GpConfig(SamplerConfig):
    """Gaussian process with log expected improvement. Ament et al., NeurIPS 2023, arXiv:2310.20708; several
    objectives by expected hypervolume improvement, Daulton et al., NeurIPS 2020, arXiv:2006.05078.

    Learns from complete trials alone: what a scheduler prunes teaches it nothing. Choices are modelled; a conditional
    parameter is drawn at random as soon as a complete trial has been without it. Costs tenths of a second a trial, and
    torch in the driver's memory. n_startup_trials: complete ones, random, before the model is used. deterministic:
    whether training the same twice gives the same value, so that the model fits every value exactly.
    """

    type: Literal["gp"] = "gp"
    n_startup_trials: Annotated[int, Field(ge=1)] = 10
    deterministic: bool = False

    def build(self, space: SearchSpace, study_seed: int, trial_seed: int) -> "BaseSampler":
        from optuna.exceptions import ExperimentalWarning

        from hpo.samplers.proposing import Gp, Replayed

        def make(seed: int) -> Gp:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)  # `deterministic_objective`, in Optuna since 3.6
                return Gp(
                    n_startup_trials=self.n_startup_trials,
                    deterministic_objective=self.deterministic,
                    warn_independent_sampling=False,
                    seed=seed,
                )

        return Replayed(make, trial_seed)
