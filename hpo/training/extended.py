"""A model whose vocabulary has more tokens than it was published with: a folder of its own, made once.

The new rows of every matrix that has one for each token are drawn as the model's own were before it was pretrained,
from a fixed seed: whoever makes the folder, it is the same.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hpo.training.pretrained import Pretrained, Tokenizer, load_tokenizer

_SEED = 0


def extended(model: Pretrained, tokens: Sequence[str], cache: Path) -> Pretrained:
    """The model itself where it has all of `tokens`; else a folder below `cache` with weights, configuration and
    tokenizer that have them. `digest` stays that of the weights it began with."""
    tokenizer = load_tokenizer(model.folder)
    missing = [token for token in tokens if token not in tokenizer.inner.get_vocab()]
    if not missing:
        return model
    key = hashlib.sha256(json.dumps([model.digest, tokenizer.digest, missing]).encode()).hexdigest()
    home = cache / key
    if not home.is_dir():
        temporary = cache / f".{key}.{os.getpid()}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            _write(model.folder, tokenizer, missing, temporary)
            try:
                temporary.rename(home)
            except OSError:  # another process was first
                if not home.is_dir():
                    raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return replace(model, folder=home.resolve(), source=f"{model.source}, with {len(missing)} more tokens")


def _write(source: Path, tokenizer: Tokenizer, tokens: Sequence[str], target: Path) -> None:
    import torch
    from safetensors.torch import load_file
    from tokenizers import AddedToken

    from hpo.training.checkpoint import save_tensors

    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    tokenizer.inner.add_tokens([AddedToken(token, special=True, normalized=False) for token in tokens])
    tokenizer.inner.save_pretrained(target)
    known = int(config["vocab_size"])
    more = max(0, len(tokenizer.inner) - known)  # some vocabularies have rows to spare
    draw = torch.Generator().manual_seed(_SEED)
    spread = float(config.get("initializer_range", 0.02))
    weights, drawn = {}, dict[int, torch.Tensor]()
    for name, part in load_file(source / "model.safetensors").items():
        if part.shape[:1] == (known,) and more:
            width = part[0].numel()
            if part.ndim == 1:
                rows = torch.zeros(more)
            else:
                rows = drawn.setdefault(width, spread * torch.randn(more, width, generator=draw))  # tied ones alike
            part = torch.cat([part, rows.to(part.dtype)])
        weights[name] = part
    save_tensors(weights, target / "model.safetensors", {"format": "pt"})
    config["vocab_size"] = known + more
    (target / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
