"""Layers wait for their turn, from the top down. For good: `frozen_layers`, around which the optimiser is built."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Self

from torch import nn

from hpo.space import Scalar
from hpo.training.hyperparameters import Hyperparameters
from hpo.training.model import depths
from hpo.training.recipes.contract import Pass, Recipe

if TYPE_CHECKING:
    from hpo.training.loop import Training


@dataclass(eq=False)
class GradualUnfreezing(Recipe):
    """First only the head is trained, then from the top one layer more at a time, at even distances, until after
    `share` of all steps the embeddings are trained too (Howard and Ruder, ACL 2018, section 3.3: one layer an epoch).

    A layer that waits gets no gradient, so that AdamW leaves it, its moments and its decay alone.
    """

    fields: ClassVar[tuple[str, ...]] = ("gradual_unfreezing",)
    in_step: ClassVar[bool] = True
    share: float
    _depths: dict[str, int] = field(default_factory=dict, init=False)

    @classmethod
    def of(cls, hyper: Hyperparameters) -> Self | None:
        return cls(hyper.gradual_unfreezing) if hyper.gradual_unfreezing else None

    def prepare(self, model: nn.Module) -> None:
        self._depths = dict(depths(model))

    def lowest(self, step: int, total: int) -> int:
        """The depth down to which step number `step` (from 1) of `total` trains."""
        top = max(self._depths.values())
        done = (step - 1) / (self.share * total)
        return max(0, top - int(done * top + 1e-9))

    def after_backward(self, passing: Pass) -> None:
        lowest = self.lowest(passing.training.step, passing.training.total_steps)
        if lowest == 0:
            return
        for name, part in passing.training.model.named_parameters():
            if self._depths[name] < lowest:
                part.grad = None

    def observed(self, training: "Training") -> Mapping[str, Scalar | None]:
        """The sampled share if some step has to wait for it and none does so after it."""
        total = training.total_steps
        waiting = [step for step in range(1, total + 1) if self.lowest(step, total) > 0]
        fits = bool(waiting) and waiting[-1] <= self.share * total + 1
        return {"gradual_unfreezing": self.share if fits and self in training.recipes else 0.0}
