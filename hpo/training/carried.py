"""What a model loses on the way through a head that has no use for it, such as BERT's pooler while words are masked."""

import os
from pathlib import Path

from hpo.training.checkpoint import MANIFEST, read_manifest, save_tensors
from hpo.training.pretrained import sha256

_WEIGHTS = "model.safetensors"


def carry_on(checkpoint: Path, source: Path) -> None:
    """Add to a checkpoint the tensors of the model that it was trained from and that it lacks, so that the next head
    finds what it would have found there. Not safe against others who read the checkpoint meanwhile."""
    from safetensors.torch import load_file

    own, before = load_file(checkpoint / _WEIGHTS), load_file(source / _WEIGHTS)
    prefix = _prefix({*own}, {*before})
    missing = {name: part for name, part in before.items() if name not in own and f"{prefix}{name}" not in own}
    if not missing:
        return
    tied = _tied(checkpoint)
    is_bare = not any(name.startswith(prefix) for name in before) if prefix else False
    added = {f"{prefix}{name}" if is_bare else name: part for name, part in missing.items()}
    added = {name: part for name, part in added.items() if name not in tied}  # it would be of before
    save_tensors(own | added, checkpoint / _WEIGHTS, {"format": "pt"})
    manifest = read_manifest(checkpoint)
    files = {**manifest.files, _WEIGHTS: sha256(checkpoint / _WEIGHTS)}
    written = manifest.model_copy(update={"files": files})
    with (checkpoint / MANIFEST).open("w", encoding="utf-8") as file:
        file.write(written.model_dump_json(indent=2))
        file.flush()
        os.fsync(file.fileno())


def _tied(checkpoint: Path) -> set[str]:
    """Names that such a model takes from others: a checkpoint has them once."""
    import torch
    import transformers

    config = transformers.AutoConfig.from_pretrained(checkpoint, trust_remote_code=False)
    kind = getattr(transformers, config.architectures[0])
    with torch.device("meta"):
        return set(kind(config).all_tied_weights_keys)


def _prefix(own: set[str], before: set[str]) -> str:
    """What a head puts before the names of its encoder, such as `bert.`; nothing where both name them alike."""
    for name in sorted(before):
        for other in sorted(own):
            if other == name:
                break
            if other.endswith(f".{name}"):
                return other.removesuffix(name)
    return next((f"{name.partition('.')[0]}." for name in sorted(own & before) if ".embeddings." in name), "")
