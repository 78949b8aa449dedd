"""The search space: what may vary, under which condition, and what one assignment of it looks like.

Owns the parameter kinds and the arithmetic on them (contains, nearest, enumerate), and which assignments the rules
between parameters leave. Must not know who samples (Optuna) or what a parameter means to the training.
"""

import itertools
import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from hpo.constraints import Constraint

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

    def at(self, share: float) -> Scalar:
        """The value at a share [0, 1] of the way through; all are equally far."""
        return self.values[min(int(share * len(self.values)), len(self.values) - 1)]

    def distance(self, one: Scalar, other: Scalar) -> float:
        """In parts of the whole; between words it is 1."""
        numbers = sorted(float(own) for own in self.values if _is_number(own))
        if len(numbers) < len(self.values) or not (_is_number(one) and _is_number(other)):
            return 0.0 if _same(one, other) else 1.0
        return abs(float(one) - float(other)) / ((numbers[-1] - numbers[0]) or 1.0)


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

    def at(self, share: float) -> Scalar:
        if self.log:
            low, high = self.low - 0.5, self.high + 0.5
            return self.nearest(low * (high / low) ** share)
        count = (self.high - self.low) // self.step + 1
        return self.low + self.step * min(int(share * count), count - 1)

    def distance(self, one: Scalar, other: Scalar) -> float:
        return _distance(self, one, other)


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

    def at(self, share: float) -> Scalar:
        if self.step is not None:
            values = self.grid()
            return values[min(int(share * len(values)), len(values) - 1)]
        if self.log:
            return self.nearest(self.low * (self.high / self.low) ** share)
        return self.nearest(self.low + share * (self.high - self.low))

    def distance(self, one: Scalar, other: Scalar) -> float:
        return _distance(self, one, other)


Varying: TypeAlias = Choice | IntRange | FloatRange
Parameter: TypeAlias = Fixed | Varying
Suggest: TypeAlias = Callable[[str, Varying], Scalar]


@dataclass(frozen=True)
class SearchSpace:
    """Parameters by name, and the rules between them. A parameter follows all those that its conditions name."""

    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    constraints: tuple[Constraint, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "parameters", dict(_in_order(self.parameters)))

    @property
    def varying(self) -> dict[str, Varying]:
        return {name: own for name, own in self.parameters.items() if not isinstance(own, Fixed)}

    @property
    def is_conditional(self) -> bool:
        return any(own.when for own in self.varying.values())

    @property
    def size(self) -> int | None:
        """Combinations of all values, conditions and rules aside; None where a range is continuous."""
        varying = self.varying.values()
        if any(isinstance(own, FloatRange) and own.step is None for own in varying):
            return None
        return math.prod(_count(own) for own in varying)

    def assign(self, suggest: Suggest) -> dict[str, Scalar]:
        """One assignment, parameter by parameter; those whose condition does not hold are absent. It may break rules:
        see `allows`."""
        params: dict[str, Scalar] = {}
        for name, own in self.parameters.items():
            if all(condition.holds(params) for condition in own.when):
                params[name] = own.value if isinstance(own, Fixed) else suggest(name, own)
        return params

    def allows(self, params: Params) -> bool:
        """Whether an assignment keeps every rule."""
        return all(rule.holds(params) for rule in self.constraints)

    def project(self, point: Params) -> dict[str, Scalar]:
        """The assignment of this space that lies nearest to `point`, which must name all parameters that vary.

        Where the rules do not allow it, one near by that they do: of few changes before many. ValueError where none
        was found.
        """
        params = self._filled(point)
        return params if self.allows(params) else _allowed_near(self, point)

    def contains(self, params: Params) -> bool:
        """Whether `params` is an assignment of this space, no name missing, none too many and every rule kept."""
        expected = self.assign(lambda name, own: params.get(name, math.nan))
        return (
            expected.keys() == params.keys()
            and all(self.parameters[name].contains(value) for name, value in params.items())
            and self.allows(params)
        )

    def grid(self) -> Iterator[dict[str, Scalar]]:
        """Every assignment that the rules allow once, in the order of the file; ValueError where a range has no
        step."""
        names = list(self.varying)
        seen: set[tuple[tuple[str, Scalar], ...]] = set()
        for values in itertools.product(*(self.varying[name].grid() for name in names)):
            params = self._filled(dict(zip(names, values, strict=True)))
            key = tuple(params.items())
            if key not in seen and self.allows(params):
                seen.add(key)
                yield params

    def draw(self, source: random.Random) -> dict[str, Scalar]:
        """A random assignment that the rules allow. ValueError where none of 100,000 was one."""
        for _ in range(_DRAWS):
            params = self.assign(lambda name, own: own.at(source.random()))
            if self.allows(params):
                return params
        raise ValueError("no assignment of the space keeps the constraints; widen the space or the constraints")

    def share_allowed(self, draws: int = 10_000) -> float:
        """The part of the space that the rules leave, by random draws that are always the same."""
        source = random.Random(0)
        drawn = (self.assign(lambda name, own: own.at(source.random())) for _ in range(draws))
        return sum(self.allows(params) for params in drawn) / draws

    def _filled(self, point: Params) -> dict[str, Scalar]:
        return self.assign(lambda name, own: own.nearest(point[name]))


