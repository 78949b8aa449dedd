"""Rows of one class are drawn together, those of different classes apart."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Self

import torch
from torch import nn
from torch.nn import functional

from hpo.errors import DeadParameterError
from hpo.space import Scalar
from hpo.training.hyperparameters import Hyperparameters
from hpo.training.model import layer_of
from hpo.training.recipes.contract import Pass, Recipe

if TYPE_CHECKING:
    from hpo.training.loop import Training


def contrast(features: torch.Tensor, labels: torch.Tensor, temperature: float) -> torch.Tensor:
    """(rows,): for each row, minus the mean over the others of its class of log softmax of cosines / temperature; 0 for
    a row that has no others. features: (rows, size). labels: (rows,) ids. Gunel et al., ICLR 2021, eq. 3."""
    unit = functional.normalize(features.float(), dim=-1)
    alike = unit @ unit.T / temperature
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    shares = functional.log_softmax(alike.masked_fill(itself, torch.finfo(torch.float32).min), -1)
    same = (labels.unsqueeze(0) == labels.unsqueeze(1)) & ~itself
    return -(shares.masked_fill(~same, 0.0)).sum(-1) / same.sum(-1).clamp_min(1)


@dataclass(eq=False)
class SupCon(Recipe):
    """(1 - weight) loss + weight contrast, over what the last linear layer of the head reads."""

    fields: ClassVar[tuple[str, ...]] = ("supcon_weight", "supcon_temperature")
    in_step: ClassVar[bool] = True
    weight: float
    temperature: float
    _features: torch.Tensor | None = field(default=None, init=False)
    _pairs: int = field(default=0, init=False)

    @classmethod
    def of(cls, hyper: Hyperparameters) -> Self | None:
        return cls(hyper.supcon_weight, hyper.supcon_temperature) if hyper.supcon_weight else None

    def prepare(self, model: nn.Module) -> None:
        head = [
            module
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear) and layer_of(f"{name}.") is None
        ]
        if not head:
            raise DeadParameterError(f"supcon_weight={self.weight}: the model has no linear head; take it out")
        head[-1].register_forward_pre_hook(self._keep)

    def loss(self, passing: Pass, outputs: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
        if self._features is None:
            return share
        terms = contrast(self._features, passing.labels, self.temperature)
        self._pairs += int((terms.detach() != 0).sum())
        self._features = None
        return (1.0 - self.weight) * share + self.weight * passing.mean(terms)

    def observed(self, training: "Training") -> Mapping[str, Scalar | None]:
        if self not in training.recipes:
            return {"supcon_weight": 0.0}
        return {"supcon_weight": self.weight, "supcon_temperature": self.temperature}

    def idle(self) -> str | None:
        return (
            None
            if self._pairs
            else f"supcon_weight={self.weight}: no batch had two rows of one class; raise per_device_train_batch_size"
        )

    def _keep(self, module: nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        if module.training:
            self._features = arguments[0]
