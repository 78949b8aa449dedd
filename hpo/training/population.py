"""Values that change while a trial trains: after a schedule, or by going on from another trial's weights.

Owns what a trial's state is (weights and optimiser state, by the parameters' names), and how a training takes on
new values. Must not know who decides. Jaderberg et al. 2017, arXiv:1711.09846.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from hpo.errors import TrialError
from hpo.records import TrialConfig
from hpo.space import Params, Scalar
from hpo.training import liveness
from hpo.training.checkpoint import save_tensors
from hpo.training.exchange import Exchange
from hpo.training.families import DROPOUTS
from hpo.training.hyperparameters import Hyperparameters
from hpo.training.model import set_dropout
from hpo.training.optimizer import set_values

if TYPE_CHECKING:
    from hpo.training.loop import Training

CHANGEABLE = ("learning_rate", "weight_decay", *DROPOUTS)
_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


class Course(Protocol):
    """What becomes of a training at some of its evaluations."""

    @property
    def params(self) -> Params:
        """What is in force now."""
        ...

    @property
    def metrics(self) -> dict[str, float]:
        """What a report says of it."""
        ...

    def steps(self, total: int) -> frozenset[int]:
        """Where the training has to evaluate for it."""
        ...

    def before_report(self, training: "Training", step: int) -> None: ...

    def after_report(self, training: "Training", step: int) -> None:
        """Raises DeadParameterError, or TrialError where another trial's state can't be read."""
        ...

    @property
    def source(self) -> int:
        """Whose weights are trained: the number of a trial."""
        ...

    def go_on(self, training: "Training", params: Params, source: int) -> None:
        """Be where a training was cut off: with these values in force, on that trial's weights."""
        ...


def course_of(config: TrialConfig) -> Course:
    return Scheduled(config) if config.population is None else Member(config, Exchange(config.population))


@dataclass
class Scheduled:
    """Follows `config.schedule`, on the trial's own weights; most trials have none, and nothing ever changes."""

    config: TrialConfig
    params: dict[str, Scalar] = field(init=False)

    def __post_init__(self) -> None:
        self.params = self.config.first_params

    @property
    def metrics(self) -> dict[str, float]:
        return in_force(self.params) if self.config.schedule else {}

    def steps(self, total: int) -> frozenset[int]:
        return frozenset(self._by_step(total))

    def before_report(self, training: "Training", step: int) -> None:
        """Nothing to leave."""

    def after_report(self, training: "Training", step: int) -> None:
        if values := self._by_step(training.total_steps).get(step):
            self.params |= values
            change(training, values)

    @property
    def source(self) -> int:
        return self.config.number

    def go_on(self, training: "Training", params: Params, source: int) -> None:
        _take_on(training, self.params, params)
        self.params = dict(params)

    def _by_step(self, total: int) -> dict[int, Params]:
        return {_step(point, total): values for point, values in self.config.schedule if 0.0 < point < 1.0}


@dataclass
class Member:
    """One of a population: leaves its state at every rung, and does what it is told there."""

    config: TrialConfig
    exchange: Exchange
    params: dict[str, Scalar] = field(init=False)
    source: int = field(init=False)

    def __post_init__(self) -> None:
        self.params, self.source = self.config.first_params, self.config.number

    @property
    def metrics(self) -> dict[str, float]:
        """weights_from: the number of the trial that the weights were taken from, its own where they are its own."""
        return in_force(self.params) | {"weights_from": float(self.source)}

    def steps(self, total: int) -> frozenset[int]:
        return frozenset(self._levels(total))

    def before_report(self, training: "Training", step: int) -> None:
        if (level := self._levels(training.total_steps).get(step)) is not None:
            state = State.of(training)
            with self.exchange.leaving(self.config.number, level, state.size) as path:
                state.save(path)

    def after_report(self, training: "Training", step: int) -> None:
        level = self._levels(training.total_steps).get(step)
        if level is None or (told := self.exchange.told(self.config.number, level)) is None:
            return
        State.load(self.exchange.state(told.source, level)).put_into(training)
        self.source = told.source
        self.params |= told.params
        change(training, told.params)

    def go_on(self, training: "Training", params: Params, source: int) -> None:
        _take_on(training, self.params, params)
        self.params, self.source = dict(params), source

    def _levels(self, total: int) -> dict[int, float]:
        return {_step(level, total): level for level in self.config.rungs if level < 1.0}


