"""Optimiser steps without launches: on a GPU a whole step is captured once a length as a CUDA graph, then replayed.

At 512 tokens a step BERT-base is bound by the launches of some 1,500 kernels (15 to 30 ms against 1 to 3 ms of
arithmetic). Owns how a step is taken where all is as usual; what is unusual is left to the eager loop. Must not know
evaluations, reports or tasks. Whatever changes between two evaluations (population) is seen by `settle`.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import torch
from torch import nn
from torch.func import functional_call

from hpo.encoded import Array
from hpo.training import device, masks
from hpo.training.model import dropout_of
from hpo.training.resident import Resident

if TYPE_CHECKING:
    from hpo.training.flat import FlatAdamW
    from hpo.training.loop import Training

Pace = Literal["eager", "graphs", "shadow", "fused", "lean"]
"""eager: kernel by kernel. graphs: the same arithmetic, captured. shadow: captured, and forward and backward run in
bfloat16 on a copy of the weights that every step takes from the float32 ones, instead of autocast's casts. fused: as
shadow, with clipping, AdamW and the copy in one kernel. lean: for CPUs, see `hpo.training.lean`."""

PACES: dict[str, Pace] = {"cpu": "lean", "cuda": "fused"}
"""What suits a device."""

Micro = Sequence[Array]


class Stepper(Protocol):
    """Takes one optimiser step after the other."""

    def __call__(self, micro: Micro) -> torch.Tensor:
        """Train on these micro-batches, at the rates that the optimiser's groups hold. Returns the mean loss, ()."""
        ...

    def settle(self) -> None:
        """Take note of what may have been changed since the last step."""
        ...


class Eager:
    """Steps as the loop takes them, kernel by kernel."""

    def __init__(self, step: Callable[[Micro], torch.Tensor]) -> None:
        self._step = step

    def __call__(self, micro: Micro) -> torch.Tensor:
        return self._step(micro)

    def settle(self) -> None:
        """Nothing is remembered."""


class Shadow:
    """The weights in bfloat16, for forward and backward; those of the model stay what is trained, in float32."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._masters = dict(model.named_parameters())
        self._copies = {
            name: part.detach().to(torch.bfloat16).requires_grad_(part.requires_grad)
            for name, part in self._masters.items()
        }
        self._trained = [name for name, part in self._masters.items() if part.requires_grad]

    @property
    def leaves(self) -> list[torch.Tensor]:
        return [self._copies[name] for name in self._trained]

    @torch.no_grad()
    def refresh(self) -> None:
        torch._foreach_copy_(self.leaves, [self._masters[name] for name in self._trained])

    @torch.no_grad()
    def refresh_all(self) -> None:
        """Frozen ones, too."""
        torch._foreach_copy_(list(self._copies.values()), list(self._masters.values()))

    def __call__(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        logits: torch.Tensor = functional_call(self._model, self._copies, args=(), kwargs=inputs).logits
        return logits


def stepper(training: "Training", eager: Callable[[Micro], torch.Tensor]) -> Stepper:
    """The fastest way to train that is known to do the same as `eager`."""
    pace = training.pace or PACES.get(training.where.type, "eager")
    if any(recipe.in_step for recipe in training.recipes):
        return Eager(eager)
    if pace == "lean" and any(recipe.looks_at_weights for recipe in training.recipes):
        return Eager(eager)
    if pace == "lean":
        from hpo.training.lean.stepper import lean

        return lean(training) or Eager(eager)
    if pace == "eager" or training.hyper.gradient_accumulation_steps > 1 or training.micro_batch is not None:
        return Eager(eager)
    config: Any = training.model.config
    resident = Resident.of(training.train, getattr(config, "pad_token_id", None) or 0, training.where)
    first = training.first_epoch()[0]
    if resident is None or not resident.agrees(training.collate(training.train, first), first):
        return Eager(eager)
    shadowed = pace in ("shadow", "fused") and training.bf16
    shadow = Shadow(training.model) if shadowed else None
    flat = _flat(training, shadow) if shadow is not None and pace == "fused" else None
    return Captured(training, eager, resident, shadow=shadow, flat=flat)


def _flat(training: "Training", shadow: Shadow) -> "FlatAdamW | None":
    """None, after a warning, where Triton is not there or can't compile."""
    try:
        from hpo.training.flat import FlatAdamW, try_out

        try_out(training.where)
    except Exception as error:  # whatever a compiler may raise
        warnings.warn(f"AdamW's own kernel is left out ({_first_line(error)})", RuntimeWarning, stacklevel=2)
        return None
    parameters = [part for part in training.model.parameters() if part.requires_grad]
    return FlatAdamW(training.optimizer, parameters, shadow.leaves)


