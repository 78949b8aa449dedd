"""NSGA-II."""

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from hpo.samplers.base import SamplerConfig
from hpo.space import SearchSpace

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

Crossover = Literal["uniform", "blx_alpha", "sbx", "vsbx", "spx", "undx"]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]


class Nsga2Config(SamplerConfig):
    """Genetic algorithm for one or several objectives. Deb et al., IEEE TEVC 2002.

    A generation is `population_size` complete trials that it proposed itself; the first is random. Pruned trials and
    queued points have no children. Choices are crossed over; a conditional parameter is drawn at random.
    mutation_prob: of each parameter to be drawn anew, 1 / their number where none is given. crossover: how ranges are
    crossed over, with Optuna's names. crossover_prob: of a child to have several parents. swapping_prob: of each
    parameter to come from the other parent, for `uniform` and for choices.
    """

    type: Literal["nsga2"] = "nsga2"
    population_size: Annotated[int, Field(ge=3)] = 10
    mutation_prob: Probability | None = None
    crossover: Crossover = "uniform"
    crossover_prob: Probability = 0.9
    swapping_prob: Probability = 0.5

    def build(self, space: SearchSpace, study_seed: int, trial_seed: int) -> "BaseSampler":
        from optuna.exceptions import ExperimentalWarning
        from optuna.samplers import nsgaii

        from hpo.samplers.proposing import Nsga2, Replayed

        def make(seed: int) -> Nsga2:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)  # crossovers, in Optuna since 3.0
                crossovers: dict[Crossover, Callable[[], nsgaii.BaseCrossover]] = {
                    "uniform": lambda: nsgaii.UniformCrossover(self.swapping_prob),
                    "blx_alpha": nsgaii.BLXAlphaCrossover,
                    "sbx": nsgaii.SBXCrossover,
                    "vsbx": nsgaii.VSBXCrossover,
                    "spx": nsgaii.SPXCrossover,
                    "undx": nsgaii.UNDXCrossover,
                }
                return Nsga2(
                    crossovers[self.crossover](),
                    population_size=self.population_size,
                    mutation_prob=self.mutation_prob,
                    crossover_prob=self.crossover_prob,
                    swapping_prob=self.swapping_prob,
                    seed=seed,
                )

        return Replayed(make, trial_seed)
