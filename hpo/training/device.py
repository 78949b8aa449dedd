"""What the hardware has: which device, which precision, how many threads."""

import gc
from contextlib import AbstractContextManager, nullcontext

import torch


def pick_device(gpus: float) -> torch.device:
    """The first visible CUDA device if the trial was given a part of one, else the CPU."""
    return torch.device("cuda" if gpus > 0 and torch.cuda.is_available() else "cpu")


def has_bf16(device: torch.device) -> bool:
    """Whether bfloat16 is fast there: CUDA from Ampere on, a CPU with AMX or AVX512-bf16."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def autocast(device: torch.device, bf16: bool | None) -> tuple[AbstractContextManager[object], bool]:
    """A context for forward passes, and whether it is bf16. None: where the hardware has it."""
    wanted = has_bf16(device) if bf16 is None else bf16
    if not wanted:
        return nullcontext(), False
    return torch.autocast(device.type, dtype=torch.bfloat16), True


def cap_threads(cpus: int) -> None:
    """Two trials that each take all cores are forty times slower than two that share them."""
    torch.set_num_threads(max(1, cpus))


def release() -> None:
    """Give back what a trial that ran out of memory still holds, so that the next one in this process has it all."""
    gc.collect()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()


def watch_memory(where: torch.device) -> None:
    """From here on the most memory is noted anew; a process runs many trials."""
    if where.type == "cuda":
        torch.cuda.reset_peak_memory_stats(where)


GPU_MEMORY = "gpu_memory"
"""The metric of a trial that trained on a GPU: the most bytes that PyTorch has held there."""


def memory(where: torch.device) -> dict[str, float]:
    """Since `watch_memory`. Nothing on a CPU."""
    return {GPU_MEMORY: float(torch.cuda.max_memory_reserved(where))} if where.type == "cuda" else {}
