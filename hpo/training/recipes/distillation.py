"""A finished model teaches: its answers to the training rows are learnt beside their labels."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Self

import torch
from torch.nn import functional

from hpo.errors import DeadParameterError
from hpo.space import Scalar
from hpo.training.hyperparameters import Hyperparameters
from hpo.training.recipes.contract import Pass, Recipe

if TYPE_CHECKING:
    from hpo.training.loop import Training


def distance(outputs: torch.Tensor, taught: torch.Tensor, labels: torch.Tensor, temperature: float) -> torch.Tensor:
    """(rows,) float32. Classes: T^2 times the Kullback-Leibler divergence of softened answers from the teacher's
    (Hinton, Vinyals and Dean 2015, arXiv:1503.02531, section 2); labels by themselves: the same of each, yes or no;
    numbers: the squared difference. outputs, taught: (rows, values). labels: as the loss takes them."""
    outputs, taught = outputs.float(), taught.float()
    if labels.is_floating_point() and labels.dim() == 1:
        return (outputs - taught).squeeze(-1) ** 2
    if labels.is_floating_point():
        soft = torch.sigmoid(taught / temperature)
        own = functional.binary_cross_entropy(soft, soft, reduction="none")
        apart = functional.binary_cross_entropy_with_logits(outputs / temperature, soft, reduction="none") - own
        return temperature**2 * apart.mean(-1)
    soft = functional.log_softmax(taught / temperature, -1)
    own = functional.log_softmax(outputs / temperature, -1)
    return temperature**2 * functional.kl_div(own, soft, log_target=True, reduction="none").sum(-1)


@dataclass(eq=False)
class Distillation(Recipe):
    """(1 - weight) loss + weight distance to the teacher's logits, known for every training row beforehand."""

    fields: ClassVar[tuple[str, ...]] = ("distillation_weight", "distillation_temperature")
    in_step: ClassVar[bool] = True
    weight: float
    temperature: float
    _taught: torch.Tensor | None = field(default=None, init=False)

    @classmethod
    def of(cls, hyper: Hyperparameters) -> Self | None:
        if not hyper.distillation_weight:
            return None
        return cls(hyper.distillation_weight, hyper.distillation_temperature)

    def begin(self, training: "Training") -> None:
        if training.taught is None:
            raise DeadParameterError(f"distillation_weight={self.weight}: nobody teaches; name a model.teacher")
        self._taught = torch.from_numpy(training.taught.copy()).to(training.where)

    def loss(self, passing: Pass, outputs: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
        assert self._taught is not None
        taught = self._taught[torch.from_numpy(passing.rows).to(self._taught.device)]
        apart = passing.mean(distance(outputs, taught, passing.labels, self.temperature))
        return (1.0 - self.weight) * share + self.weight * apart

    def observed(self, training: "Training") -> Mapping[str, Scalar | None]:
        if self not in training.recipes or self._taught is None:
            return {"distillation_weight": 0.0}
        return {"distillation_weight": self.weight, "distillation_temperature": self.temperature}
