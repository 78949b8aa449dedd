"""The top layers begin anew: what they learnt is about the pretraining task."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import nn

from hpo.errors import DeadParameterError
from hpo.space import Scalar
from hpo.training.hyperparameters import Hyperparameters
from hpo.training.model import depths, layer_of
from hpo.training.recipes.contract import Recipe

if TYPE_CHECKING:
    from hpo.training.loop import Training

_POOLER = "pooler"


@dataclass(eq=False)
class Reinit(Recipe):
    """The top `layers` encoder layers and the pooler get the weights of an untrained model (normal with the model's
    `initializer_range`, no bias, LayerNorm the identity): Zhang et al., ICLR 2021, section 4. Drawn after the head, by
    the same seed."""

    fields: ClassVar[tuple[str, ...]] = ("reinit_layers",)
    layers: int
    before: dict[str, float] = field(default_factory=dict, init=False)

    @classmethod
    def of(cls, hyper: Hyperparameters) -> Self | None:
        return cls(hyper.reinit_layers) if hyper.reinit_layers else None

    @torch.no_grad()
    def prepare(self, model: nn.Module) -> None:
        top = max(depths(model).values()) - 1
        if self.layers > top:
            raise DeadParameterError(f"reinit_layers={self.layers}: the model has {top} layers; lower it")
        config: Any = model.config
        spread = float(getattr(config, "initializer_range", 0.02))
        for name, module in model.named_modules():
            layer = layer_of(f"{name}.")
            if not (_POOLER in name if layer is None else layer >= top - self.layers):
                continue
            if isinstance(module, nn.Linear):
                self.before[f"{name}.weight"] = _print_of(module.weight)
                module.weight.normal_(0.0, spread)
                if module.bias is not None:
                    module.bias.zero_()
            elif (weight := _scale_of(module)) is not None:
                weight.fill_(1.0)
                if isinstance(bias := getattr(module, "bias", None), torch.Tensor):
                    bias.zero_()

    def observed(self, training: "Training") -> Mapping[str, Scalar | None]:
        """In how many layers every weight is another one than was loaded."""
        held = dict(training.model.named_parameters())
        changed: dict[int, bool] = {}
        for name, before in self.before.items():
            if (layer := layer_of(name)) is not None:
                changed[layer] = changed.get(layer, True) and _print_of(held[name]) != before
        return {"reinit_layers": sum(changed.values())}


def _scale_of(module: nn.Module) -> torch.Tensor | None:
    """The weights of a normalisation, whatever it is called."""
    weight = getattr(module, "weight", None)
    is_norm = isinstance(module, nn.LayerNorm) or type(module).__name__.endswith("Norm")
    return weight if is_norm and isinstance(weight, torch.Tensor) else None


def _print_of(weights: torch.Tensor) -> float:
    return float(weights.detach().double().abs().sum())
