"""Losses: logits and labels in, one number a row out."""

from dataclasses import dataclass

import torch
from torch.nn import functional

from hpo.training.hyperparameters import Hyperparameters

_TINY = 1e-6
"""Below it the power's gradient overflows where gamma is below 1."""


@dataclass(frozen=True, slots=True)
class CrossEntropy:
    label_smoothing: float

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """logits: (rows, classes). labels: (rows,) int64. Returns (rows,) float32."""
        return functional.cross_entropy(logits.float(), labels, label_smoothing=self.label_smoothing, reduction="none")


@dataclass(frozen=True, slots=True)
class Focal:
    """(1 - p)^gamma times the cross entropy, p the probability of the true class. Lin et al., ICCV 2017, eq. 4."""

    gamma: float
    label_smoothing: float

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """logits: (rows, classes). labels: (rows,) int64. Returns (rows,) float32."""
        entropy = functional.cross_entropy(
            logits.float(), labels, label_smoothing=self.label_smoothing, reduction="none"
        )
        right = logits.float().softmax(-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)
        return (1.0 - right).clamp_min(_TINY) ** self.gamma * entropy


@dataclass(frozen=True, slots=True)
class SquaredError:
    def __call__(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """logits: (rows, 1). labels: (rows,) float32. Returns (rows,) float32."""
        return (logits.float().squeeze(-1) - labels) ** 2


Loss = CrossEntropy | Focal | SquaredError


def build_loss(hyper: Hyperparameters, classes: int) -> Loss:
    """classes: 0 for regression."""
    if classes == 0:
        return SquaredError()
    if hyper.loss == "focal":
        return Focal(hyper.focal_gamma, hyper.label_smoothing_factor)
    return CrossEntropy(hyper.label_smoothing_factor)
