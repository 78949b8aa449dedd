"""Terms of rare classes count more."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import numpy as np
import torch

from hpo.columns import IGNORED
from hpo.encoded import Array
from hpo.space import Scalar
from hpo.training.hyperparameters import Hyperparameters
from hpo.training.recipes.contract import Criterion, Recipe

if TYPE_CHECKING:
    from hpo.training.loop import Training

Weighting = Literal["balanced", "sqrt", "effective"]

_BETA = 0.999
"""Of the effective number; the best one of Cui et al. on sets of some thousand rows a class."""


def weights_of(counts: Array, weighting: Weighting) -> Array:
    """(classes,) float64, with mean 1 over the terms that were counted; 0 for a class without any. counts: (classes,).

    balanced: n / n_c (King and Zeng 2001). sqrt: its root. effective: (1 - b) / (1 - b^n_c), Cui et al., CVPR 2019.
    """
    there = counts > 0
    raw = np.zeros(len(counts))
    match weighting:
        case "balanced":
            raw[there] = 1.0 / counts[there]
        case "sqrt":
            raw[there] = counts[there] ** -0.5
        case "effective":
            raw[there] = (1.0 - _BETA) / (1.0 - _BETA ** counts[there])
    weights: Array = raw * (counts.sum() / (raw * counts).sum())
    return weights


def counts_of(labels: Array) -> Array:
    """(classes,) int64: how often each is there. labels: ids, -100 where none counts."""
    return np.bincount(labels[labels != IGNORED])


@dataclass(frozen=True, slots=True, eq=False)
class Weighted:
    """inner, with each term times the weight of its class. weights: (classes,) float32."""

    inner: Criterion
    weights: torch.Tensor

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """As the inner loss of classes."""
        return self.inner(logits, labels) * self.weights[labels.flatten().clamp_min(0)]


@dataclass(eq=False)
class ClassWeights(Recipe):
    """Weights the loss by how rare the true class is among the training rows, mean 1 over them."""

    fields: ClassVar[tuple[str, ...]] = ("class_weights",)
    weighting: Weighting

    @classmethod
    def of(cls, hyper: Hyperparameters) -> Self | None:
        return None if hyper.class_weights == "none" else cls(hyper.class_weights)

    def begin(self, training: "Training") -> None:
        """Classes beyond the last one that is in train have weight 0: nothing is to be learnt of them."""
        counts = np.zeros(int(training.model.config.num_labels), np.int64)  # type: ignore[union-attr, arg-type]
        found = counts_of(training.train.labels)
        counts[: len(found)] = found
        weights = torch.from_numpy(weights_of(counts, self.weighting)).float().to(training.where)
        training.loss = Weighted(training.loss, weights)

    def observed(self, training: "Training") -> Mapping[str, Scalar | None]:
        """The weighting that gives the weights which the loss holds."""
        weights = getattr(training.loss, "weights", None)
        if weights is None:
            return {}
        counts = counts_of(training.train.labels)
        asked = weights_of(counts, self.weighting)
        fits = np.allclose(asked, weights.cpu().numpy()[: len(counts)], rtol=1e-4)
        return {"class_weights": self.weighting if fits else "unknown"}
