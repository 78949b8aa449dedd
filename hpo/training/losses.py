"""Losses: outputs and labels in, one number a term out. A term is a row, a token, or a label of a row."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from hpo.columns import Target
from hpo.training import masked
from hpo.training.hyperparameters import Hyperparameters

_TINY = 1e-6
"""Below it the power's gradient overflows where gamma is below 1."""


@dataclass(frozen=True, slots=True)
class CrossEntropy:
    name: ClassVar[str] = "cross_entropy"
    label_smoothing: float

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """logits: (..., classes). labels: (...) int64, -100 where none counts. Returns as many numbers, float32."""
        return functional.cross_entropy(
            logits.float().flatten(0, -2), labels.flatten(), label_smoothing=self.label_smoothing, reduction="none"
        )


@dataclass(frozen=True, slots=True)
class Focal:
    """(1 - p)^gamma times the cross entropy, p the probability of the true class. Lin et al., ICCV 2017, eq. 4."""

    name: ClassVar[str] = "focal"
    gamma: float
    label_smoothing: float

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """logits: (..., classes). labels: (...) int64, -100 where none counts. Returns as many numbers, float32."""
        scores, classes = logits.float().flatten(0, -2), labels.flatten()
        entropy = functional.cross_entropy(scores, classes, label_smoothing=self.label_smoothing, reduction="none")
        right = scores.softmax(-1).gather(-1, classes.clamp_min(0).unsqueeze(-1)).squeeze(-1)
        return (1.0 - right).clamp_min(_TINY) ** self.gamma * entropy


@dataclass(frozen=True, slots=True)
class BinaryCrossEntropy:
    """Of each label by itself, yes or no."""

    name: ClassVar[str] = "cross_entropy"

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """logits: (rows, labels). labels: (rows, labels), 0.0 or 1.0. Returns (rows,) float32, means over labels."""
        return functional.binary_cross_entropy_with_logits(logits.float(), labels, reduction="none").mean(-1)


@dataclass(frozen=True, slots=True)
class BinaryFocal:
    """As `Focal`, of each label by itself, yes or no: the form of the paper (eq. 4)."""

    name: ClassVar[str] = "focal"
    gamma: float

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """logits: (rows, labels). labels: (rows, labels), 0.0 or 1.0. Returns (rows,) float32, means over labels."""
        entropy = functional.binary_cross_entropy_with_logits(logits.float(), labels, reduction="none")
        wrong = torch.sigmoid(logits.float() * (1.0 - 2.0 * labels))
        return (wrong.clamp_min(_TINY) ** self.gamma * entropy).mean(-1)


@dataclass(frozen=True, slots=True)
class SpanCrossEntropy:
    """Mean of two cross entropies over the tokens of a feature: of its first and of its last token (Devlin et al. 2019,
    4.2)."""

    name: ClassVar[str] = "cross_entropy"

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """logits: (features, length, 2), or without padding, one feature after the other, (tokens, 2).
        labels: (features, 3) int64: first token, last token, number of tokens. Returns (features,) float32."""
        if logits.dim() == 2:
            logits = pad_sequence(list(torch.split(logits, labels[:, 2].tolist())), batch_first=True)
        outside = torch.arange(logits.shape[1], device=logits.device) >= labels[:, 2:]
        scores = logits.float().masked_fill(outside.unsqueeze(-1), torch.finfo(torch.float32).min)
        return functional.cross_entropy(scores, labels[:, :2], reduction="none").mean(-1)


@dataclass(frozen=True, slots=True)
class SquaredError:
    name: ClassVar[str | None] = None

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """logits: (rows, 1). labels: (rows,) float32. Returns (rows,) float32."""
        return (logits.float().squeeze(-1) - labels) ** 2


@dataclass(frozen=True, slots=True)
class MaskedCrossEntropy:
    """Of the tokens that were masked (Devlin et al. 2019, 3.1). Where it is asked whether a sentence follows, that of
    the answer is added to the mean over tokens; each row's as often as it has masked tokens."""

    name: ClassVar[str | None] = None

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """logits: (1, masked tokens, vocabulary), or as `masked.joined` has them; labels: (rows, length) int64, -100
        where no answer counts; returns (masked tokens,) float32, or (masked tokens + rows,). Or the sums by row, (rows,
        3) or (rows, 6), of `masked.by_row`: returns (rows,)."""
        if logits.dim() == 2:
            return logits[:, 0] + (logits[:, 1] * logits[:, 3] if logits.shape[1] > 3 else 0.0)
        words, follows = masked.nats(logits, labels)
        return words if follows is None else torch.cat([words, follows * (labels >= 0).sum(1)])


@dataclass(frozen=True, slots=True)
class WrittenCrossEntropy:
    """Of the tokens of a text, each after the right ones before it."""

    name: ClassVar[str] = "cross_entropy"
    label_smoothing: float

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """logits: (rows, length, vocabulary), labels: (rows, length) int64, -100 where none counts; returns as many
        numbers, float32. Or what `seq2seq.write` says, (rows, 2 + bytes): returns (rows,)."""
        if logits.dim() == 2:
            return logits[:, 0]
        return CrossEntropy(self.label_smoothing)(logits, labels)


Loss = (
    CrossEntropy
    | Focal
    | BinaryCrossEntropy
    | BinaryFocal
    | SpanCrossEntropy
    | SquaredError
    | MaskedCrossEntropy
    | WrittenCrossEntropy
)


def build_loss(hyper: Hyperparameters, target: Target) -> Loss:
    """target: what the task's labels are."""
    is_focal = hyper.loss == "focal"
    match target:
        case "number":
            return SquaredError()
        case "span":
            return SpanCrossEntropy()
        case "masked":
            return MaskedCrossEntropy()
        case "text":
            return WrittenCrossEntropy(hyper.label_smoothing_factor)
        case "classes":
            return BinaryFocal(hyper.focal_gamma) if is_focal else BinaryCrossEntropy()
        case "class":
            smoothing = hyper.label_smoothing_factor
            return Focal(hyper.focal_gamma, smoothing) if is_focal else CrossEntropy(smoothing)
