"""Samplers: who proposes params. One frozen config class each; `build` makes the Optuna sampler.

Optuna is imported by `build` alone. A sampler is built anew for every trial, seeded by the study's seed and the
trial's number: what it proposes follows from the ledger and nothing else. With one trial at a time, a resumed study
goes on as if it had never stopped.
"""

import warnings
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from hpo.space import SearchSpace

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


class SamplerConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RandomConfig(SamplerConfig):
    """Independent draws. Bergstra and Bengio, JMLR 2012."""

    type: Literal["random"] = "random"

    def build(self, space: SearchSpace, seed: int) -> "BaseSampler":
        from optuna.samplers import RandomSampler

        return RandomSampler(seed=seed)


class TpeConfig(SamplerConfig):
    """Tree-structured Parzen estimator, multivariate, with the constant liar for trials that still run.

    Bergstra et al., NeurIPS 2011; Watanabe, arXiv:2304.11127. n_startup_trials: random ones before the model is used.
    n_ei_candidates: draws among which expected improvement chooses.
    """

    type: Literal["tpe"] = "tpe"
    n_startup_trials: Annotated[int, Field(ge=1)] = 8
    n_ei_candidates: Annotated[int, Field(ge=1)] = 24

    def build(self, space: SearchSpace, seed: int) -> "BaseSampler":
        from optuna.exceptions import ExperimentalWarning
        from optuna.samplers import TPESampler

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # `group`, in Optuna since 2.8
            return TPESampler(
                n_startup_trials=self.n_startup_trials,
                n_ei_candidates=self.n_ei_candidates,
                multivariate=True,
                group=space.is_conditional,
                constant_liar=True,
                seed=seed,
            )


Sampler: TypeAlias = Annotated[RandomConfig | TpeConfig, Field(discriminator="type")]
