"""Only biases are trained."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from torch import nn

from hpo.space import Scalar
from hpo.training.hyperparameters import Hyperparameters
from hpo.training.model import depths
from hpo.training.recipes.contract import Recipe

if TYPE_CHECKING:
    from hpo.training.loop import Training


@dataclass(eq=False)
class BitFit(Recipe):
    """Trains the biases of the encoder and the whole head (Ben Zaken et al., ACL 2022)."""

    fields: ClassVar[tuple[str, ...]] = ("peft",)

    @classmethod
    def of(cls, hyper: Hyperparameters) -> Self | None:
        return cls() if hyper.peft == "bitfit" else None

    def prepare(self, model: nn.Module) -> None:
        depth = depths(model)
        top = max(depth.values())
        for name, part in model.named_parameters():
            part.requires_grad = depth[name] == top or name.endswith("bias")

    def observed(self, training: "Training") -> Mapping[str, Scalar | None]:
        depth = depths(training.model)
        top = max(depth.values())
        below = [(name, part) for name, part in training.model.named_parameters() if depth[name] < top]
        trained = [name for name, part in below if part.requires_grad]
        return {"peft": "bitfit" if trained and all(name.endswith("bias") for name in trained) else "none"}
