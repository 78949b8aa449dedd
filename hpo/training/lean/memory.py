"""All that is trained, in flat memory: weights, gradients and AdamW's moments in float32, and bfloat16 copies of the
weights that passes compute with. Clipping, AdamW and the copies are then a few calls over millions of numbers.

Parameters and the optimiser's state become views of it; for everybody else they stay what they were. The rows of the
word embedding are an exception: see `Words`. Must not know forward passes.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

_BLOCK = 256
"""Rows that stay in a core's cache while they are decayed step by step."""

Pair = tuple[torch.Tensor, torch.Tensor]


@dataclass(eq=False)
class Words:
    """The word embedding, of which only the rows of tokens that occur are trained with. occurring: (tokens,) int64.

    All other rows have gradients and moments of zero, so AdamW does nothing to them but decay. That is done when
    somebody looks at the model, step by step, so that it does not matter when; until then the model has old words.
    """

    parameter: nn.Parameter
    occurring: torch.Tensor
    _factors: list[float] = field(default_factory=list, init=False)
    _pairs: Sequence[Pair] = field(default=(), init=False)
    _is_behind: bool = field(default=False, init=False)

    @property
    def places(self) -> torch.Tensor:
        """(vocabulary,) int64: the row of a token among those that occur."""
        places = torch.zeros(len(self.parameter), dtype=torch.int64)
        places[self.occurring] = torch.arange(len(self.occurring))
        return places

    def take(self, pairs: Sequence[Pair]) -> None:
        """Train on these, each (whole, compact), and let the compact ones be as the whole ones are."""
        self._pairs = pairs
        for whole, compact in pairs:
            torch.index_select(whole, 0, self.occurring, out=compact)

    def stepped(self, factor: float) -> None:
        """A step was done; what does not occur was multiplied by this."""
        self._is_behind = True
        if factor != 1.0:
            self._factors.append(factor)

    @torch.no_grad()
    def publish(self) -> None:
        """Bring model and optimiser up to date."""
        if not self._is_behind:
            return
        self._is_behind = False
        if self._factors:
            for block in torch.split(self.parameter.data, _BLOCK):
                for factor in self._factors:
                    block.mul_(factor)
            self._factors.clear()
        for whole, compact in self._pairs:
            whole.index_copy_(0, self.occurring, compact)


