"""What Optuna's samplers lack to be a pure function of seeds, trial number and ledger.

Owns what is private to Optuna. Imports it at the top: import this file in `build` alone.
"""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, NSGAIISampler, QMCSampler, RandomSampler
from optuna.samplers._gp.sampler import _RELATIVE_PARAMS_KEY, _get_params
from optuna.samplers.nsgaii import BaseCrossover
from optuna.study import Study
from optuna.trial import FrozenTrial

from hpo.draws import distribution_of, hashed
from hpo.space import Choice, Params, SearchSpace

Distributions = Mapping[str, BaseDistribution]

_DRAWS = 10
"""Of a child that keeps being a copy."""


def ranges_of(space: SearchSpace) -> dict[str, BaseDistribution]:
    """Those that every trial has."""
    return {
        name: distribution_of(own)
        for name, own in space.varying.items()
        if not isinstance(own, Choice) and not own.when
    }


class Replayed(BaseSampler):
    """A sampler in whose place a new one with the same seed does the same at any point of a trial.

    Each parameter that is drawn by itself has a stream of its own: a trial that a crash cut off between two parameters
    goes on with the values that it would have had.
    """

    def __init__(self, make: Callable[[int], BaseSampler], trial_seed: int) -> None:
        self._make, self._trial_seed = make, trial_seed
        self._known: dict[str, Any] = {}
        self._whole = make(trial_seed)

    def adopt(self, earlier: BaseSampler) -> None:
        """Take over what the one before has found out about all trials, even where it had no use for it itself: else
        they are gone through again for each proposal."""
        if isinstance(earlier, Replayed):
            self._known = earlier._known | _found_out(earlier._whole)
            self._inform(self._whole)

    def _inform(self, sampler: BaseSampler) -> None:
        for name in _found_out(sampler).keys() & self._known.keys():
            setattr(sampler, name, self._known[name])

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._whole.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        found = self._whole.sample_relative(study, trial, search_space)
        return {name: _exact(value, search_space[name]) for name, value in found.items()}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        sampler = self._make(hashed(self._trial_seed, param_name))
        self._inform(sampler)
        value = sampler.sample_independent(study, trial, param_name, param_distribution)
        return _exact(value, param_distribution)


class Grid(BaseSampler):
    """The first point of the grid, in its order, that no earlier trial has; at random where none is left."""

    def __init__(self, space: SearchSpace, order: str, study_seed: int, trial_seed: int) -> None:
        self._space = space
        self._values = {name: own.grid() for name, own in space.varying.items()}
        self._shape = tuple(len(values) for values in self._values.values())
        size = int(np.prod(self._shape, dtype=np.int64))
        self._order = np.random.RandomState(study_seed).permutation(size) if order == "shuffled" else np.arange(size)
        self._others = Replayed(lambda seed: RandomSampler(seed=seed), trial_seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {name: distribution_of(own) for name, own in self._space.varying.items()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        earlier = (other for other in study.get_trials(deepcopy=False) if other.number < trial.number)
        tried = {_key(other.params) for other in earlier if "imported" not in other.user_attrs.get("hpo", {})}
        for place in self._order:
            where = np.unravel_index(int(place), self._shape)
            point = {name: values[at] for (name, values), at in zip(self._values.items(), where, strict=True)}
            params = self._space.assign(lambda name, own, point=point: point[name])  # type: ignore[misc]
            varying = {name: value for name, value in params.items() if name in point}
            if _key(varying) not in tried and self._space.allows(params):
                return varying
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._others.sample_independent(study, trial, param_name, param_distribution)


class Qmc(QMCSampler):
    """Optuna's, with the space known from the start and the place in the sequence counted from the ledger: how many
    earlier trials were not queued. Optuna's own counter would leave out a place whenever it is killed."""

    def __init__(self, space: SearchSpace, sequence: str, scramble: bool, study_seed: int, trial_seed: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # the class, in Optuna since 3.0
            super().__init__(qmc_type=sequence, scramble=scramble, seed=study_seed, warn_independent_sampling=False)
        self._distributions = {name: distribution_of(own) for name, own in space.varying.items()}
        self._independent_sampler = Replayed(lambda seed: RandomSampler(seed=seed), trial_seed)
        self._place = 0

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        earlier = (other for other in study.get_trials(deepcopy=False) if other.number < trial.number)
        self._place = sum("fixed_params" not in other.system_attrs for other in earlier)
        return dict(self._distributions)

    def _find_sample_id(self, study: Study, search_space: dict[str, BaseDistribution]) -> int:
        return self._place


class Gp(GPSampler):
    """Optuna's; a trial that was cut off keeps what it was given together, and is not in its own way."""

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if f"{_RELATIVE_PARAMS_KEY}:0" in trial.system_attrs:
            return {name: value for name, value in _get_params(trial).items() if name in search_space}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Clip non-finite")  # an infinite loss
            return super().sample_relative(study, trial, search_space)


class Nsga2(NSGAIISampler):
    """Optuna's; a child that is a copy of an earlier trial is drawn again, and where a changed space left too few
    parents, children are random."""

    def __init__(self, crossover: BaseCrossover, **options: Any) -> None:
        super().__init__(crossover=crossover, **options)
        self._n_parents = crossover.n_parents

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        parents = self.get_parent_population(study, self.get_trial_generation(study, trial))
        if len(parents) < self._n_parents:
            return {}
        known = [other.params for other in study.get_trials(deepcopy=False) if other.number < trial.number]
        for _ in range(_DRAWS):
            drawn = super().sample_relative(study, trial, search_space)
            child = {name: _exact(value, search_space[name]) for name, value in drawn.items()}
            if child not in known:
                break
        return child


class Cmaes(CmaEsSampler):
    """Optuna's, over ranges that are known from the start. Its state is kept by ranges: where these change, it starts
    anew and does not take points of the old ones for its own."""

    def __init__(self, ranges: Distributions, **options: Any) -> None:
        super().__init__(warn_independent_sampling=False, **options)
        self._ranges = dict(ranges)
        self._attr_prefix += f"{hashed(*(f'{name} {own}' for name, own in sorted(ranges.items()))):08x}:"

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return dict(self._ranges)


def _found_out(sampler: BaseSampler) -> dict[str, Any]:
    """Which parameters all trials have, and how good each trial is: the same whoever finds it out."""
    return {name: value for name, value in vars(sampler).items() if name in ("_search_space", "_scores")}


def _exact(value: Any, distribution: BaseDistribution) -> Any:
    """The multiple of a step as `FloatRange.grid` has it: some samplers come near it only."""
    if not isinstance(distribution, FloatDistribution) or distribution.step is None:
        return value
    steps = round((value - distribution.low) / distribution.step)
    return min(distribution.low + distribution.step * steps, distribution.high)


def _key(params: Params) -> tuple[tuple[str, str], ...]:
    """Equal for equal assignments: 1 is not true here."""
    return tuple(sorted((name, repr(value)) for name, value in params.items()))
