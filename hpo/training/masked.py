"""Heads for masked words, asked for the masked places alone: of 30,000 outputs a token, the others are 85 % and unused.

Works for every encoder of transformers, whatever its head is made of, since a head looks at one token at a time.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional

HEAD = "AutoModelForMaskedLM"

PLACES = "places"
"""The input that says where: (masked tokens,), numbers among all tokens of the block, row by row."""


def attach(model: nn.Module) -> None:
    """Let the model take `places`: its logits are then (1, masked tokens, vocabulary)."""
    places: list[torch.Tensor] = []

    def take(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        places[:] = [kwargs[PLACES]] if PLACES in kwargs else []
        return args, {name: value for name, value in kwargs.items() if name != PLACES}

    def gather(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        if places:
            output.last_hidden_state = output.last_hidden_state.flatten(0, 1)[places[0]].unsqueeze(0)
        return output

    encoder: Any = getattr(model, "base_model")  # noqa: B009 - of transformers; torch knows no such attribute
    model.register_forward_pre_hook(take, with_kwargs=True)
    encoder.register_forward_hook(gather)


def by_row(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(rows, 3): nats of the right tokens, how many were masked, how many of them the model puts first.

    logits: (1, masked tokens, vocabulary). labels: (rows, length), -100 where no answer counts.
    """
    flat = labels.flatten()
    places = torch.nonzero(flat >= 0).squeeze(1)
    truth, scores = flat[places], logits[0].float()
    found = torch.stack(
        [
            functional.cross_entropy(scores, truth, reduction="none"),
            torch.ones_like(truth, dtype=torch.float32),
            (scores.argmax(-1) == truth).float(),
        ],
        dim=1,
    )
    sums = torch.zeros(len(labels), 3, device=logits.device)
    return sums.index_add_(0, places // labels.shape[1], found)
