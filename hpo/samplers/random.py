"""Independent draws."""

from typing import TYPE_CHECKING, Literal

from hpo.samplers.base import SamplerConfig
from hpo.space import SearchSpace

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


class RandomConfig(SamplerConfig):
    """Independent draws, each parameter by itself. Bergstra and Bengio, JMLR 2012."""

    type: Literal["random"] = "random"

    def build(self, space: SearchSpace, study_seed: int, trial_seed: int) -> "BaseSampler":
        from optuna.samplers import RandomSampler

        from hpo.samplers.proposing import Replayed

        return Replayed(lambda seed: RandomSampler(seed=seed), trial_seed)
