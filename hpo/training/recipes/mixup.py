"""Rows are mixed with other rows of their batch, and so are their labels."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
import torch

from hpo.space import Scalar
from hpo.training.hyperparameters import Hyperparameters
from hpo.training.recipes.contract import Pass, Recipe

if TYPE_CHECKING:
    from hpo.training.loop import Training


@dataclass(eq=False)
class Mixup(Recipe):
    """l a + (1 - l) b of word embeddings and of losses, b being another row of the batch, l ~ Beta(alpha, alpha) once a
    batch: Zhang et al., ICLR 2018; of embeddings as in Guo, Mao and Zhang 2019, arXiv:1905.08941."""

    fields: ClassVar[tuple[str, ...]] = ("mixup_alpha",)
    in_step: ClassVar[bool] = True
    alpha: float
    _mixed: int = field(default=0, init=False)

    @classmethod
    def of(cls, hyper: Hyperparameters) -> Self | None:
        return cls(hyper.mixup_alpha) if hyper.mixup_alpha else None

    def inputs(self, passing: Pass) -> None:
        """A text that is shorter than the one that it is mixed with is read on over its padding."""
        draw = np.random.default_rng(passing.draws(0x313))
        weight = float(draw.beta(self.alpha, self.alpha))
        order = draw.permutation(len(passing.rows))
        self._mixed += int((order != np.arange(len(order))).sum())
        others = torch.from_numpy(order).to(passing.labels.device)
        mask = passing.inputs["attention_mask"]
        passing.inputs = passing.inputs | {"attention_mask": torch.maximum(mask, mask[others])}
        passing.changes.append(lambda embeddings: weight * embeddings + (1.0 - weight) * embeddings[others])
        passing.targets = [(weight, passing.labels), (1.0 - weight, passing.labels[others])]

    def observed(self, training: "Training") -> Mapping[str, Scalar | None]:
        return {"mixup_alpha": self.alpha if self in training.recipes else 0.0}

    def idle(self) -> str | None:
        return (
            None
            if self._mixed
            else f"mixup_alpha={self.alpha}: no batch had two rows to mix; raise per_device_train_batch_size"
        )
