"""Recipes: ways to train better, each a class in a file of its own, named in the union below.

    contract.py        the hooks, and what a step hands to them
    editing.py         tokens that move within a batch

A recipe is switched on by a hyperparameter of its own (`hyperparameters.RECIPES`); one that is off is not there at all.
Importing this room loads torch.
"""

from typing import TypeAlias, get_args

from hpo.training.hyperparameters import Hyperparameters
from hpo.training.recipes.bitfit import BitFit
from hpo.training.recipes.class_weights import ClassWeights
from hpo.training.recipes.contract import Recipe
from hpo.training.recipes.distillation import Distillation
from hpo.training.recipes.ema import Ema
from hpo.training.recipes.fgm import Fgm
from hpo.training.recipes.freelb import FreeLb
from hpo.training.recipes.frozen_embeddings import FrozenEmbeddings
from hpo.training.recipes.gradual_unfreezing import GradualUnfreezing
from hpo.training.recipes.lora import Lora
from hpo.training.recipes.mixup import Mixup
from hpo.training.recipes.r_drop import RDrop
from hpo.training.recipes.reinit import Reinit
from hpo.training.recipes.resampling import Resampling
from hpo.training.recipes.supcon import SupCon
from hpo.training.recipes.swa import Swa
from hpo.training.recipes.token_deletion import TokenDeletion
from hpo.training.recipes.token_swap import TokenSwap

AnyRecipe: TypeAlias = (
    Ema
    | Swa
    | Reinit
    | FrozenEmbeddings
    | Lora
    | BitFit
    | ClassWeights
    | Resampling
    | TokenDeletion
    | TokenSwap
    | Mixup
    | RDrop
    | SupCon
    | Distillation
    | Fgm
    | FreeLb
    | GradualUnfreezing
)
"""In the order in which they act: averages stand in before what stands in is merged, texts are edited before they are
mixed, and layers that wait drop the gradients of all that comes before."""

OWNERS: dict[str, type[Recipe]] = {name: member for member in get_args(AnyRecipe) for name in member.fields}
"""Whose each hyperparameter is."""


def active(hyper: Hyperparameters) -> tuple[Recipe, ...]:
    """Those that these values ask for."""
    found = (member.of(hyper) for member in get_args(AnyRecipe))
    return tuple(recipe for recipe in found if recipe is not None)


__all__ = ["OWNERS", "AnyRecipe", "Recipe", "active"]