@dataclass(frozen=True)
class State:
    """On the CPU. weights: as the model's `state_dict`. moments: AdamW's `exp_avg` and so on, by name of the parameter:
    the groups of another trial's optimiser may be others, and so may be which layers are frozen."""

    weights: Mapping[str, torch.Tensor]
    moments: Mapping[str, Mapping[str, torch.Tensor]]

    @classmethod
    def of(cls, training: "Training") -> "State":
        held = training.optimizer.state
        return cls(
            {name: _to_host(part) for name, part in training.model.state_dict().items()},
            {
                name: {kind: _to_host(held[part][kind]) for kind in _MOMENTS}
                for name, part in _learning(training.model)
                if part in held
            },
        )

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(part.nbytes for part in self.flat().values())

    def save(self, path: Path) -> None:
        save_tensors(self.flat(), path)

    @classmethod
    def load(cls, path: Path) -> "State":
        """Raises TrialError."""
        try:
            return cls.of_flat(load_file(path))
        except (OSError, SafetensorError) as error:
            raise TrialError(f"the state {path} can't be read ({error}); look at the study's folder") from error

    def put_into(self, training: "Training") -> None:
        """Replace weights and optimiser state; what the optimiser of the state did not hold begins anew."""
        training.model.load_state_dict(self.weights)
        for name, part in _learning(training.model):
            training.optimizer.state.pop(part, None)
            if (held := self.moments.get(name)) is not None:
                training.optimizer.state[part] = {
                    kind: value.to(part.device, copy=True) for kind, value in held.items()
                }

    @classmethod
    def of_flat(cls, flat: Mapping[str, torch.Tensor]) -> "State":
        """The way back from `flat`."""
        weights: dict[str, torch.Tensor] = {}
        moments: dict[str, dict[str, torch.Tensor]] = {}
        for key, value in flat.items():
            kind, _, name = key.partition("/")
            place = weights if kind == "weights" else moments.setdefault(name, {})
            place[name if kind == "weights" else kind] = value
        return cls(weights, moments)

    def flat(self) -> dict[str, torch.Tensor]:
        """All tensors, by `kind/name`."""
        flat = {f"weights/{name}": part.contiguous() for name, part in self.weights.items()}
        for name, moments in self.moments.items():
            flat |= {f"{kind}/{name}": value.contiguous() for kind, value in moments.items()}
        return flat


def change(training: "Training", values: Params) -> None:
    """Train with these values from the next step on. The shape of the learning rate goes on, scaled to the new peak.

    Raises DeadParameterError where a value does not arrive.
    """
    training.hyper = Hyperparameters.model_validate(training.hyper.model_dump() | dict(values))
    set_values(training.optimizer, training.hyper)
    for name in values.keys() & {*DROPOUTS}:
        set_dropout(training.model, training.dropouts(name), name, float(values[name]))
    liveness.assert_live(training, values)


def _take_on(training: "Training", before: Params, params: Params) -> None:
    if changed := {name: value for name, value in params.items() if before.get(name) != value}:
        change(training, changed)


def in_force(params: Params) -> dict[str, float]:
    """The values that can change, for a report. The learning rate's is the peak; what it is at the moment is there."""
    found = {name: float(params[name]) for name in CHANGEABLE if name in params}
    if "learning_rate" in found:
        found["peak_learning_rate"] = found.pop("learning_rate")
    return found


def _learning(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, part) for name, part in model.named_parameters() if part.requires_grad)


def _to_host(part: torch.Tensor) -> torch.Tensor:
    """A copy that takes no memory of the device: there may be none left."""
    return part.detach().to("cpu", copy=True)


def _step(point: float, total: int) -> int:
    """The step after which `point` of the training is done."""
    return max(1, math.ceil(point * total - 1e-9))
