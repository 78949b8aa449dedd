"""Rare classes are drawn more often than they are there, frequent ones less often."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import numpy as np

from hpo.encoded import Array
from hpo.space import Scalar
from hpo.training.hyperparameters import Hyperparameters
from hpo.training.recipes.contract import Recipe

if TYPE_CHECKING:
    from hpo.training.loop import Training

_STREAM = 0x5E5A
"""Of this recipe's draws, apart from those of the order."""


def quotas_of(counts: Array, power: float) -> Array:
    """(classes,) int64: how many rows of each class make an epoch, together as many as there are; in proportion to
    counts ** power: 1 leaves them as they are, 0 makes all classes equal."""
    weights = np.where(counts > 0, counts.astype(np.float64) ** power, 0.0)
    exact = weights / weights.sum() * counts.sum()
    quotas: Array = np.floor(exact).astype(np.int64)
    missing = int(counts.sum() - quotas.sum())
    quotas[np.argsort(quotas - exact, kind="stable")[:missing]] += 1
    return quotas


@dataclass(eq=False)
class Resampling(Recipe):
    """Each epoch has as many rows as the split, so that steps and budgets mean the same with it and without it.

    A class whose quota is larger than its rows gives all of them, as often as that goes, and a random part of them for
    the rest; one with a smaller quota gives another random part each epoch. balanced: all classes alike. sqrt: in
    proportion to the root of their rows. Chawla et al., JAIR 2002, section 2, has what over- and under-sampling do.
    """

    fields: ClassVar[tuple[str, ...]] = ("resampling",)
    kind: Literal["balanced", "sqrt"]

    @classmethod
    def of(cls, hyper: Hyperparameters) -> Self | None:
        return None if hyper.resampling == "none" else cls(hyper.resampling)

    def begin(self, training: "Training") -> None:
        labels = training.train.labels
        counts = np.bincount(labels)
        quotas = quotas_of(counts, _POWERS[self.kind])
        members = [np.flatnonzero(labels == each) for each in range(len(counts))]

        def choose(epoch: int) -> Array:
            draw = np.random.default_rng((training.order_seed, epoch, _STREAM))
            parts = []
            for own, quota in zip(members, quotas, strict=True):
                if len(own):
                    parts += [own] * (quota // len(own))
                    parts.append(draw.permutation(own)[: quota % len(own)])
            chosen: Array = np.concatenate(parts)
            return chosen

        training.choose = choose

    def observed(self, training: "Training") -> Mapping[str, Scalar | None]:
        """By how often each class is in the batches of the first epoch."""
        labels = training.train.labels
        counts = np.bincount(labels)
        found = np.bincount(labels[np.concatenate(training.first_epoch())], minlength=len(counts))
        return {"resampling": self.kind if np.array_equal(found, quotas_of(counts, _POWERS[self.kind])) else "none"}


_POWERS = {"balanced": 0.0, "sqrt": 0.5}