class Captured:
    """The first step of a length is taken eagerly, the second is captured, all others are replayed.

    Always on one stream of its own, which waits for the caller's and is waited for. What a step needs is written to
    buffers that the graphs read: row numbers and how many they are (a smaller batch is filled up with rows of weight
    0), and the learning rates. On a CPU nothing is captured: the same function is called for every step.
    """

    def __init__(
        self,
        training: "Training",
        eager: Callable[[Micro], torch.Tensor],
        resident: Resident,
        *,
        shadow: Shadow | None = None,
        flat: "FlatAdamW | None" = None,
    ) -> None:
        self._training, self._eager, self._resident = training, eager, resident
        self._shadow = shadow
        self._flat = flat if flat is not None and flat.adopt() else None
        self._wide = masks.takes_additive(training.model, resident)
        where = training.where
        self._cuda = where.type == "cuda"
        self._size = min(training.hyper.per_device_train_batch_size, training.rows)
        self._numbers = torch.zeros(self._size + 1, dtype=torch.int64, device=where)
        self._rows, self._count = self._numbers[:-1], self._numbers[-1]
        self._places = torch.arange(self._size, device=where)
        self._rates = torch.zeros(len(training.optimizer.param_groups), device=where)
        self._trained = [part for part in training.model.parameters() if part.requires_grad]
        self._stream = torch.cuda.Stream(where) if self._cuda else None  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle() if self._cuda else None
        self._graphs: dict[int, tuple[torch.cuda.CUDAGraph, torch.Tensor]] = {}
        self._seen: set[int] = set()
        self._held: tuple[object, ...] = ()
        self.broken: str | None = None

    @property
    def captured(self) -> int:
        """Lengths that are replayed."""
        return len(self._graphs)

    @property
    def parts(self) -> tuple[str, ...]:
        """What this step has that not every model and machine allows."""
        has = {"shadow": self._shadow is not None, "flat": self._flat is not None, "additive masks": self._wide}
        return tuple(name for name, there in has.items() if there)

    def __call__(self, micro: Micro) -> torch.Tensor:
        if self.broken is not None or len(micro) != 1 or len(micro[0]) > self._size:
            return self._eager(micro)
        length = self._resident.length_for(micro[0])
        with self._on_stream():
            self._feed(micro[0])
            if length in self._graphs:
                graph, loss = self._graphs[length]
                graph.replay()
                return loss.clone()
            if length not in self._seen or not self._cuda:
                self._seen.add(length)
                return self._compute(length)
            if not self._held:
                self._held = self._holding()
            if (captured := self._capture(length)) is not None:
                self._graphs[length] = captured
                captured[0].replay()
                return captured[1].clone()
        return self._eager(micro)

    def settle(self) -> None:
        if self._shadow is not None:
            self._shadow.refresh_all()
        if self._held != self._holding():
            self._graphs.clear()
            self._seen.clear()
            self._held = ()
            if self._flat is not None and not self._flat.adopt():
                self._flat = None

    @contextmanager
    def _on_stream(self) -> Iterator[None]:
        if self._stream is None:
            yield
            return
        current = torch.cuda.current_stream(self._training.where)
        self._stream.wait_stream(current)
        try:
            with torch.cuda.stream(self._stream):
                yield
        finally:
            current.wait_stream(self._stream)

    def _feed(self, rows: Array) -> None:
        """Pinned memory is not used again before its copy is done; PyTorch's allocator sees to that."""
        numbers = np.zeros(self._size + 1, np.int64)
        numbers[: len(rows)], numbers[-1] = rows, len(rows)
        rates = torch.tensor([float(group["lr"]) for group in self._training.optimizer.param_groups])
        for target, source in ((self._numbers, torch.from_numpy(numbers)), (self._rates, rates)):
            target.copy_(source.pin_memory() if self._cuda else source, non_blocking=True)

    def _capture(self, length: int) -> tuple[torch.cuda.CUDAGraph, torch.Tensor] | None:
        """None, after a warning, where this model can't be captured; all further steps are eager then."""
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
                loss = self._compute(length)
        except RuntimeError as error:
            self.broken = _first_line(error)
            self._graphs.clear()
            for part in self._trained:
                part.grad = None
            with suppress(RuntimeError):  # the generator believes that it is still captured
                generator = torch.cuda.default_generators[self._training.where.index or torch.cuda.current_device()]
                generator.graphsafe_set_state(generator.clone_state())
            warnings.warn(
                f"a training step can't be captured, all are eager ({self.broken})", RuntimeWarning, stacklevel=2
            )
            return None
        return graph, loss

    def _compute(self, length: int) -> torch.Tensor:
        """One whole step from what the buffers hold; nothing in it waits for the device."""
        training = self._training
        batch = self._resident.gather(self._rows, length)
        labels = batch.pop("labels")
        if self._wide:
            precision = torch.bfloat16 if training.bf16 else torch.float32
            batch["attention_mask"] = masks.additive(batch["attention_mask"], precision)
        losses = training.loss(self._forward(batch), labels)
        share = losses.masked_fill(self._places >= self._count, 0.0).sum() / self._count
        leaves = self._trained if self._shadow is None else self._shadow.leaves
        self._update(torch.autograd.grad(share, leaves, allow_unused=True))
        return share.detach()

    def _forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Logits. The flat update leaves the shadow as it has to be."""
        if self._shadow is not None:
            if self._flat is None:
                self._shadow.refresh()
            return self._shadow(batch)
        context, _ = device.autocast(self._training.where, self._training.bf16)
        with context:
            logits: torch.Tensor = self._training.model(**batch).logits
        return logits

    def _update(self, gradients: Sequence[torch.Tensor | None]) -> None:
        """A parameter that took no part has no gradient and stays as it is, as after `backward`."""
        training = self._training
        there = [gradient for gradient in gradients if gradient is not None]
        if self._flat is not None and len(there) == len(gradients):
            self._flat.step(there, self._rates, training.clip.max_norm)
            return
        self._flat = None
        for part, gradient in zip(self._trained, gradients, strict=True):
            part.grad = gradient if gradient is None or self._shadow is None else torch.empty_like(part)
        if self._shadow is not None:
            torch._foreach_copy_([part.grad for part in self._trained if part.grad is not None], there)
        training.clip(self._trained)
        with _tensor_rates(training.optimizer, self._rates):
            training.optimizer.step()
        for part in self._trained:
            part.grad = None

    def _holding(self) -> tuple[object, ...]:
        """All that a graph has taken in and that may change: other memory, or another value, asks for a new graph."""
        optimizer = self._training.optimizer
        state = tuple(value.data_ptr() for part in self._trained for value in optimizer.state.get(part, {}).values())
        decays = tuple(group["weight_decay"] for group in optimizer.param_groups)
        dropouts = tuple(map(dropout_of, self._training.model.modules()))
        return (tuple(part.data_ptr() for part in self._trained), state, decays, dropouts, self._training.clip)


@contextmanager
def _tensor_rates(optimizer: torch.optim.Optimizer, rates: torch.Tensor) -> Iterator[None]:
    """Let the optimiser read its rates from the device, so that a replay sees the present ones."""
    capturing = rates.is_cuda and torch.cuda.is_current_stream_capturing()
    before = [(group, group["lr"], group["capturable"]) for group in optimizer.param_groups]
    for (group, _, _), rate in zip(before, rates.unbind(), strict=True):
        group["lr"], group["capturable"] = rate, capturing
    try:
        yield
    finally:
        for group, rate, capturable in before:
            group["lr"], group["capturable"] = rate, capturable


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