class Memory:
    """The memory of one training. inner: the parameters that passes read from `copies`, and whose gradients they write
    to `raw` if they are matrices; in float32 these are the weights and gradients themselves. words: None where they are
    frozen."""

    def __init__(
        self, optimizer: torch.optim.AdamW, inner: Sequence[nn.Parameter], words: Words | None, *, bf16: bool
    ) -> None:
        self._optimizer, self._words = optimizer, words
        self._inner = {id(part) for part in inner}
        self._parts: list[tuple[int, nn.Parameter]] = []
        self._spans: dict[int, tuple[int, int]] = {}
        self._copied: list[slice] = []
        self._gathered: list[slice] = []
        end = 0
        for number, group in enumerate(optimizer.param_groups):
            ends = [end] * 3
            for kind, part in sorted(((self._kind(part), part) for part in group["params"]), key=lambda pair: pair[0]):
                start, end = end, end + self._size(part)
                self._parts.append((number, part))
                self._spans[id(part)] = (start, end)
                ends[kind:] = [end] * (3 - kind)
            begin = end - sum(self._size(part) for part in group["params"])
            self._gathered.append(slice(begin, ends[0]))
            self._copied.append(slice(begin, ends[1]))
        self.weights, self.gradients, self._firsts, self._seconds = torch.zeros(4, end).unbind()
        self.copies, self.raw = self.weights, self.gradients
        if bf16:
            self.copies, self.raw = torch.zeros(2, end, dtype=torch.bfloat16).unbind()
        self._flat: torch.optim.AdamW | None = None

    def __contains__(self, part: nn.Parameter) -> bool:
        return id(part) in self._spans

    def of(self, flat: torch.Tensor, *parts: nn.Parameter) -> torch.Tensor:
        """Where this parameter lies in `flat`; of several, which have to lie side by side, all of them as one.

        Raises ValueError where they don't.
        """
        spans = [self._spans[id(part)] for part in parts]
        if any(one[1] != other[0] for one, other in itertools.pairwise(spans)):
            raise ValueError("parameters that are used as one do not lie side by side")
        return flat[spans[0][0] : spans[-1][1]].view(-1, *parts[0].shape[1:])

    @torch.no_grad()
    def adopt_weights(self) -> None:
        """Become the memory of the parameters."""
        for _, part in self._parts:
            weights = self.of(self.weights, part)
            if (words := self._words_in(part)) is not None:
                weights.copy_(part[words.occurring])
                continue
            if part.data_ptr() != weights.data_ptr():
                weights.copy_(part)
                part.data = weights
            if id(part) not in self._inner:
                part.grad = self.of(self.gradients, part)
        self.refresh()

    @torch.no_grad()
    def adopt(self) -> None:
        """Take on what parameters and optimiser hold, and become the memory of both."""
        self.adopt_weights()
        segments: list[tuple[int, float, int, int]] = []
        for number, part in self._parts:
            held = self._optimizer.state.get(part, {})
            self._adopt_moments(part, held)
            step, (start, end) = float(held.get("step", 0.0)), self._spans[id(part)]
            if segments and segments[-1][:2] == (number, step):
                start = segments.pop()[2]
            segments.append((number, step, start, end))
        self._flat = self._built(segments)

    def refresh(self) -> None:
        """Let the copies be as the weights are."""
        if self.copies is not self.weights:
            for place in self._copied:
                self.copies[place].copy_(self.weights[place])

    def clear(self) -> None:
        """Gradients that autograd adds to become zero."""
        for _, part in self._parts:
            if part.grad is not None:
                part.grad.zero_()

    def gather(self) -> None:
        """Raw gradients become gradients."""
        if self.raw is not self.gradients:
            for place in self._gathered:
                self.gradients[place].copy_(self.raw[place])

    @torch.no_grad()
    def step(self, max_norm: float) -> None:
        """Clip, AdamW, new copies, at the rates and decays of the optimiser's groups. max_norm: 0 clips nothing."""
        assert self._flat is not None
        if max_norm > 0:
            norm = float(torch.dot(self.gradients, self.gradients)) ** 0.5
            if norm + 1e-6 > max_norm:
                self.gradients.mul_(max_norm / (norm + 1e-6))
        for flat in self._flat.param_groups:
            group = self._optimizer.param_groups[flat["of"]]
            flat["lr"], flat["weight_decay"] = float(group["lr"]), float(group["weight_decay"])
        self._flat.step()
        self.refresh()
        if self._words is not None:
            number = next(number for number, part in self._parts if part is self._words.parameter)
            group = self._optimizer.param_groups[number]
            self._words.stepped(1.0 - float(group["lr"]) * float(group["weight_decay"]))

    def _kind(self, part: nn.Parameter) -> int:
        """Matrices of passes, what else passes take a copy of, all others: those of a kind lie together."""
        return 2 if id(part) not in self._inner else 0 if part.ndim >= 2 else 1

    def _words_in(self, part: nn.Parameter) -> Words | None:
        return self._words if self._words is not None and part is self._words.parameter else None

    def _size(self, part: nn.Parameter) -> int:
        words = self._words_in(part)
        return part.numel() if words is None else len(words.occurring) * part.shape[1]

    def _adopt_moments(self, part: nn.Parameter, held: dict[str, torch.Tensor]) -> None:
        own = {"exp_avg": self.of(self._firsts, part), "exp_avg_sq": self.of(self._seconds, part)}
        if (words := self._words_in(part)) is not None:
            whole = {name: held.get(name, torch.zeros_like(part)) for name in own}
            pairs = [(whole[name], compact) for name, compact in own.items()]
            words.take([(part.data, self.of(self.weights, part)), *pairs])
            own = whole
        else:
            for name, view in own.items():
                if not held:
                    view.zero_()
                elif held[name].data_ptr() != view.data_ptr():
                    view.copy_(held[name])
        self._optimizer.state[part] = dict(own)

    def _built(self, segments: Sequence[tuple[int, float, int, int]]) -> torch.optim.AdamW:
        """AdamW over stretches of equal rate, decay and number of steps."""
        groups, states = [], []
        for number, step, start, end in segments:
            stretch = nn.Parameter(self.weights[start:end])
            stretch.grad = self.gradients[start:end]
            states.append((stretch, torch.tensor(step), slice(start, end)))
            groups.append({"params": [stretch], "of": number})
        first = self._optimizer.param_groups[0]
        flat = torch.optim.AdamW(groups, betas=first["betas"], eps=first["eps"], fused=True)
        for stretch, counter, place in states:
            flat.state[stretch] = {
                "step": counter,
                "exp_avg": self._firsts[place],
                "exp_avg_sq": self._seconds[place],
            }
            for _, part in self._parts:
                if place.start <= self._spans[id(part)][0] < place.stop:
                    self._optimizer.state[part]["step"] = counter
        return flat
