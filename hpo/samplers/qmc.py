"""Quasi-random sequences."""

from typing import TYPE_CHECKING, Literal

from hpo.samplers.base import SamplerConfig
from hpo.space import SearchSpace

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


class QmcConfig(SamplerConfig):
    """A quasi-random sequence: covers the space more evenly than random draws. Bergstra and Bengio, JMLR 2012.

    sequence: `sobol` (best with a power of 2 of trials) or `halton`. scramble: shifted at random by the study's seed;
    without it the first point is the lower end of everything, and the seed changes nothing. Each parameter has a
    coordinate of its own, conditional ones too.
    """

    type: Literal["qmc"] = "qmc"
    sequence: Literal["sobol", "halton"] = "sobol"
    scramble: bool = True

    def build(self, space: SearchSpace, study_seed: int, trial_seed: int) -> "BaseSampler":
        from hpo.samplers.proposing import Qmc

        return Qmc(space, self.sequence, self.scramble, study_seed, trial_seed)
