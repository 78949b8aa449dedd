"""The same batch several times, its word embeddings moved step by step to where the loss is worse."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Self

import torch

from hpo.space import Scalar
from hpo.training.hyperparameters import Hyperparameters
from hpo.training.recipes.contract import Pass, Recipe
from hpo.training.recipes.fgm import Shift, length_of

if TYPE_CHECKING:
    from hpo.training.loop import Training


@dataclass(eq=False)
class FreeLb(Recipe):
    """The mean loss of a batch and of `steps` perturbed ones: a random start, then ascents of `step_size` along the
    gradient, kept within epsilon (Zhu et al., ICLR 2020, algorithm 1). Each step of training costs steps + 1 of them.
    """

    fields: ClassVar[tuple[str, ...]] = ("adversarial", "adversarial_epsilon", "freelb_steps", "freelb_step_size")
    in_step: ClassVar[bool] = True
    epsilon: float
    steps: int
    step_size: float
    _moved: int = field(default=0, init=False)

    @classmethod
    def of(cls, hyper: Hyperparameters) -> Self | None:
        if hyper.adversarial != "freelb":
            return None
        return cls(hyper.adversarial_epsilon, hyper.freelb_steps, hyper.freelb_step_size)

    def loss(self, passing: Pass, outputs: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
        return share / (self.steps + 1)

    def after_backward(self, passing: Pass) -> None:
        shift = _Random(self.epsilon)
        for step in range(self.steps):
            share = passing.share(passing.outputs(shift)) / (self.steps + 1)
            share.backward()  # type: ignore[no-untyped-call]
            gradient = shift.by.grad if shift.by is not None else None
            if shift.by is None or gradient is None:
                return
            self._moved += 1
            if step + 1 < self.steps:
                by = shift.by.detach() + self.step_size * gradient / length_of(gradient)
                by = by * (self.epsilon / length_of(by)).clamp_max(1.0)
                shift.by = by.requires_grad_()

    def observed(self, training: "Training") -> Mapping[str, Scalar | None]:
        if self not in training.recipes:
            return {}
        return {
            "adversarial": "freelb",
            "adversarial_epsilon": self.epsilon,
            "freelb_steps": self.steps,
            "freelb_step_size": self.step_size,
        }

    def idle(self) -> str | None:
        return (
            None if self._moved else "adversarial=freelb: no gradient arrived at the word embeddings; don't freeze them"
        )


class _Random(Shift):
    """Begins somewhere within epsilon of each row."""

    def __init__(self, epsilon: float) -> None:
        super().__init__()
        self._epsilon = epsilon

    def __call__(self, embeddings: torch.Tensor) -> torch.Tensor:
        if self.by is None:
            size = embeddings[0].numel() ** 0.5
            by = torch.empty_like(embeddings).uniform_(-1.0, 1.0) * (self._epsilon / size)
            self.by = by.detach().requires_grad_()
        return embeddings + self.by
