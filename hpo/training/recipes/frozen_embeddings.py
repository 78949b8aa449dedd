"""The embeddings stay as they were pretrained."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from torch import nn

from hpo.errors import DeadParameterError
from hpo.space import Scalar
from hpo.training.hyperparameters import Hyperparameters
from hpo.training.recipes.contract import Recipe

if TYPE_CHECKING:
    from hpo.training.loop import Training


@dataclass(eq=False)
class FrozenEmbeddings(Recipe):
    """Word, position and segment embeddings, and their normalisation, are not trained: half of the memory that Adam
    takes for a small model, and words that are rare in train keep their neighbours."""

    fields: ClassVar[tuple[str, ...]] = ("freeze_embeddings",)

    @classmethod
    def of(cls, hyper: Hyperparameters) -> Self | None:
        return cls() if hyper.freeze_embeddings else None

    def prepare(self, model: nn.Module) -> None:
        own = [part for name, part in model.named_parameters() if "embeddings" in name]
        if not own:
            raise DeadParameterError("freeze_embeddings=true: the model has no embeddings; take it out of the space")
        for part in own:
            part.requires_grad = False

    def observed(self, training: "Training") -> Mapping[str, Scalar | None]:
        trained = [name for name, part in training.model.named_parameters() if part.requires_grad]
        return {"freeze_embeddings": not any("embeddings" in name for name in trained)}
