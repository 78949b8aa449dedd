"""What is evaluated and kept is a moving average of the weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Self

import torch
from torch import nn

from hpo.space import Scalar
from hpo.training.hyperparameters import Hyperparameters
from hpo.training.recipes.contract import Recipe

if TYPE_CHECKING:
    from hpo.training.loop import Training


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """By name."""
    return {name: part for name, part in model.named_parameters() if part.requires_grad}


@contextmanager
def standing_in(model: nn.Module, others: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """The model has these weights meanwhile, in the same memory."""
    parts = trained(model)
    own = {name: parts[name].detach().clone() for name in others}
    with torch.no_grad():
        for name, other in others.items():
            parts[name].copy_(other)
    try:
        yield
    finally:
        with torch.no_grad():
            for name, before in own.items():
                parts[name].copy_(before)


@dataclass(eq=False)
class Ema(Recipe):
    """average <- d average + (1 - d) weights after each step t, d = min(decay, (1 + t) / (10 + t)), so that a short
    training is averaged too (Polyak and Juditsky 1992; the warm-up is that of TensorFlow's)."""

    fields: ClassVar[tuple[str, ...]] = ("averaging", "ema_decay")
    decay: float
    average: dict[str, torch.Tensor] = field(default_factory=dict, init=False)

    @classmethod
    def of(cls, hyper: Hyperparameters) -> Self | None:
        return cls(hyper.ema_decay) if hyper.averaging == "ema" else None

    def begin(self, training: "Training") -> None:
        self.average = {name: part.detach().clone() for name, part in trained(training.model).items()}

    @torch.no_grad()
    def after_step(self, training: "Training") -> None:
        parts = trained(training.model)
        now = 1.0 - min(self.decay, (1 + training.step) / (10 + training.step))
        torch._foreach_lerp_([*self.average.values()], [parts[name] for name in self.average], now)

    @contextmanager
    def evaluating(self, training: "Training") -> Iterator[None]:
        with standing_in(training.model, self.average):
            yield

    def state(self) -> Mapping[str, torch.Tensor]:
        return self.average

    def go_on(self, training: "Training", state: Mapping[str, torch.Tensor]) -> None:
        for name, part in self.average.items():
            part.copy_(state[name])

    def observed(self, training: "Training") -> Mapping[str, Scalar | None]:
        is_there = self in training.recipes and self.average.keys() == trained(training.model).keys()
        return {"averaging": "ema", "ema_decay": self.decay} if is_there else {}
