"""Dropout masks from raw random bits, sixteen a number: a tenth of what PyTorch's Bernoulli numbers cost on a CPU.

Owns the generator of one step. Its seed comes from PyTorch's generator, so that whoever puts that one back where it was
goes on with the same masks; no mask is ever used twice.
"""

import numpy as np
import torch

_LEVELS = 65_536


class Drops:
    """The masks of one step, in the order in which they are asked for."""

    def __init__(self) -> None:
        self._bits = np.random.SFC64(int(torch.randint(2**62, ())))

    def mask(self, p: float, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor | None:
        """0 with a probability of p, to a 65,536th, else one over the share that is kept. None: nothing is dropped."""
        dropped = round(p * _LEVELS)
        if dropped == 0:
            return None
        size = int(np.prod(shape))
        bits = self._bits.random_raw(-(-size // 4)).view(np.int16)[:size]
        kept = torch.from_numpy(bits) >= dropped - _LEVELS // 2
        return kept.to(dtype).mul_(_LEVELS / (_LEVELS - dropped)).view(shape)
