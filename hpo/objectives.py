"""What a study searches for: one metric, or a leading one and others beside it, such as what a model costs.

Owns the costs that every trial reports besides its task's metrics, and the comparison of trials in several objectives
at once. Pure. Must not know who samples or promotes.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from hpo.records import TrialRecord, TrialState

Mode: TypeAlias = Literal["min", "max"]
Objectives: TypeAlias = Mapping[str, Mode]
"""Metric -> mode; the leading one first."""

COSTS = {
    "seconds": "wall time of the trial, with its evaluations",
    "latency": "milliseconds a row in the evaluation on the validation split, the fastest one",
    "parameters": "numbers in the model",
    "trainable_parameters": "those of them that are not frozen",
}
"""Searched for as any metric, always to be minimised."""

FALLING = frozenset({"loss", "mse", "perplexity", *COSTS})
"""Of these less is better."""

OWN_UNIT = frozenset({"loss", "mse", "perplexity", "sacrebleu", *COSTS})
"""Metrics with a unit of their own, none below 0. All others lie within -1 and 1: shares, F1, correlations."""

SIGNED = frozenset({"matthews_correlation", "pearson", "spearmanr"})


def mode_of(metric: str) -> Mode:
    """Whether the search minimises or maximises it."""
    return "min" if metric in FALLING else "max"


def bounds_of(metric: str) -> tuple[float, float]:
    """The least and the most that a metric can be."""
    if metric in OWN_UNIT:
        return (0.0, math.inf)
    return (-1.0 if metric in SIGNED else 0.0, 1.0)


def value_of(record: TrialRecord, name: str) -> float | None:
    """A metric at the trial's best evaluation, or one of its costs; None where it has none."""
    return record.metrics.get(f"best_{name}", record.metrics.get(name))


def values_of(metrics: Mapping[str, float], names: Sequence[str]) -> tuple[float, ...] | None:
    """All of `names` among the metrics of a finished trial, or None where one is missing."""
    found = [metrics.get(f"best_{name}", metrics.get(name)) for name in names]
    values = tuple(value for value in found if value is not None)
    return values if len(values) == len(names) else None


def pareto(records: Sequence[TrialRecord], objectives: Objectives) -> tuple[int, ...]:
    """Numbers of the complete trials that no other one beats: at least as good in all, better in one.

    The best of the leading objective first.
    """
    signs = [1.0 if mode == "max" else -1.0 for mode in objectives.values()]
    points = {
        record.number: tuple(sign * value for sign, value in zip(signs, values, strict=True))
        for record in records
        if record.state is TrialState.COMPLETE
        and not record.dropped
        and (values := values_of(record.metrics, tuple(objectives))) is not None
    }
    front = [
        number
        for number, own in points.items()
        if not any(other != own and all(map(float.__ge__, other, own)) for other in points.values())
    ]
    return tuple(sorted(front, key=lambda number: (tuple(-value for value in points[number]), number)))


@dataclass(frozen=True, slots=True)
class Limits:
    """What the winner may cost at most, or must reach at least. modes: of the limited metrics; a limit is the least
    of what is maximised, and the most of anything else."""

    limits: Mapping[str, float]
    modes: Objectives

    def broken_by(self, record: TrialRecord) -> tuple[str, ...]:
        """A sentence for each limit that the trial does not keep; what it has no value for breaks its limit too."""
        broken = []
        for name, limit in self.limits.items():
            value, is_least = value_of(record, name), self.modes.get(name) == "max"
            if value is None or (value < limit if is_least else value > limit):
                asked = f"at {'least' if is_least else 'most'} {limit:,g} is asked for"
                broken.append(f"its {name} is {'unknown' if value is None else f'{value:,.6g}'}, {asked}")
        return tuple(broken)


NO_LIMITS = Limits({}, {})
