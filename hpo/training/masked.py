"""Heads for masked words, asked for the masked places alone: of 30,000 outputs a token, the others are 85 % and unused.

Works for every encoder of transformers, whatever its head is made of, since a head looks at one token at a time.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from hpo.columns import IGNORED

HEADS = ("AutoModelForMaskedLM", "AutoModelForPreTraining")
"""Of the second kind are those that also say whether the second of two sentences follows the first."""

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
    taker: Any = model
    taker.takes_places = True


def takes_places(model: nn.Module) -> bool:
    """Whether it does: such a model answers one batch at a time, since it remembers the places of the last one."""
    return hasattr(model, "takes_places")


def joined(words: torch.Tensor, follows: torch.Tensor) -> torch.Tensor:
    """(1, masked tokens + rows, vocabulary): what is said of words, (1, masked tokens, vocabulary), and behind it what
    is said of rows, (rows, 2), filled up."""
    rows = functional.pad(follows, (0, words.shape[-1] - follows.shape[-1]))
    return torch.cat([words, rows.unsqueeze(0)], dim=1)


def nats(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
    """(masked tokens,) of the right ones; (rows,) of what stands second, 0 where that is not asked, None where the
    model has no such head. Shapes as in `by_row`."""
    truth, scores = labels[labels >= 0], logits[0].float()
    words = functional.cross_entropy(scores[: len(truth)], truth, reduction="none")
    if len(scores) == len(truth):
        return words, None
    return words, functional.cross_entropy(scores[len(truth) :, :2], second(labels), reduction="none")


def second(labels: torch.Tensor) -> torch.Tensor:
    """(rows,) classes of what stands second, -100 where that is not asked."""
    return torch.where(labels[:, 0] == IGNORED, labels[:, 0], -1 - labels[:, 0])


def by_row(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(rows, 3): nats of the right tokens, how many were masked, how many of them the model puts first. Where it also
    says whether a sentence follows (rows, 6): nats of that, whether it is asked, whether it is right.

    logits: (1, masked tokens, vocabulary), or as `joined` has them. labels: (rows, length), -100 where no answer
    counts; where it is asked what stands second, the first of a row is -1 - its class.
    """
    flat = labels.flatten()
    places = torch.nonzero(flat >= 0).squeeze(1)
    truth, scores = flat[places], logits[0, : len(places)]
    words, follows = nats(logits, labels)
    found = torch.stack(
        [words, torch.ones_like(truth, dtype=torch.float32), (scores.argmax(-1) == truth).float()], dim=1
    )
    sums = torch.zeros(len(labels), 3, device=logits.device)
    sums.index_add_(0, places // labels.shape[1], found)
    if follows is None:
        return sums
    asked, said = second(labels), logits[0, len(places) :, :2].argmax(-1)
    return torch.cat([sums, torch.stack([follows, (asked >= 0).float(), (said == asked).float()], dim=1)], dim=1)
