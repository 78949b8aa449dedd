"""Recorded learning curves in place of training: a proposal is answered with the curve of the nearest recorded trial.

Owns what is near, and what a curve says at a rung that it was not recorded at. Must not know who asks, or how fast.
"""

import json
import math
from bisect import bisect_right
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpo.errors import DataError
from hpo.records import Report, TrialConfig, TrialRecord
from hpo.space import Choice, Params, Scalar, SearchSpace, Varying
from hpo.training.hyperparameters import Hyperparameters

_ROUNDING = 2e-6
"""Curves hold progress in millionths."""

_NOT_METRICS = frozenset({"step", "progress", "samples"})


@dataclass(frozen=True)
class Evaluation:
    """progress: the part (0, 1] of the trial's own training. metrics: with `seconds` since the trial's start."""

    progress: float
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Curve:
    """A recorded trial. steps: optimiser steps of all of it. Evaluations by rising progress, at least one.

    One that was stopped early goes on flat: what it would have become is not known.
    """

    number: int
    origin: str
    params: Params
    steps: int
    evaluations: tuple[Evaluation, ...]

    @property
    def epochs(self) -> float:
        return epochs_of(self.params)

    def best(self, metric: str, sign: float = 1.0) -> float:
        """Of the whole curve; sign -1 where less is better."""
        return sign * max(sign * one.metrics[metric] for one in self.evaluations)

    def at(self, progress: float) -> Evaluation | None:
        """The last evaluation at or before `progress`, its seconds carried on to there; None before the first."""
        index = bisect_right(self._parts, progress + _ROUNDING)
        if not index:
            return None
        seconds = float(np.interp(progress, self._times[0], self._times[1]))
        if progress > self._parts[-1]:
            seconds *= progress / self._parts[-1]
        return Evaluation(progress, {**self.evaluations[index - 1].metrics, "seconds": seconds})

    @cached_property
    def _parts(self) -> list[float]:
        return [one.progress for one in self.evaluations]

    @cached_property
    def _times(self) -> tuple[list[float], list[float]]:
        return [0.0, *self._parts], [0.0, *(one.metrics.get("seconds", 0.0) for one in self.evaluations)]


def epochs_of(params: Params) -> float:
    return float(params.get("num_train_epochs", Hyperparameters().num_train_epochs))


@dataclass(frozen=True)
class ReplayObjective:
    """Implements `records.Objective` over `curves`, of which there is at least one.

    Near is measured in the unit cube of `space`, ranges on the scale they are searched on. The number of epochs is
    matched first: the shape of a curve depends on it. Evaluates where a training would: at the rungs and after every
    epoch. Costs are the recorded ones; where no trial of as many epochs was recorded they are scaled to the epochs.
    """

    space: SearchSpace
    curves: Sequence[Curve]

    def __call__(self, config: TrialConfig) -> Generator[Report, None, None]:
        curve, _ = self.nearest(config.params)
        epochs, total = epochs_of(config.params), curve.steps
        parts = {*config.rungs, 1.0, *(epoch / epochs for epoch in range(1, math.ceil(epochs)))}
        for step in sorted({max(1, math.ceil(part * total - 1e-9)) for part in parts}):
            evaluation = curve.at(step / total)
            if evaluation is None:
                continue
            metrics = dict(evaluation.metrics)
            metrics["seconds"] *= epochs / curve.epochs
            metrics["epoch"] = epochs * step / total
            yield Report(step, step / total, metrics, done=step == total)

    def nearest(self, params: Params) -> tuple[Curve, float]:
        """The recorded trial that answers for `params`, and how far away it is: 1 is one whole range."""
        wanted = epochs_of(params)
        epochs = min(self._by_epochs, key=lambda own: (abs(own - wanted), own))
        curves, places = self._by_epochs[epochs]
        distances = np.sqrt(((places - np.array(self._place(params))) ** 2).sum(axis=1))
        nearest = int(distances.argmin())
        return curves[nearest], float(distances[nearest])

    @cached_property
    def _by_epochs(self) -> dict[float, tuple[list[Curve], NDArray[np.float64]]]:
        groups: dict[float, list[Curve]] = {}
        for curve in self.curves:
            groups.setdefault(curve.epochs, []).append(curve)
        return {epochs: (own, np.array([self._place(curve.params) for curve in own])) for epochs, own in groups.items()}

    def _place(self, params: Params) -> list[float]:
        """A point in the cube; a parameter that is absent is one whole range away from all its values."""
        place: list[float] = []
        for name, own in self.space.varying.items():
            present = name in params
            place += [*_coordinates(own, params[name] if present else None), float(not present)]
        return place


def _coordinates(own: Varying, value: Scalar | None) -> list[float]:
    """Between 0 and 1 for what the space allows. Words are corners that lie one apart from each other."""
    match own:
        case Choice(values) if not all(_is_number(one) for one in values):
            return [math.sqrt(0.5) * (one == value) for one in values]
        case Choice(values):
            numbers = sorted(float(one) for one in values)
            if value is None or not _is_number(value) or len(numbers) == 1:
                return [0.0]
            return [float(np.interp(float(value), numbers, np.linspace(0.0, 1.0, len(numbers))))]
        case _:
            if value is None or not _is_number(value) or own.low == own.high:
                return [0.0]
            low, high, at = float(own.low), float(own.high), float(value)
            if own.log:
                low, high, at = math.log(low), math.log(high), math.log(max(at, 1e-300))
            return [(at - low) / (high - low)]


def _is_number(value: Scalar) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def read_curves(file: Path) -> list[Curve]:
    """What `benchmarks/record.py` writes: a JSON line a trial. Raises DataError."""
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} can't be read ({error}); name a file of curves or a study's folder") from None
    curves = []
    for number, line in enumerate(lines, 1):
        try:
            curves.append(_curve(json.loads(line)))
        except (ValueError, KeyError, TypeError, IndexError) as error:
            rule = "a line is {number, params, curve: [{step, progress, seconds, <metric>}, ...]}"
            raise DataError(f"{file}:{number} is not a recorded trial ({error!r}); {rule}: mend or remove it") from None
    if not curves:
        raise DataError(f"{file} holds no trial; record some first, or name another file")
    return curves


def _curve(line: Mapping[str, Any]) -> Curve:
    points: list[dict[str, float]] = line["curve"]
    evaluations = tuple(
        Evaluation(point["progress"], {name: value for name, value in point.items() if name not in _NOT_METRICS})
        for point in points
    )
    return Curve(
        number=int(line["number"]),
        origin=str(line.get("origin", "recorded")),
        params=dict(line["params"]),
        steps=round(points[-1]["step"] / points[-1]["progress"]),
        evaluations=evaluations,
    )


def curves_of(records: Iterable[TrialRecord], metric: str) -> list[Curve]:
    """The trials of a study's ledger: complete and pruned ones; failed ones have no curve to go by,
    and of those that took weights from others it is not the curve of their params."""
    curves = []
    for record in records:
        if record.exploits or not record.curve or not record.metrics.get("steps"):
            continue
        if record.state.value not in ("complete", "pruned"):
            continue
        end, seconds = max(record.curve), record.seconds or 0.0
        curves.append(
            Curve(
                number=record.number,
                origin=record.origin,
                params=record.params,
                steps=max(1, round(record.metrics["steps"] / end)),
                evaluations=tuple(
                    Evaluation(progress, {metric: value, "seconds": seconds * progress / end})
                    for progress, value in sorted(record.curve.items())
                ),
            )
        )
    return curves