_DRAWS = 100_000
_TRIES = 10_000
_LOOKS = tuple(index / 16 for index in range(17))


def _allowed_near(space: SearchSpace, point: Params) -> dict[str, Scalar]:
    """One or two parameters changed, else all that the rules and their conditions name; then as little as possible."""
    start = {name: own.nearest(point[name]) for name, own in space.varying.items()}
    names = [name for name in _decisive(space) if name in start]
    looks = {name: dict.fromkeys(space.varying[name].at(share) for share in _LOOKS) for name in names}
    source = random.Random(0)

    def tries() -> Iterator[Iterator[dict[str, Scalar]]]:
        for count in (1, 2):
            yield (
                start | dict(zip(chosen, values, strict=True))
                for chosen in itertools.combinations(names, count)
                for values in itertools.product(*(looks[name] for name in chosen))
            )
        yield (start | {name: space.varying[name].at(source.random()) for name in names} for _ in range(_TRIES))
        yield (start | point for point in (space.grid() if (space.size or math.inf) <= _TRIES else ()))

    for candidates in tries():
        allowed = [candidate for candidate in candidates if space.allows(space._filled(candidate))]
        if allowed:
            found = min(allowed, key=lambda one: sum(space.varying[n].distance(start[n], one[n]) for n in names))
            return space._filled(_drawn_back(space, start, found))
    raise ValueError("no assignment of the space keeps the constraints; widen the space or the constraints")


def _drawn_back(space: SearchSpace, start: Params, found: Params) -> dict[str, Scalar]:
    """Each number of `found` as near to `start` as the rules allow, by halving the way between them."""
    result = dict(found)
    for name, own in space.varying.items():
        if isinstance(own, Choice) or result[name] == start[name]:
            continue
        broken, kept = float(start[name]), float(result[name])
        for _ in range(50):
            middle = own.nearest((broken + kept) / 2)
            if space.allows(space._filled(result | {name: middle})):
                kept, result[name] = float(middle), middle
            else:
                broken = float(middle)
    return result


def _decisive(space: SearchSpace) -> list[str]:
    """Parameters that the rules name, and those that decide whether these are there."""
    names = [name for name in space.parameters if any(name in rule.names for rule in space.constraints)]
    for name in names:  # grows on the way
        parents = [condition.parameter for condition in space.parameters[name].when]
        names += [parent for parent in parents if parent in space.parameters and parent not in names]
    return names


def _count(own: Varying) -> int:
    """How many values there are, without listing them; none of a range of real numbers can be counted: 0."""
    match own:
        case Choice(values):
            return len(values)
        case IntRange():
            return (own.high - own.low) // own.step + 1
        case FloatRange():
            return 0 if own.step is None else math.floor((own.high - own.low) / own.step + 1e-9) + 1


def _distance(own: IntRange | FloatRange, one: Scalar, other: Scalar) -> float:
    """In parts of the range, of its logarithm where it is sampled so."""
    first, second, low, high = float(one), float(other), float(own.low), float(own.high)
    if own.log:
        first, second, low, high = (math.log(number) for number in (first, second, low, high))
    return abs(first - second) / ((high - low) or 1.0)


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
