"""Some tokens of every text change places with a neighbour."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
import torch

from hpo.space import Scalar
from hpo.training.hyperparameters import Hyperparameters
from hpo.training.recipes.contract import Pass, Recipe
from hpo.training.recipes.editing import editable, rearranged

if TYPE_CHECKING:
    from hpo.training.loop import Training


@dataclass(eq=False)
class TokenSwap(Recipe):
    """Neighbours change places: pairs are even or odd by chance, and each pair of two tokens of the text is turned with
    this probability. Order is only disturbed nearby (Lample et al., ICLR 2018, section 2.3)."""

    fields: ClassVar[tuple[str, ...]] = ("token_swap",)
    in_step: ClassVar[bool] = True
    probability: float
    _changed: int = field(default=0, init=False)

    @classmethod
    def of(cls, hyper: Hyperparameters) -> Self | None:
        return cls(hyper.token_swap) if hyper.token_swap else None

    def inputs(self, passing: Pass) -> None:
        ids = passing.inputs["input_ids"]
        rows, length = ids.shape
        draw = np.random.default_rng(passing.draws(0x54AB))
        first = int(draw.integers(2))
        pairs = max(0, (length - first) // 2)
        turned = torch.from_numpy(draw.random((rows, pairs)) < self.probability).to(ids.device)
        free = editable(passing.inputs)
        left = torch.arange(first, first + 2 * pairs, 2, device=ids.device)
        turned &= free[:, left] & free[:, left + 1]
        order = torch.arange(length, device=ids.device).repeat(rows, 1)
        order[:, left] += turned.long()
        order[:, left + 1] -= turned.long()
        passing.inputs = rearranged(passing, order, passing.inputs["attention_mask"].sum(1))
        self._changed += int(turned.sum())

    def observed(self, training: "Training") -> Mapping[str, Scalar | None]:
        return {"token_swap": self.probability if self in training.recipes else 0.0}

    def idle(self) -> str | None:
        return (
            None
            if self._changed
            else f"token_swap={self.probability}: not one token was moved; raise it, or take it out of the space"
        )
