"""What a training recipe is: hooks into one training, all of which do nothing unless a recipe says otherwise.

Must not know any recipe, nor trials. `training.loop` and `trial` call the hooks; who is not active is not called.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Protocol, Self

import torch
from torch import nn

from hpo.encoded import Array
from hpo.space import Scalar
from hpo.training import device, inference
from hpo.training.hyperparameters import Hyperparameters

if TYPE_CHECKING:
    from hpo.training.loop import Training

Change = Callable[[torch.Tensor], torch.Tensor]
"""Of word embeddings (rows, length, size), of the same shape."""


class Criterion(Protocol):
    """Outputs and labels in, one number a term out; see `losses`."""

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor: ...


@dataclass
class Pass:
    """One micro-batch of one optimiser step.

    rows: (features,) their numbers. terms_of_step: of the whole step, which the loss is a mean over. targets: labels
    with their weights, which sum to 1. changes: what is done to the word embeddings in every forward pass.
    """

    training: "Training"
    rows: Array
    inputs: dict[str, torch.Tensor]
    labels: torch.Tensor
    terms_of_step: int
    targets: list[tuple[float, torch.Tensor]] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.targets = self.targets or [(1.0, self.labels)]

    def outputs(self, *more: Change) -> torch.Tensor:
        """A forward pass; each has dropouts of its own. more: further changes of the word embeddings, in this one."""
        context, _ = device.autocast(self.training.where, self.training.bf16)
        with context, changed(self.training.model, (*self.changes, *more)):
            return inference.outputs_of(self.training.model(**self.inputs))

    def mean(self, terms: torch.Tensor) -> torch.Tensor:
        """What these terms give to the mean of the step, ()."""
        return terms.sum() / max(1, self.terms_of_step)

    def share(self, outputs: torch.Tensor) -> torch.Tensor:
        """What these rows give to the mean loss of the step, ()."""
        parts = [weight * self.mean(self.training.loss(outputs, labels)) for weight, labels in self.targets]
        return sum(parts[1:], start=parts[0])

    def draws(self, purpose: int) -> tuple[int, ...]:
        """A seed for this micro-batch: the same in every process that comes by here."""
        return (self.training.order_seed, self.training.step, int(self.rows[0]), purpose)


class Recipe:
    """One way to train better. Hooks come in the order of the methods below.

    fields: the hyperparameters that it owns; the first says whether it is active. in_step: it hooks into forward or
    backward, so that steps are taken by the eager loop. Who lets a batch's rows meet is named in `COUPLES_ROWS`.
    """

    fields: ClassVar[tuple[str, ...]]
    in_step: ClassVar[bool] = False

    @property
    def looks_at_weights(self) -> bool:
        """Between two steps, or in place of them, so that they have to lie where the model has them."""
        own = type(self)
        return own.after_step is not Recipe.after_step or own.evaluating is not Recipe.evaluating

    @classmethod
    def of(cls, hyper: Hyperparameters) -> Self | None:
        """None where its values say that it is not wanted."""
        raise NotImplementedError

    def prepare(self, model: nn.Module) -> None:
        """Change the model, before the optimiser is built. DeadParameterError where it can't."""

    def begin(self, training: "Training") -> None:
        """Change the training, before its first step. DeadParameterError where it can't."""

    def observed(self, training: "Training") -> Mapping[str, Scalar | None]:
        """Its fields, read back from what trains."""
        raise NotImplementedError

    def inputs(self, passing: Pass) -> None:
        """Change what goes into the model."""

    def loss(self, passing: Pass, outputs: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
        """What is to be minimised, in place of `share`."""
        return share

    def after_backward(self, passing: Pass) -> None:
        """Add to the gradients, or take from them."""

    def after_step(self, training: "Training") -> None:
        """After the optimiser's step number `training.step`."""

    @contextmanager
    def evaluating(self, training: "Training") -> Iterator[None]:
        """The model is what is evaluated and kept, and what is trained again afterwards, to the bit."""
        yield

    def is_own(self, name: str) -> bool:
        """Whether this entry of the model's state is the recipe's, and none of the model that is kept."""
        return False

    def state(self) -> Mapping[str, torch.Tensor]:
        """What a bookmark has to hold of it."""
        return {}

    def go_on(self, training: "Training", state: Mapping[str, torch.Tensor]) -> None:
        """Be where `state` was taken."""

    def idle(self) -> str | None:
        """Asked after a whole training: why it has done nothing, in words; None where it did something."""
        return None


@contextmanager
def changed(model: nn.Module, changes: tuple[Change, ...]) -> Iterator[None]:
    """Word embeddings pass through `changes` on their way into the model."""
    if not changes:
        yield
        return
    embedding: nn.Module = model.get_input_embeddings()  # type: ignore[operator]

    def hook(module: nn.Module, arguments: object, output: torch.Tensor) -> torch.Tensor:
        for change in changes:
            output = change(output)
        return output

    handle = embedding.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def evaluating(training: "Training") -> Iterator[None]:
    """As all recipes of a training want it."""
    with ExitStack() as stack:
        for recipe in training.recipes:
            stack.enter_context(recipe.evaluating(training))
        yield
