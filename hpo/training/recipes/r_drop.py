"""Two dropouts of the same batch have to agree."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Self

import torch
from torch.nn import functional

from hpo.columns import IGNORED
from hpo.space import Scalar
from hpo.training.hyperparameters import Hyperparameters
from hpo.training.losses import SpanCrossEntropy
from hpo.training.recipes.contract import Pass, Recipe

if TYPE_CHECKING:
    from hpo.training.loop import Training


def divergence(one: torch.Tensor, other: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(terms,) float32, as many as the loss has: the mean of both Kullback-Leibler divergences between two answers.

    By what labels are (`losses`): (rows,) float: numbers, half the squared difference of Gaussians; (rows, n) float:
    each label by itself, the mean over them; else classes, where -100 counts for nothing.
    """
    one, other = one.float(), other.float()
    if labels.is_floating_point():
        if labels.dim() == 1:
            return 0.5 * (one - other).squeeze(-1) ** 2
        gap = torch.sigmoid(one) - torch.sigmoid(other)
        return (0.5 * gap * (one - other)).mean(-1)
    return _between(one.flatten(0, -2), other.flatten(0, -2)).masked_fill(labels.flatten() == IGNORED, 0.0)


def span_divergence(one: torch.Tensor, other: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(features,) float32: the mean of that of both ends of a span. one, other: (features, length, 2). labels:
    (features, 3), as `SpanCrossEntropy` has them. Tags of two classes may look the same: the loss tells them apart."""
    outside = torch.arange(one.shape[1], device=one.device) >= labels[:, 2:]
    least = torch.finfo(torch.float32).min
    ends = [part.float().masked_fill(outside.unsqueeze(-1), least).transpose(1, 2) for part in (one, other)]
    return _between(*ends).mean(-1)


def _between(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """(..., classes) -> (...)"""
    first, second = functional.log_softmax(one, -1), functional.log_softmax(other, -1)
    gap = (first - second).nan_to_num(0.0)
    return (0.5 * (first.exp() - second.exp()) * gap).sum(-1)


@dataclass(eq=False)
class RDrop(Recipe):
    """Half of: the losses of two forward passes, plus alpha times their divergence (Liang et al., NeurIPS 2021, eq. 4).
    A step costs twice as much."""

    fields: ClassVar[tuple[str, ...]] = ("rdrop_alpha",)
    in_step: ClassVar[bool] = True
    alpha: float
    _differed: bool = field(default=False, init=False)

    @classmethod
    def of(cls, hyper: Hyperparameters) -> Self | None:
        return cls(hyper.rdrop_alpha) if hyper.rdrop_alpha else None

    def loss(self, passing: Pass, outputs: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
        again = passing.outputs()
        between = span_divergence if isinstance(passing.training.plain_loss, SpanCrossEntropy) else divergence
        apart = passing.mean(between(outputs, again, passing.labels))
        self._differed = self._differed or float(apart.detach()) > 0.0
        return 0.5 * (share + passing.share(again) + self.alpha * apart)

    def observed(self, training: "Training") -> Mapping[str, Scalar | None]:
        return {"rdrop_alpha": self.alpha if self in training.recipes else 0.0}

    def idle(self) -> str | None:
        if self._differed:
            return None
        return f"rdrop_alpha={self.alpha}: both passes always agreed; give the model a dropout above 0"
