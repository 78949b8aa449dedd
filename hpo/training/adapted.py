"""What a model is called that the stage before made: by all that it was trained with, so that all trials with the same
values find the same one. Must not import torch: studies ask it, too."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from hpo.training.hyperparameters import of_stage


def key_of(model: str | None, params: Mapping[str, Any]) -> str | None:
    """In hexadecimal; None for a trial that begins without the stage. model: the name of the one it begins from."""
    if params.get("adapt") is False:
        return None
    return hashlib.sha256(json.dumps([model, of_stage(params)], sort_keys=True).encode()).hexdigest()


def folder_of(key: str) -> str:
    return key[:16]
