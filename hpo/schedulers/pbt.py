"""Population based training: a trial that falls behind goes on from the weights of one that leads, with new values."""

import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, TypeAlias, get_args

from pydantic import Field

from hpo.records import Exploit, Verdict
from hpo.schedulers.base import Resource, SchedulerConfig
from hpo.space import Choice, Fixed, Params, Scalar, SearchSpace, Varying

Changeable: TypeAlias = Literal[
    "learning_rate", "weight_decay", "hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"
]
"""What can take another value in the middle of training. A test holds it to be what `training.population` changes."""

CHANGEABLE: tuple[Changeable, ...] = get_args(Changeable)

TOLERANCE = 1e-6
"""The ledger keeps progress in millionths."""


class PbtConfig(SchedulerConfig):
    """Population based training, asynchronous. Jaderberg et al. 2017, arXiv:1711.09846.

    Training is cut into `intervals`. At the end of each but the last a trial is compared with all that came so far,
    earlier ones included; no trial waits, so there may be fewer slots than trials. One of the lowest `quantile` goes on
    from weights and optimiser state of one of the highest, as they were at this very level, and trains with values near
    that one's: each of `perturb` is drawn anew from the space with resample_probability, else multiplied by one of
    `factors` (of a list, a neighbour is taken) and clipped to the space.

    perturb: None means all that vary and can change during training. max_sources: so many of the highest, at most, are
    gone on from; what the study keeps on disk grows with it, by three times a model's size each and level.
    """

    type: Literal["pbt"] = "pbt"
    intervals: Annotated[int, Field(ge=2, le=100)] = 4
    quantile: Annotated[float, Field(gt=0.0, le=0.5)] = 0.25
    resample_probability: Annotated[float, Field(ge=0.0, le=1.0)] = 0.25
    factors: Annotated[tuple[Annotated[float, Field(gt=0.0, le=100.0)], ...], Field(min_length=1)] = (0.8, 1.2)
    perturb: Annotated[tuple[Changeable, ...], Field(min_length=1)] | None = None
    max_sources: Annotated[int, Field(ge=1, le=100)] = 3
    resource: ClassVar[Resource] = "progress"

    def fractions(self) -> tuple[float, ...]:
        return tuple(place / self.intervals for place in range(1, self.intervals + 1))

    def build(self, space: SearchSpace, seed: int) -> "Pbt":
        names = [name for name in self.perturb or CHANGEABLE if _obstacle(name, space) is None]
        return Pbt(self, {name: space.varying[name] for name in names}, seed)

    def most_states(self, slots: int) -> int:
        """How many states can be on the disk together, with so many trials at a time."""
        return (self.intervals - 1) * (self.max_sources + slots)

    def faults(self, space: SearchSpace) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """What of `perturb` can't be perturbed in this space: (path below this section, message)."""
        obstacles = {name: _obstacle(name, space) for name in self.perturb or CHANGEABLE}
        if self.perturb is None and None not in obstacles.values():
            yield (
                ("type",),
                (
                    f"pbt has nothing to perturb: each trial needs a range of {', '.join(CHANGEABLE[:-1])} or "
                    f"{CHANGEABLE[-1]}; add one, or take another scheduler, such as asha"
                ),
            )
        for place, name in enumerate(self.perturb or ()):
            if obstacles[name] is not None:
                yield ("perturb", place), f"{name} {obstacles[name]}, or remove it here"


def _obstacle(name: str, space: SearchSpace) -> str | None:
    """Why a parameter can't be perturbed, and half of the remedy."""
    match space.parameters.get(name):
        case None:
            return "is not in the space; add it there"
        case Fixed(value):
            return f"is always {value} here; give it a range"
        case own if own.when:
            return "is not in every trial; remove its condition (when)"
    if any(one.parameter == name for other in space.parameters.values() for one in other.when):
        return "decides whether others are there (when); remove their condition"
    if any(name in rule.names for rule in space.constraints):
        return "is bound to others by constraints, which a perturbed value could break; remove the constraint"
    return None


@dataclass(frozen=True, slots=True)
class Reached:
    """How a trial stood at a level, and the values of what can be perturbed that it came there with."""

    value: float
    params: Mapping[str, Scalar]


class Pbt:
    """What trials reached at each level, by number; a second report of the same trial at a level changes nothing."""

    def __init__(self, config: PbtConfig, perturb: Mapping[str, Varying], seed: int) -> None:
        self._config, self._perturb, self._seed = config, perturb, seed
        self._levels: dict[float, dict[int, Reached]] = {level: {} for level in config.fractions()}
        self._params: dict[int, dict[str, Scalar]] = {}
        self._lost: set[tuple[int, float]] = set()

    def start(self, number: int, params: Params) -> None:
        self._params[number] = {name: params[name] for name in self._perturb if name in params}

    def report(self, number: int, level: float, value: float) -> Verdict | Exploit:
        """The answer at the highest level that is newly reached; CONTINUE between levels and at the end."""
        answer: Verdict | Exploit = Verdict.CONTINUE
        for own, reached in self._levels.items():
            if level + TOLERANCE < own or number in reached:
                continue
            self.recall(number, own, value)
            if level < 1.0 - TOLERANCE:
                answer = self._judge(number, own)
        return answer

    def recall(self, number: int, rung: float, value: float) -> None:
        reached = Reached(-math.inf if math.isnan(value) else value, self._params.get(number, {}))
        self._levels[rung].setdefault(number, reached)

    def sources(self) -> set[tuple[int, float]]:
        """(trial, level) whose state a later report may ask for, as far as is known now."""
        return {
            (number, level) for level in self._levels if level < 1.0 for number in self._ranked(level)[: self._most]
        }

    def lose(self, number: int, level: float) -> None:
        """The trial's state at this level is not there any more: nobody goes on from it."""
        self._lost.add((number, level))

    @property
    def _most(self) -> int:
        return self._config.max_sources

    def _ranked(self, level: float) -> list[int]:
        """Best first; of equals the earlier one."""
        reached = self._levels[level]
        return sorted(reached, key=lambda number: (-reached[number].value, number))

    def _judge(self, number: int, level: float) -> Verdict | Exploit:
        reached, ranked = self._levels[level], self._ranked(level)
        cut = min(math.ceil(len(ranked) * self._config.quantile - 1e-9), len(ranked) // 2)
        if number not in ranked[len(ranked) - cut :]:
            return Verdict.CONTINUE
        better = [
            other
            for other in ranked[: min(cut, self._most)]
            if reached[other].value > reached[number].value and (other, level) not in self._lost
        ]
        if not better:
            return Verdict.CONTINUE
        draw = random.Random(f"{self._seed} {number} {round(level / TOLERANCE)}")
        source = draw.choice(better)
        return Exploit(
            source, {name: self._explored(name, value, draw) for name, value in reached[source].params.items()}
        )

    def _explored(self, name: str, value: Scalar, draw: random.Random) -> Scalar:
        own = self._perturb[name]
        if draw.random() < self._config.resample_probability:
            return own.at(draw.random())
        if isinstance(own, Choice):
            return _neighbour(own, value, draw)
        return own.nearest(float(value) * draw.choice(self._config.factors))


def _neighbour(own: Choice, value: Scalar, draw: random.Random) -> Scalar:
    """The next larger or the next smaller value of the list."""
    values = sorted(own.values, key=float)
    place = values.index(own.nearest(value)) + draw.choice((-1, 1))
    return values[min(max(place, 0), len(values) - 1)]
