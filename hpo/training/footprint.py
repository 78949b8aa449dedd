"""What a model takes: parameters, bytes on disk, bytes of memory. From its files, without building it."""

import json
import math
from pathlib import Path

from hpo.training.families import WRITER
from hpo.training.pretrained import TOKENIZER_FILES

LIBRARIES = 700_000_000
"""Bytes that a process holds once torch, transformers and the metrics are loaded."""

PER_PARAMETER = 24
"""Bytes: weights, gradient and two moments of AdamW, the starting weights, the best ones so far; 4 each."""

PER_HIDDEN = 68
"""Bytes of activations a token, a layer and a hidden unit: 34 in half precision (Korthikanti et al. 2022, eq. 1,
without the attention matrix, which fused attention does not keep), twice that in float32."""


def parameters(folder: Path, head: str) -> int:
    """Of a model with the class `head` that starts from `folder`, without what is new in a head. Counted in the header
    of model.safetensors (8 bytes of length, then JSON); a model of two halves has them twice, and in the layers of the
    second a second attention."""
    with (folder / "model.safetensors").open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    own: int = sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
    if head != WRITER:
        return own
    hidden, layers = _sizes(folder)
    return 2 * own + layers * (4 * hidden * hidden + 6 * hidden)


def checkpoint_bytes(folder: Path, head: str) -> int:
    """Of one checkpoint of such a model: float32 weights and the tokenizer's files."""
    tokenizer = {path for pattern in TOKENIZER_FILES for path in folder.glob(pattern)}
    return 4 * parameters(folder, head) + sum(path.stat().st_size for path in tokenizer)


def trial_bytes(folder: Path, head: str, batch: int, length: int) -> int:
    """Estimated peak memory of a process that trains with batches of (batch, length) tokens."""
    hidden, layers = _sizes(folder)
    activations = PER_HIDDEN * batch * length * hidden * layers
    return LIBRARIES + PER_PARAMETER * parameters(folder, head) + activations


def _sizes(folder: Path) -> tuple[int, int]:
    """Hidden units, and layers."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    hidden = config.get("hidden_size", config.get("dim", 0))
    return int(hidden), int(config.get("num_hidden_layers", config.get("n_layers", 0)))


def peak_bytes() -> int:
    """The most memory that this process ever had (VmHWM of Linux; a process that is spawned begins at nothing)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def gpu_count() -> int:
    """GPUs that this process may use; none where PyTorch can't, say for an old driver."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


CUDA_CONTEXT = 700 * 2**20
"""Bytes of a GPU that a process takes beside PyTorch's own: CUDA's context, kernels, workspaces of its libraries."""


def gpu_bytes() -> tuple[int, int]:
    """The most that this process has taken of its GPU, and what of it was free before."""
    import torch

    free, _ = torch.cuda.mem_get_info()
    return torch.cuda.max_memory_reserved() + CUDA_CONTEXT, free + torch.cuda.memory_reserved() + CUDA_CONTEXT
