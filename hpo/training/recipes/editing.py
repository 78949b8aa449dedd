"""Moving tokens within a batch. What recipes that edit texts share; must not know them."""

from typing import Any

import torch

from hpo.training.recipes.contract import Pass

Inputs = dict[str, torch.Tensor]


def editable(inputs: Inputs) -> torch.Tensor:
    """(rows, length) bool: tokens of the text. Not so: padding, and all that equal the first or the last token of their
    row, which are the model's marks ([CLS] and every [SEP])."""
    ids, mask = inputs["input_ids"], inputs["attention_mask"].bool()
    last = ids.gather(1, mask.sum(1, keepdim=True).clamp_min(1) - 1)
    return mask & (ids != ids[:, :1]) & (ids != last)


def rearranged(passing: Pass, order: torch.Tensor, lengths: torch.Tensor) -> Inputs:
    """Row by row, the tokens at `order` (rows, length); what is beyond `lengths` (rows,) becomes padding."""
    config: Any = passing.training.model.config
    inputs = passing.inputs
    inside = torch.arange(order.shape[1], device=order.device) < lengths.unsqueeze(1)
    found = {}
    for name, column in inputs.items():
        fill = (getattr(config, "pad_token_id", None) or 0) if name == "input_ids" else 0
        found[name] = column.gather(1, order).masked_fill(~inside, fill)
    return found | {"attention_mask": inside.to(inputs["attention_mask"].dtype)}
