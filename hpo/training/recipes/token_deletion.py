"""Some tokens of every text are left out."""

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
class TokenDeletion(Recipe):
    """Each token of a training text goes with this probability, others at every visit (Wei and Zou, EMNLP 2019, random
    deletion, of word pieces)."""

    fields: ClassVar[tuple[str, ...]] = ("token_deletion",)
    in_step: ClassVar[bool] = True
    probability: float
    _changed: int = field(default=0, init=False)

    @classmethod
    def of(cls, hyper: Hyperparameters) -> Self | None:
        return cls(hyper.token_deletion) if hyper.token_deletion else None

    def inputs(self, passing: Pass) -> None:
        ids = passing.inputs["input_ids"]
        draw = np.random.default_rng(passing.draws(0xDE1)).random(tuple(ids.shape))
        falls = torch.from_numpy(draw < self.probability).to(ids.device) & editable(passing.inputs)
        kept = passing.inputs["attention_mask"].bool() & ~falls
        order = torch.argsort((~kept).to(torch.int8), dim=1, stable=True)
        passing.inputs = rearranged(passing, order, kept.sum(1))
        self._changed += int(falls.sum())

    def observed(self, training: "Training") -> Mapping[str, Scalar | None]:
        return {"token_deletion": self.probability if self in training.recipes else 0.0}

    def idle(self) -> str | None:
        return (
            None
            if self._changed
            else f"token_deletion={self.probability}: not one token was left out; raise it, or take it out of the space"
        )
