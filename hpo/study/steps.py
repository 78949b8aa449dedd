"""How long trials are, in optimiser steps, and whether the rungs fit into that. Known once the rows are counted."""

import itertools
from dataclasses import dataclass

from hpo.config import StudyConfig
from hpo.errors import ConfigError, Problem
from hpo.schedulers import Levels
from hpo.schedulers.base import has_reached
from hpo.space import Choice, Fixed, Parameter, Params, Scalar, SearchSpace
from hpo.training.batches import steps_per_epoch
from hpo.training.hyperparameters import Hyperparameters
from hpo.trial import total_steps

LENGTH = ("per_device_train_batch_size", "gradient_accumulation_steps", "num_train_epochs")
"""The hyperparameters that say how long a trial is. The number of steps goes one way with each of them."""


@dataclass(frozen=True, slots=True)
class TrialLength:
    """Of one assignment over so many rows."""

    total_steps: int
    steps_per_epoch: int
    batch: int
    accumulation: int

    @classmethod
    def of(cls, params: Params, rows: int) -> "TrialLength":
        hyper = Hyperparameters.model_validate({name: params[name] for name in LENGTH if name in params})
        batch, accumulation = hyper.per_device_train_batch_size, hyper.gradient_accumulation_steps
        per_epoch = steps_per_epoch(rows, batch, accumulation)
        return cls(total_steps(hyper, per_epoch), per_epoch, batch, accumulation)

    @property
    def epochs(self) -> float:
        return self.total_steps / self.steps_per_epoch


@dataclass(frozen=True, slots=True)
class Ladder:
    """Where trials of different lengths are compared. fractions: the scheduler's levels, rising, the last one 1.

    longest: epochs of the longest trial of the space, where levels are counted in samples; None where each trial's
    own progress counts. Epochs measure samples: all trials train on the same rows.
    """

    fractions: tuple[float, ...]
    longest: float | None = None

    @classmethod
    def of(cls, scheduler: Levels, space: SearchSpace) -> "Ladder":
        return cls(scheduler.fractions(), _longest(space) if scheduler.resource == "samples" else None)

    def rungs(self, params: Params) -> tuple[float, ...]:
        """The levels as parts (0, 1] of this trial's own training; those beyond its end are not reached."""
        share = self._share(params)
        return (*(own for level in self.fractions if (own := level / share) < 1.0 - 1e-9), 1.0)

    def level(self, params: Params, progress: float) -> float:
        """What a part of this trial's own training is on the scheduler's scale."""
        return progress * self._share(params)

    def amount(self, params: Params, progress: float) -> float:
        """How much training that is: what trials that were stopped are compared by. Levels change where a changed space
        has a longer trial, this does not."""
        return progress if self.longest is None else progress * _epochs(params)

    def reached(self, params: Params, progress: float) -> float:
        """The highest level below the end that was reached; 0 before the first."""
        level = self.level(params, progress)
        return max((own for own in self.fractions if own < 1.0 and has_reached(level, own)), default=0.0)

    def met(self, params: Params, progress: float, total_steps: int | None) -> tuple[float, ...]:
        """The levels for which a trial of so many optimiser steps is evaluated here: at the first step that reaches
        them, at most one step above. None: not known, so that they have to be met exactly."""
        share, step = self._share(params), 1.0 / total_steps if total_steps else 0.0
        return tuple(
            own
            for own in self.fractions
            if has_reached(progress, own / share) and has_reached(own / share + step, progress)
        )

    def skipped(self, params: Params, progress: float) -> tuple[float, ...]:
        """The levels that a trial still had before it, where it ended with a part of its training done."""
        level, end = self.level(params, progress), self.level(params, 1.0)
        return tuple(own for own in self.fractions if has_reached(end, own) and not has_reached(level, own))

    def _share(self, params: Params) -> float:
        return 1.0 if self.longest is None else min(1.0, _epochs(params) / self.longest)


def _epochs(params: Params) -> float:
    return float(params.get("num_train_epochs", Hyperparameters().num_train_epochs))


def _longest(space: SearchSpace) -> float:
    match space.parameters.get("num_train_epochs"):
        case None:
            return _epochs({})
        case Fixed(value):
            return float(value)
        case Choice(values):
            return max(float(value) for value in values)
        case own:
            return float(own.high)


def extremes(space: SearchSpace, default: Params, rows: int) -> tuple[dict[str, Scalar], dict[str, Scalar]]:
    """The assignments with the fewest and with the most steps. default: a value for each parameter that varies."""
    names = _with_conditions(space, LENGTH)
    corners = []
    for values in itertools.product(*(_corners(space, name) for name in names)):
        point = {**default, **dict(zip(names, values, strict=True))}
        corners.append(space.assign(lambda name, own, point=point: own.nearest(point[name])))  # type: ignore[misc]
    corners.sort(key=lambda params: TrialLength.of(params, rows).total_steps)
    return corners[0], corners[-1]


def check_rungs(config: StudyConfig, rows: int) -> None:
    """Refuse rungs below the first step of the shortest trial: ConfigError. rows: of the train split."""
    scheduler = config.search.scheduler
    ladder = Ladder.of(scheduler, config.space)
    params, _ = extremes(config.space, config.default_point(), rows)
    steps = TrialLength.of(params, rows).total_steps
    rungs = ladder.rungs(params)
    if steps * min(rungs) >= 1.0 - 1e-9:
        return
    most = sum(steps * rung >= 1.0 - 1e-9 for rung in rungs)
    which = ", ".join(f"{name} {params[name]:g}" for name in LENGTH if name in params)
    raise ConfigError(
        [
            Problem(
                "search.scheduler.rungs",
                f"the lowest of {len(rungs)} rungs lies below one optimiser step of the shortest trial "
                f"({rows:,} rows{f' at {which}' if which else ''}: {steps:,} step{'s' if steps > 1 else ''}); "
                f"lower search.scheduler.rungs to {most}" + (", or take the scheduler fifo" if most == 1 else ""),
            )
        ]
    )


def _with_conditions(space: SearchSpace, names: tuple[str, ...]) -> tuple[str, ...]:
    """Those of `names` that are in the space, and all that decide whether they are there."""
    found = [name for name in names if name in space.parameters]
    for name in found:  # grows on the way
        conditions = space.parameters[name].when
        found += [
            one.parameter for one in conditions if one.parameter in space.parameters and one.parameter not in found
        ]
    return tuple(found)


def _corners(space: SearchSpace, name: str) -> tuple[Scalar, ...]:
    """The values at which the number of steps can be the least or the most."""
    own: Parameter = space.parameters[name]
    asked_for = {
        value
        for other in space.parameters.values()
        for condition in other.when
        if condition.parameter == name
        for value in condition.values
    }
    match own:
        case Fixed():
            return (own.value,)
        case Choice():
            numbers = [value for value in own.values if isinstance(value, int | float)]
            if asked_for or not numbers:
                return own.values
            return (min(numbers), max(numbers))
        case _:
            return (own.low, own.high, *(value for value in asked_for if own.contains(value)))
