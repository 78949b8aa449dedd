"""Attention masks that attention takes as they are, made once a step instead of once a layer.

From a mask of zeros and ones every layer makes its own additive mask and aligns it: five kernels each.
"""

import torch
from torch import nn

from hpo.training.resident import Resident

_ALIGNED = 16
"""Memory-efficient attention copies a mask whose rows do not begin at multiples of this."""


def additive(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(rows, 1, length, length) with 0 where a token is looked at and -inf where not, from (rows, length)."""
    rows, length = mask.shape
    whole = torch.zeros(rows, 1, length, -(-length // _ALIGNED) * _ALIGNED, dtype=dtype, device=mask.device)
    return whole[..., :length].masked_fill_(mask[:, None, None, :] == 0, float("-inf"))


@torch.no_grad()
def takes_additive(model: nn.Module, resident: Resident) -> bool:
    """Whether the model gives the same answers with such masks, tried on the shortest and the longest row."""
    lengths = resident.lengths
    batch = resident.gather(torch.stack([lengths.argmin(), lengths.argmax()]), int(lengths.max()))
    del batch["labels"]
    was_training = model.training
    model.eval()
    try:
        plain = model(**batch).logits
        other = model(**batch | {"attention_mask": additive(batch["attention_mask"], plain.dtype)}).logits
    except (RuntimeError, ValueError, TypeError, IndexError):
        return False
    finally:
        model.train(was_training)
    return bool(torch.allclose(plain, other, rtol=1e-3, atol=1e-3))
