"""The same batch again, its word embeddings moved by one step to where the loss is worse."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Self

import torch

from hpo.space import Scalar
from hpo.training.hyperparameters import Hyperparameters
from hpo.training.recipes.contract import Pass, Recipe

if TYPE_CHECKING:
    from hpo.training.loop import Training


class Shift:
    """A change of the word embeddings that can be learnt where to go from. by: as they are, None before the first."""

    def __init__(self, by: torch.Tensor | None = None) -> None:
        self.by = by

    def __call__(self, embeddings: torch.Tensor) -> torch.Tensor:
        if self.by is None:
            self.by = torch.zeros_like(embeddings, requires_grad=True)
        return embeddings + self.by


def length_of(change: torch.Tensor) -> torch.Tensor:
    """(rows, 1, ...): L2 norm of each row, above zero."""
    norms: torch.Tensor = torch.linalg.vector_norm(change.flatten(1), dim=1).clamp_min(1e-12)
    return norms.reshape((-1,) + (1,) * (change.dim() - 1))


@dataclass(eq=False)
class Fgm(Recipe):
    """Fast gradient method: the loss of a batch, and that of r = epsilon g / |g| added to each row's word embeddings, g
    being the gradient there (Miyato, Dai and Goodfellow, ICLR 2017, eq. 6). A step costs twice as much."""

    fields: ClassVar[tuple[str, ...]] = ("adversarial", "adversarial_epsilon")
    in_step: ClassVar[bool] = True
    epsilon: float
    _shift: Shift = field(default_factory=Shift, init=False)
    _moved: int = field(default=0, init=False)

    @classmethod
    def of(cls, hyper: Hyperparameters) -> Self | None:
        return cls(hyper.adversarial_epsilon) if hyper.adversarial == "fgm" else None

    def inputs(self, passing: Pass) -> None:
        """The first forward pass takes a gradient at the embeddings."""
        self._shift = Shift()
        passing.changes.append(self._shift)

    def after_backward(self, passing: Pass) -> None:
        passing.changes.remove(self._shift)
        gradient = self._shift.by.grad if self._shift.by is not None else None
        if gradient is None:
            return
        by = self.epsilon * gradient / length_of(gradient)
        passing.share(passing.outputs(Shift(by))).backward()  # type: ignore[no-untyped-call]
        self._moved += 1

    def observed(self, training: "Training") -> Mapping[str, Scalar | None]:
        return {"adversarial": "fgm", "adversarial_epsilon": self.epsilon} if self in training.recipes else {}

    def idle(self) -> str | None:
        return None if self._moved else "adversarial=fgm: no gradient arrived at the word embeddings; don't freeze them"
