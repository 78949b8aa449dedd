"""Low-rank changes of the encoder's weights are trained, the weights themselves are not.

Written here and not taken from `peft`, which needs `accelerate`, and wraps modules so that the names of weights change:
what is trained here differs from a plain model by entries named `lora_*` alone.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import torch
from torch import nn
from torch.nn import functional

from hpo.errors import DeadParameterError
from hpo.space import Scalar
from hpo.training.hyperparameters import Hyperparameters
from hpo.training.model import depths, layer_of
from hpo.training.recipes.contract import Recipe

if TYPE_CHECKING:
    from hpo.training.loop import Training

Targets = Literal["query_value", "attention", "all-linear"]

_QUERY_VALUE = ("query", "value", "query_proj", "value_proj", "q_lin", "v_lin", "q_proj", "v_proj", "Wqkv")
_ATTENTION = ("attention", "attn")


class LoraLinear(nn.Linear):
    """W x + b + alpha / r * B A x, Hu et al., ICLR 2022, section 4.1. B begins as zero, so that at first it is `base`,
    whose parameters it has under their names. A: (r, in). B: (out, r)."""

    def __init__(self, base: nn.Linear, r: int, alpha: float, dropout: float) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = base.in_features, base.out_features
        self.weight, self.bias = base.weight, base.bias
        self.lora_A = nn.Parameter(torch.empty(r, base.in_features))
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, r))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
        self.lora_dropout = nn.Dropout(dropout)
        self.scale = alpha / r
        self.is_merged = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., in) -> (..., out)"""
        plain = super().forward(x)
        if self.is_merged:
            return plain
        low = functional.linear(self.lora_dropout(x), self.lora_A)
        return plain + self.scale * functional.linear(low, self.lora_B)

    @contextmanager
    def merged(self) -> Iterator[None]:
        """A plain linear layer meanwhile; afterwards the weights are what they were, to the bit."""
        before = self.weight.detach().clone()
        with torch.no_grad():
            self.weight += self.scale * (self.lora_B @ self.lora_A)
        self.is_merged = True
        try:
            yield
        finally:
            self.is_merged = False
            with torch.no_grad():
                self.weight.copy_(before)


@dataclass(eq=False)
class Lora(Recipe):
    """Trains `lora_*` of the target modules, and the head. What is evaluated and kept is merged: a plain BERT."""

    fields: ClassVar[tuple[str, ...]] = ("peft", "lora_r", "lora_alpha", "lora_dropout", "lora_target_modules")
    in_step: ClassVar[bool] = True
    r: int
    alpha: float
    dropout: float
    targets: Targets

    @classmethod
    def of(cls, hyper: Hyperparameters) -> Self | None:
        if hyper.peft != "lora":
            return None
        return cls(hyper.lora_r, hyper.lora_alpha, hyper.lora_dropout, hyper.lora_target_modules)

    def prepare(self, model: nn.Module) -> None:
        top = max(depths(model).values())
        for name, depth in depths(model).items():
            model.get_parameter(name).requires_grad = depth == top
        chosen = _chosen(model, self.targets)
        if not chosen:
            raise DeadParameterError(
                f"lora_target_modules={self.targets}: this model has none by the usual names; try all-linear"
            )
        for name in chosen:
            path, _, own = name.rpartition(".")
            base = model.get_submodule(name)
            assert isinstance(base, nn.Linear)
            setattr(model.get_submodule(path), own, LoraLinear(base, self.r, self.alpha, self.dropout))

    def observed(self, training: "Training") -> Mapping[str, Scalar | None]:
        """Of what is trained of the chosen modules, if all else below the head is frozen."""
        model = training.model
        modules = dict(_adapted(model))
        depth = depths(model)
        top = max(depth.values())
        others = [name for name, part in model.named_parameters() if part.requires_grad and not self.is_own(name)]
        is_live = any(module.lora_A.requires_grad for module in modules.values())
        if not is_live or any(depth[name] < top for name in others):
            return {"peft": "none"}
        one = next(iter(modules.values()))
        return {
            "peft": "lora",
            "lora_r": one.lora_A.shape[0],
            "lora_alpha": one.scale * one.lora_A.shape[0],
            "lora_dropout": one.lora_dropout.p,
            "lora_target_modules": self.targets if [*modules] == _chosen(model, self.targets) else "unknown",
        }

    @contextmanager
    def evaluating(self, training: "Training") -> Iterator[None]:
        """One by one, so that an error in the middle puts all of them back."""
        with ExitStack() as stack:
            for _, module in _adapted(training.model):
                stack.enter_context(module.merged())
            yield

    def is_own(self, name: str) -> bool:
        return ".lora_" in name


def _chosen(model: nn.Module, targets: Targets) -> list[str]:
    """Names of the linear layers inside of encoder layers that are adapted."""
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    inside = [name for name in linear if layer_of(f"{name}.") is not None]
    match targets:
        case "query_value":
            return [name for name in inside if name.rpartition(".")[2] in _QUERY_VALUE]
        case "attention":
            return [name for name in inside if any(word in name for word in _ATTENTION)]
        case "all-linear":
            return inside


def _adapted(model: nn.Module) -> Iterator[tuple[str, LoraLinear]]:
    return ((name, module) for name, module in model.named_modules() if isinstance(module, LoraLinear))
