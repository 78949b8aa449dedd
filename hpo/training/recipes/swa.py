"""What is evaluated and kept is the mean of all weights since a step late in training."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Self

import torch

from hpo.space import Scalar
from hpo.training.hyperparameters import Hyperparameters
from hpo.training.recipes.contract import Recipe
from hpo.training.recipes.ema import standing_in, trained

if TYPE_CHECKING:
    from hpo.training.loop import Training

_COUNT = "count"


@dataclass(eq=False)
class Swa(Recipe):
    """Stochastic weight averaging (Izmailov et al., UAI 2018) over every step after `start` of all steps, at the
    learning rates that the schedule has there. Before it, the weights are what they are."""

    fields: ClassVar[tuple[str, ...]] = ("averaging", "swa_start")
    start: float
    count: int = field(default=0, init=False)
    mean: dict[str, torch.Tensor] = field(default_factory=dict, init=False)

    @classmethod
    def of(cls, hyper: Hyperparameters) -> Self | None:
        return cls(hyper.swa_start) if hyper.averaging == "swa" else None

    def first(self, total: int) -> int:
        """The number of the first step that is averaged; the last one is, always."""
        return min(total, math.floor(self.start * total) + 1)

    @torch.no_grad()
    def after_step(self, training: "Training") -> None:
        if training.step < self.first(training.total_steps):
            return
        parts = trained(training.model)
        self.count += 1
        if self.count == 1:
            self.mean = {name: part.detach().clone() for name, part in parts.items()}
        else:
            torch._foreach_lerp_([*self.mean.values()], [parts[name] for name in self.mean], 1.0 / self.count)

    @contextmanager
    def evaluating(self, training: "Training") -> Iterator[None]:
        with standing_in(training.model, self.mean):
            yield

    def state(self) -> Mapping[str, torch.Tensor]:
        return {**self.mean, _COUNT: torch.tensor(self.count)}

    def go_on(self, training: "Training", state: Mapping[str, torch.Tensor]) -> None:
        self.count = int(state[_COUNT])
        self.mean = {name: part.to(training.where, copy=True) for name, part in state.items() if name != _COUNT}

    def observed(self, training: "Training") -> Mapping[str, Scalar | None]:
        return {"averaging": "swa", "swa_start": self.start} if self in training.recipes else {}

    def idle(self) -> str | None:
        return None if self.count > 1 else f"swa_start={self.start}: one step is no mean; begin earlier"
