"""A checkpoint on disk: weights, tokenizer, and a manifest that proves them. Written whole or not at all."""

import errno
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo import crash
from hpo.durable import sync
from hpo.errors import ModelError
from hpo.records import Record, Seeds
from hpo.space import Scalar
from hpo.training.pretrained import TOKENIZER_FILES, sha256

if TYPE_CHECKING:
    import torch

MANIFEST = "manifest.json"
ABOUT = "task.json"
"""What a checkpoint and a registered model say of themselves: the task, with what was tuned, and its labels."""

SPARE = 64_000_000
"""Free bytes that a checkpoint leaves on the disk, for the ledger and for what was not foreseen."""

_REMEDY = "restore it, or remove the folder: --resume trains that assignment again"

_FULL = {errno.ENOSPC, errno.EDQUOT}
_OS_ERROR = re.compile(r"os error (\d+)")


class Manifest(Record):
    """What a checkpoint claims to be. files: sha256 in hexadecimal by file name."""

    trial: int
    step: int
    metrics: dict[str, float]
    params: dict[str, Scalar]
    seeds: Seeds
    versions: dict[str, str]
    files: dict[str, str]


def write(
    folder: Path,
    *,
    weights: Mapping[str, "torch.Tensor"],
    model_config: Mapping[str, Any],
    tokenizer_folder: Path,
    about: Mapping[str, Any],
    trial: int,
    step: int,
    metrics: Mapping[str, float],
    params: Mapping[str, Scalar],
    seeds: Seeds,
) -> Path:
    """Write to a temporary name beside `folder`, fsync every file, rename. What was there before is replaced.

    about: what the model is for, in JSON, for whoever asks it for answers.
    """
    import torch
    import transformers

    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        parts = {name: part.contiguous() for name, part in weights.items()}
        save_tensors(parts, temporary / "model.safetensors", {"format": "pt"})
        crash.at("checkpoint")
        (temporary / "config.json").write_text(json.dumps(model_config, indent=2, sort_keys=True), encoding="utf-8")
        (temporary / ABOUT).write_text(json.dumps(about, indent=2), encoding="utf-8")
        for pattern in TOKENIZER_FILES:
            for source in tokenizer_folder.glob(pattern):
                shutil.copyfile(source, temporary / source.name)
        manifest = Manifest(
            trial=trial,
            step=step,
            metrics=dict(metrics),
            params=dict(params),
            seeds=seeds,
            versions={"torch": torch.__version__, "transformers": transformers.__version__},
            files={path.name: sha256(path) for path in sorted(temporary.iterdir())},
        )
        (temporary / MANIFEST).write_text(manifest.model_dump_json(indent=2), encoding="utf-8")
        for path in temporary.iterdir():
            sync(path)
        sync(temporary)
        crash.at("checkpoint-rename")
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
        sync(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def save_tensors(tensors: dict[str, "torch.Tensor"], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file. Raises OSError, with the number that the system gave it."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(tensors, path, metadata)
    except SafetensorError as error:
        number = _OS_ERROR.search(str(error))
        raise OSError(int(number[1]) if number else errno.EIO, str(error)) from error


def when_there_is_room(folder: Path, size: int, write: Callable[[], Path], wait: Callable[[], None]) -> Path:
    """What `write` returns, once `folder` has room for `size` bytes more; again, should the disk fill up meanwhile.

    wait: called until there is room; to return after a moment.
    """
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        while shutil.disk_usage(folder).free < size + SPARE:
            wait()
        try:
            return write()
        except OSError as error:
            if error.errno not in _FULL:
                raise
        wait()


def verify(folder: Path) -> Manifest:
    """The manifest, after every file was found and hashed. Raises ModelError naming the file that differs."""
    manifest = read_manifest(folder)
    for name, expected in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise ModelError(f"checkpoint {folder}: {name} is missing; {_REMEDY}")
        if sha256(path) != expected:
            raise ModelError(f"checkpoint {folder}: {name} differs from the manifest; the file is damaged; {_REMEDY}")
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """What a checkpoint says of itself. Raises ModelError where it can't be read."""
    try:
        return Manifest.model_validate_json((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"checkpoint {folder}: its {MANIFEST} can't be read ({type(error).__name__}); {_REMEDY}"
        ) from error
