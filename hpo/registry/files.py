"""The files of a registered model: how they lie in MLflow's folder, and how they are used. Must not import mlflow."""

import hashlib
import json
from pathlib import Path

import yaml

from hpo.errors import ModelError

WEIGHTS = "model.safetensors"
MODEL = "model"
_NEEDED = (WEIGHTS, "config.json", "tokenizer.json")
_AGAIN = "bring its files back, or register the model again"


def gather(whole: Path, uri: str) -> Path:
    """Of a copy of all that MLflow keeps: weights, config, tokenizer, `task.json` and what was put beside the model, in
    one folder, which is returned.

    Raises ModelError, with `uri` in it, where something is missing or can't be read.
    """
    served = next((whole / "artifacts").glob(f"*/{WEIGHTS}"), None)
    model, described = served.parent if served else whole / MODEL, whole / "MLmodel"
    for part in sorted((whole / "components").rglob("*")):  # MLflow keeps the tokenizer apart from the weights
        if part.is_file() and model.is_dir():
            part.rename(model / part.name)
    for path in (described, *(model / name for name in _NEEDED)):
        if not path.is_file():
            raise ModelError(f"{uri}: {path.name} is missing among its files; {_AGAIN}")
    for part in sorted(whole.glob("*.npy")):
        part.rename(model / part.name)
    try:
        metadata = yaml.safe_load(described.read_text("utf-8"))["metadata"] or {}
        if "hpo" in metadata:
            (model / "task.json").write_text(json.dumps(metadata["hpo"]), "utf-8")
    except (yaml.YAMLError, ValueError, TypeError, KeyError) as error:
        raise ModelError(
            f"{uri}: its MLmodel is no description of a model ({type(error).__name__}); {_AGAIN}"
        ) from error
    return model


def sha256_of_weights(checkpoint: Path) -> str:
    path = checkpoint / WEIGHTS
    try:
        with open(path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise ModelError(f"{path}: there is no such file, so there is nothing to register") from error
