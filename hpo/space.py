"""The search space: what may vary, under which condition, and what one assignment of it looks like.

Owns the parameter kinds and the arithmetic on them (contains, nearest, enumerate). Must not know
who samples (Optuna) or what a parameter means to the training.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

Scalar: TypeAlias = bool | int | float | str
Params: TypeAlias = Mapping[str, Scalar]


@dataclass(frozen=True, slots=True)
class Condition:
    """`when: {loss: focal}`: the parameter exists only while another one has one of these values."""

    parameter: str
    values: tuple[Scalar, ...]

    def holds(self, params: Params) -> bool:
        return self.parameter in params and params[self.parameter] in self.values


@dataclass(frozen=True, slots=True)
class Fixed:
    """A value that does not vary."""

    value: Scalar
    when: tuple[Condition, ...] = ()

    def contains(self, value: Scalar) -> bool:
        return _same(value, self.value)

    def nearest(self, value: Scalar) -> Scalar:
        return self.value


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few values, in the order of the file."""

    values: tuple[Scalar, ...]
    when: tuple[Condition, ...] = ()

    def contains(self, value: Scalar) -> bool:
        return any(_same(value, own) for own in self.values)

    def nearest(self, value: Scalar) -> Scalar:
        """The same value, else the closest number, else the first one."""
        if self.contains(value):
            return next(own for own in self.values if _same(value, own))
        numbers = [own for own in self.values if _is_number(own)]
        if not numbers or not _is_number(value):
            return self.values[0]
        return min(numbers, key=lambda own: abs(float(own) - float(value)))

    def grid(self) -> tuple[Scalar, ...]:
        return self.values


@dataclass(frozen=True, slots=True)
class IntRange:
    """Whole numbers from low to high, both included."""

    low: int
    high: int
    step: int = 1
    log: bool = False
    when: tuple[Condition, ...] = ()

    def contains(self, value: Scalar) -> bool:
        return (
            _is_number(value)
            and float(value).is_integer()
            and self.low <= float(value) <= self.high
            and (int(value) - self.low) % self.step == 0
        )

    def nearest(self, value: Scalar) -> Scalar:
        if not _is_number(value):
            return self.low
        steps = round((float(value) - self.low) / self.step)
        return self.low + self.step * min(max(steps, 0), (self.high - self.low) // self.step)

    def grid(self) -> tuple[Scalar, ...]:
        return tuple(range(self.low, self.high + 1, self.step))


@dataclass(frozen=True, slots=True)
class FloatRange:
    """Real numbers from low to high, both included; with `step`, only the multiples of it above low."""

    low: float
    high: float
    step: float | None = None
    log: bool = False
    when: tuple[Condition, ...] = ()

    def contains(self, value: Scalar) -> bool:
        if not _is_number(value):
            return False
        if self.step is None:
            return self.low <= float(value) <= self.high
        return math.isclose(float(value), float(self.nearest(value)), rel_tol=1e-9, abs_tol=1e-12)

    def nearest(self, value: Scalar) -> Scalar:
        if not _is_number(value):
            return self.low
        clipped = min(max(float(value), self.low), self.high)
        if self.step is None:
            return clipped
        steps = min(round((clipped - self.low) / self.step), math.floor((self.high - self.low) / self.step + 1e-9))
        return min(self.low + self.step * steps, self.high)  # rounding must not carry it beyond

    def grid(self) -> tuple[Scalar, ...]:
        """The multiples of `step`. A range without one has no grid: ValueError."""
        if self.step is None:
            raise ValueError("a range without a step has no grid")
        count = math.floor((self.high - self.low) / self.step + 1e-9) + 1
        return tuple(min(self.low + self.step * index, self.high) for index in range(count))


Varying: TypeAlias = Choice | IntRange | FloatRange
Parameter: TypeAlias = Fixed | Varying
Suggest: TypeAlias = Callable[[str, Varying], Scalar]


@dataclass(frozen=True)
class SearchSpace:
    """Parameters by name. A parameter follows all those that its conditions name."""

    parameters: Mapping[str, Parameter] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "parameters", dict(_in_order(self.parameters)))

    @property
    def varying(self) -> dict[str, Varying]:
        return {name: own for name, own in self.parameters.items() if not isinstance(own, Fixed)}

    @property
    def is_conditional(self) -> bool:
        return any(own.when for own in self.varying.values())

    def assign(self, suggest: Suggest) -> dict[str, Scalar]:
        """One assignment, parameter by parameter; those whose condition does not hold are absent."""
        params: dict[str, Scalar] = {}
        for name, own in self.parameters.items():
            if all(condition.holds(params) for condition in own.when):
                params[name] = own.value if isinstance(own, Fixed) else suggest(name, own)
        return params

    def project(self, point: Params) -> dict[str, Scalar]:
        """The assignment of this space that lies nearest to `point`, which must name all parameters that vary."""
        return self.assign(lambda name, own: own.nearest(point[name]))

    def contains(self, params: Params) -> bool:
        """Whether `params` is an assignment of this space, no name missing and none too many."""
        expected = self.assign(lambda name, own: params.get(name, math.nan))
        return expected.keys() == params.keys() and all(
            self.parameters[name].contains(value) for name, value in params.items()
        )

    def grid(self) -> Iterator[dict[str, Scalar]]:
        """Every assignment once, in the order of the file; ValueError where a range has no step."""
        names = list(self.varying)
        seen: set[tuple[tuple[str, Scalar], ...]] = set()
        for values in itertools.product(*(self.varying[name].grid() for name in names)):
            point = dict(zip(names, values, strict=True))
            params = self.assign(lambda name, own, point=point: point[name])  # type: ignore[misc]
            key = tuple(params.items())
            if key not in seen:
                seen.add(key)
                yield params


def _in_order(parameters: Mapping[str, Parameter]) -> Iterable[tuple[str, Parameter]]:
    """Parameters with those they depend on first, otherwise as in the file. ValueError on a cycle."""
    placed: set[str] = set()
    left = dict(parameters)
    while left:
        ready = [
            name
            for name, own in left.items()
            if all(condition.parameter in placed or condition.parameter not in parameters for condition in own.when)
        ]
        if not ready:
            raise ValueError(f"conditions of {', '.join(left)} depend on each other")
        yield ready[0], left.pop(ready[0])
        placed.add(ready[0])


def _is_number(value: Scalar) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _same(one: Scalar, other: Scalar) -> bool:
    """Equal, and of the same kind: 1 is 1.0 but not True."""
    return isinstance(one, bool) == isinstance(other, bool) and one == other
