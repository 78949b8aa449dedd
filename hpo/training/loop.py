"""The training loop: a generator that trains one model and says how it stands at every evaluation.

Explicit PyTorch. Must not know Ray, MLflow, or why it is stopped: whoever pulls reports may stop pulling.
"""

import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from hpo.encoded import Array, Encoded
from hpo.errors import DivergedError
from hpo.training import batches, device, graphs, inference
from hpo.training.hyperparameters import Hyperparameters
from hpo.training.losses import Loss
from hpo.training.optimizer import set_rate
from hpo.training.recipes.contract import Criterion, Pass, Recipe, evaluating

_CHECK_EVERY = {"cpu": 1, "cuda": 16}
"""Steps between looks at the loss: on a GPU every look waits for the device."""

_REMEDY = "lower learning_rate, or max_grad_norm"

Score = Callable[[Array, Encoded], dict[str, float]]
"""(logits, the rows that they answer) -> metrics."""


def _nothing(step: int) -> None:
    """Most steps need no preparation."""


@dataclass(frozen=True, slots=True)
class Clip:
    """Scales the gradients to a norm of max_norm where it is larger; 0 leaves them as they are."""

    max_norm: float

    def __call__(self, parameters: Iterable[nn.Parameter]) -> None:
        if self.max_norm > 0:
            nn.utils.clip_grad_norm_(parameters, self.max_norm)


@dataclass
class Training:
    """Everything that one trial trains with. What changes on the way is changed between two evaluations (population).

    plain_loss: without smoothing and focusing, so that its validation value can be compared between trials.
    started_from: the name of the pretrained model, where several are tried. adapted: whether its weights are of a stage
    before. mlm_probability: where words are masked. before_step: told the number of steps done, before each one: what
    it is fed may depend on it.
    pace: how steps are taken; None: as suits the device.
    micro_batch: the most rows at a time, None for whole batches; gradients are those of the batch either way.
    recipes: those that are active. choose: the rows of an epoch, None for all. step: the one that is taken, from 1.
    patience: evaluations without a better one after which it ends; 0: none does.
    taught: the teacher's logits for each feature of train.
    *_terms: of the mean loss, by feature in training, of the whole split in validation.
    """

    model: nn.Module
    optimizer: torch.optim.AdamW
    factor: Callable[[int], float]
    loss: Criterion
    plain_loss: Loss
    hyper: Hyperparameters
    train: Encoded
    validation: Encoded
    collate: inference.Collate
    score: Score
    dropouts: Callable[[str], list[str]]
    where: torch.device
    clip: Clip
    order_seed: int
    total_steps: int
    steps_per_epoch: int
    started_from: str | None = None
    adapted: bool = False
    mlm_probability: float | None = None
    before_step: Callable[[int], None] = _nothing
    pace: graphs.Pace | None = None
    micro_batch: int | None = None
    recipes: tuple[Recipe, ...] = ()
    choose: batches.Choose | None = None
    patience: int = 0
    taught: Array | None = None
    step: int = 0
    bf16: bool = field(init=False)
    train_terms: Array = field(init=False)
    validation_terms: int = field(init=False)

    def __post_init__(self) -> None:
        _, self.bf16 = device.autocast(self.where, self.hyper.bf16)
        self.train_terms = self.train.terms
        self.validation_terms = max(1, int(self.validation.terms.sum()))

    def train_on(self, rows: Encoded, collate: inference.Collate, before_step: Callable[[int], None]) -> None:
        """Rows that are fed otherwise at every step."""
        self.train, self.collate, self.before_step = rows, collate, before_step
        self.train_terms = rows.terms

    @property
    def rows(self) -> int:
        return len(self.train)

    @property
    def model_config(self) -> dict[str, Any]:
        """As `save_pretrained` would write it."""
        config: Any = self.model.config
        found: dict[str, Any] = config.to_dict() | {"architectures": [type(self.model).__name__]}
        return found

    def count_parameters(self) -> dict[str, float]:
        """Numbers in the model, and those of them that are trained."""
        parts = list(self.model.parameters())
        trained = sum(part.numel() for part in parts if part.requires_grad)
        return {"parameters": float(sum(part.numel() for part in parts)), "trainable_parameters": float(trained)}

    def copy_weights(self) -> dict[str, torch.Tensor]:
        """Those of a plain model, as they are evaluated now, on the model's device: there a copy takes no time. What is
        tied to others by its kind, such as the outputs of a masked language model to its words, is there once."""
        tied: Mapping[str, str] = getattr(self.model, "all_tied_weights_keys", {})
        with evaluating(self):
            held = [(name, part) for name, part in self.model.state_dict().items() if name not in tied]
            own = [(name, part) for name, part in held if not any(recipe.is_own(name) for recipe in self.recipes)]
            return {name: part.detach().clone() for name, part in own}

    def steps(self) -> Iterator[list[Array]]:
        """Endless: the micro-batches of one optimiser step after the other."""
        endless = batches.micro_batches(
            self.train.ragged["input_ids"].lengths,
            self.hyper.per_device_train_batch_size,
            self.hyper.gradient_accumulation_steps,
            seed=self.order_seed,
            choose=self.choose,
        )
        for number, micro in enumerate(endless):
            self.before_step(number)
            yield micro

    def first_epoch(self) -> list[Array]:
        return batches.drawn(
            self.train.ragged["input_ids"].lengths,
            self.hyper.per_device_train_batch_size,
            self.choose,
            seed=self.order_seed,
            epoch=0,
        )


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One look at the validation split. metrics: of the task, and how training went since the last one."""

    step: int
    metrics: dict[str, float]


@dataclass
class Progress:
    """How far a training is, between two steps. losses: of the steps since the last evaluation, each (); seen, seconds:
    rows and time since then; trained: seconds of training before it."""

    step: int = 0
    losses: list[torch.Tensor] = field(default_factory=list)
    seen: int = 0
    seconds: float = 0.0
    trained: float = 0.0


def train(
    training: Training,
    evaluate_at: frozenset[int],
    progress: Progress | None = None,
    between: Callable[[Progress], None] = lambda progress: None,
) -> Iterator[Evaluation]:
    """Train `total_steps` optimiser steps; evaluate after each step in `evaluate_at`.

    progress: where to go on, with all that is random as it was then; None: at the first step. between: called after
    every step, once all is done that belongs to it. Raises DivergedError as soon as a loss or a metric is not finite.
    """
    model = training.model
    check_every = _CHECK_EVERY[training.where.type]
    if progress is None:
        progress = Progress()
        torch.manual_seed(training.order_seed)  # dropout
    model.train()
    take_step = stepper(training)
    losses, seen, trained = progress.losses, progress.seen, progress.trained
    started = time.perf_counter() - progress.seconds
    steps = zip(itertools.count(1), training.steps(), strict=False)
    for step, micro in itertools.islice(steps, progress.step, training.total_steps):
        training.step = step
        set_rate(training.optimizer, training.factor(step - 1))
        losses.append(take_step(micro))
        for recipe in training.recipes:
            recipe.after_step(training)
        seen += sum(len(batch) for batch in micro)
        if step % check_every == 0 and not math.isfinite(last := float(losses[-1])):
            raise DivergedError(f"the training loss is {last} at step {step}; {_REMEDY}")
        if step not in evaluate_at:
            between(Progress(step, losses, seen, time.perf_counter() - started, trained))
            continue
        train_loss = float(torch.stack(losses).mean())
        seconds = time.perf_counter() - started
        trained += seconds
        labels = torch.from_numpy(training.validation.labels.copy())
        asked = time.perf_counter()
        with evaluating(training):
            logits = inference.logits(model, training.validation, training.collate, training.where, bf16=training.bf16)
        latency = 1_000.0 * (time.perf_counter() - asked) / training.validation.rows
        metrics = training.score(logits, training.validation)
        metrics |= {
            "loss": float(training.plain_loss(torch.from_numpy(logits), labels).sum()) / training.validation_terms,
            "train_loss": train_loss,
            "learning_rate": training.hyper.learning_rate * training.factor(step - 1),
            "epoch": step / training.steps_per_epoch,
            "sentences_per_second": seen / seconds,
            "train_seconds": trained,
            "latency": latency,
        }
        broken = [f"{name} is {value}" for name, value in metrics.items() if not math.isfinite(value)]
        if broken:
            raise DivergedError(f"{', '.join(broken)} at step {step}; {_REMEDY}")
        yield Evaluation(step, metrics)
        take_step.settle()
        model.train()
        losses.clear()
        started, seen = time.perf_counter(), 0
        between(Progress(step, trained=trained))


def stepper(training: Training) -> graphs.Stepper:
    """What takes this training's optimiser steps, at the rates that its optimiser holds."""
    parameters = [part for part in training.model.parameters() if part.requires_grad]

    def eager(micro: graphs.Micro) -> torch.Tensor:
        terms = int(sum(training.train_terms[batch].sum() for batch in micro))
        parts = [part for batch in micro for part in batches.split(batch, training.micro_batch)]
        loss = sum((_backward(training, part, terms) for part in parts), start=torch.zeros(()))
        training.clip(parameters)
        training.optimizer.step()
        training.optimizer.zero_grad(set_to_none=True)
        return loss

    return graphs.stepper(training, eager)


def _backward(training: Training, rows: Array, terms_of_step: int) -> torch.Tensor:
    """Gradients of one micro-batch; returns its share of the step's mean loss, detached, without what recipes make of
    it: so trials can be compared."""
    inputs = inference.to_tensors(training.collate(training.train, rows), training.where)
    passing = Pass(training, rows, inputs, inputs.pop("labels"), terms_of_step)
    active = [recipe for recipe in training.recipes if recipe.in_step]
    for recipe in active:
        recipe.inputs(passing)
    outputs = passing.outputs()
    share = passing.share(outputs)
    found = share.detach()
    for recipe in active:
        share = recipe.loss(passing, outputs, share)
    share.backward()  # type: ignore[no-untyped-call]
    for recipe in active:
        recipe.after_backward(passing)
    return found
