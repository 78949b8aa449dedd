"""BERT's encoder, forward and backward by hand: what autograd, autocast and separate projections cost is not paid.

Devlin et al. 2019 with post-norm layers (Vaswani et al. 2017), as `transformers.BertModel` computes it; the gradients
are written where they belong, not returned. Matrices are multiplied in the precision of the weights; embeddings and
means of norms are float32. Owns activations between a forward pass and its backward pass. Must not know memory,
optimisers or heads.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from hpo.training.lean.drops import Drops

aten: Any = torch.ops.aten


@dataclass(frozen=True)
class Weights:
    """Of one layer, or their gradients. query, key and value are one matrix, below each other: (3 hidden, hidden).

    Matrices are (out, in), in the precision of forward passes. Biases of gradients and all of both norms are float32.
    """

    qkv: torch.Tensor
    qkv_bias: torch.Tensor
    out: torch.Tensor
    out_bias: torch.Tensor
    norm: torch.Tensor
    norm_bias: torch.Tensor
    up: torch.Tensor
    up_bias: torch.Tensor
    down: torch.Tensor
    down_bias: torch.Tensor
    last_norm: torch.Tensor
    last_norm_bias: torch.Tensor


@dataclass(frozen=True)
class Embeddings:
    """Or their gradients, float32. words: (tokens that occur, hidden)."""

    words: torch.Tensor
    positions: torch.Tensor
    types: torch.Tensor
    norm: torch.Tensor
    norm_bias: torch.Tensor


@dataclass(frozen=True)
class Batch:
    """ids, types: (rows, length) int64. mask: (rows * heads, 1, length), added to scores; None where nothing is padded.

    drops: None drops nothing.
    """

    ids: torch.Tensor
    types: torch.Tensor
    mask: torch.Tensor | None
    drops: Drops | None


class Layer:
    """One layer. dropouts: of the attention's probabilities, of its output, of the layer's output; p is read each time.

    narrow: of each row only the first token is wanted of it, as where nothing but the pooler comes after.
    """

    def __init__(
        self,
        weights: Weights,
        gradients: Weights | None,
        dropouts: Sequence[Any],
        heads: int,
        eps: float,
        *,
        narrow: bool,
    ) -> None:
        self._weights, self.gradients, self._dropouts = weights, gradients, dropouts
        self._heads, self._eps, self._narrow = heads, eps, narrow
        self._kept: tuple[Any, ...] = ()

    def forward(self, inputs: torch.Tensor, batch: Batch) -> torch.Tensor:
        """inputs: (rows * length, hidden). Returns as many, or (rows, hidden) where it is narrow."""
        own, hidden = self._weights, inputs.shape[-1]
        rows, length = batch.ids.shape
        heads, width = self._heads, hidden // self._heads
        if self._narrow:
            asking = inputs.view(rows, length, hidden)[:, 0].contiguous()
            query = torch.addmm(own.qkv_bias[:hidden], asking, own.qkv[:hidden].t()).view(rows * heads, 1, width)
            both = torch.addmm(own.qkv_bias[hidden:], inputs, own.qkv[hidden:].t())
            key, value = _by_head(both, rows, heads, width)
        else:
            asking = inputs
            query, key, value = _by_head(torch.addmm(own.qkv_bias, inputs, own.qkv.t()), rows, heads, width)
        scale = width**-0.5
        if batch.mask is None:
            scores = torch.bmm(query, key.mT).mul_(scale)
        else:
            scores = torch.baddbmm(batch.mask, query, key.mT, alpha=scale)
        shares = torch.softmax(scores, -1)
        drop_shares = self._mask(batch, 0, shares)
        dropped = shares if drop_shares is None else shares * drop_shares
        context = torch.bmm(dropped, value).view(rows, heads, -1, width).transpose(1, 2).reshape(-1, hidden)
        attended = torch.addmm(own.out_bias, context, own.out.t())
        drop_attended = self._mask(batch, 1, attended)
        summed = _dropped_onto(asking, attended, drop_attended)
        middle, mean, deviation = torch.native_layer_norm(summed, (hidden,), own.norm, own.norm_bias, self._eps)
        raised = torch.addmm(own.up_bias, middle, own.up.t())
        active = nn.functional.gelu(raised)
        lowered = torch.addmm(own.down_bias, active, own.down.t())
        drop_lowered = self._mask(batch, 2, lowered)
        last_summed = _dropped_onto(middle, lowered, drop_lowered)
        outputs, last_mean, last_deviation = torch.native_layer_norm(
            last_summed, (hidden,), own.last_norm, own.last_norm_bias, self._eps
        )
        if self.gradients is not None:
            self._kept = (
                (inputs, asking, query, key, value, shares, dropped, drop_shares, context, drop_attended),
                (summed, mean, deviation, middle, raised, active, drop_lowered, last_summed, last_mean, last_deviation),
            )
        return outputs

    def backward(self, gradient: torch.Tensor, *, wanted: bool) -> torch.Tensor | None:
        """From the gradient of the outputs that of the inputs, if that is wanted."""
        own, into = self._weights, self.gradients
        assert into is not None
        (inputs, asking, query, key, value, shares, dropped, drop_shares, context, drop_attended), rest = self._kept
        summed, mean, deviation, middle, raised, active, drop_lowered, last_summed, last_mean, last_deviation = rest
        self._kept = ()
        hidden = inputs.shape[-1]

        onto = _norm_backward(
            gradient,
            last_summed,
            last_mean,
            last_deviation,
            own.last_norm,
            own.last_norm_bias,
            into.last_norm,
            into.last_norm_bias,
        )
        lowered = _times(onto, drop_lowered)
        _linear_backward(lowered, active, into.down, into.down_bias)
        raising = aten.gelu_backward(lowered @ own.down, raised)
        _linear_backward(raising, middle, into.up, into.up_bias)
        onto = torch.addmm(onto, raising, own.up)

        onto = _norm_backward(onto, summed, mean, deviation, own.norm, own.norm_bias, into.norm, into.norm_bias)
        attended = _times(onto, drop_attended)
        _linear_backward(attended, context, into.out, into.out_bias)
        heads, width = self._heads, query.shape[-1]
        rows = query.shape[0] // heads
        contexts = (attended @ own.out).view(rows, -1, heads, width).transpose(1, 2).reshape(query.shape)
        sharing = _times(torch.bmm(contexts, value.mT), drop_shares)
        scoring = aten._softmax_backward_data(sharing, shares, -1, shares.dtype).mul_(width**-0.5)
        count = 2 if self._narrow else 3
        joint = torch.empty(count, *key.shape, dtype=key.dtype)
        torch.bmm(scoring.mT, query, out=joint[-2])
        torch.bmm(dropped.mT, contexts, out=joint[-1])
        if not self._narrow:
            torch.bmm(scoring, key, out=joint[0])
        projected = _by_token(joint, rows, heads)
        if not self._narrow:
            _linear_backward(projected, inputs, into.qkv, into.qkv_bias)
            return torch.addmm(onto, projected, own.qkv) if wanted else None
        asked = torch.bmm(scoring, key).view(rows, hidden)
        _linear_backward(asked, asking, into.qkv[:hidden], into.qkv_bias[:hidden])
        _linear_backward(projected, inputs, into.qkv[hidden:], into.qkv_bias[hidden:])
        if not wanted:
            return None
        back = projected @ own.qkv[hidden:]
        back.view(rows, -1, hidden)[:, 0] += torch.addmm(onto, asked, own.qkv[:hidden])
        return back

    def _mask(self, batch: Batch, place: int, like: torch.Tensor) -> torch.Tensor | None:
        return None if batch.drops is None else batch.drops.mask(self._dropouts[place].p, like.shape, like.dtype)


class Encoder:
    """Embeddings and layers. gradients: None where the embeddings are frozen; so are then those of frozen layers.

    precision: of what the layers compute. pad: the number of the token whose row is never trained; None: no such row.
    """

    def __init__(
        self,
        embeddings: Embeddings,
        gradients: Embeddings | None,
        layers: Sequence[Layer],
        dropout: Any,
        *,
        heads: int,
        eps: float,
        precision: torch.dtype,
        pad: int | None,
    ) -> None:
        self._embeddings, self._gradients, self._layers, self._dropout = embeddings, gradients, layers, dropout
        self._heads, self._eps, self._precision, self._pad = heads, eps, precision, pad
        self._kept: tuple[Any, ...] = ()

    def forward(
        self, ids: torch.Tensor, types: torch.Tensor | None, attention: torch.Tensor | None, drops: Drops | None
    ) -> torch.Tensor:
        """ids, types, attention: (rows, length). Returns (rows, length, hidden), or (rows, 1, hidden) where the last
        layer is narrow."""
        rows, length = ids.shape
        types = torch.zeros_like(ids) if types is None else types
        batch = Batch(ids, types, self._mask(attention), drops)
        own = self._embeddings
        embedded = own.words[ids.view(-1)].view(rows, length, -1)
        embedded += own.positions[:length]
        embedded += own.types[types] if bool(types.any()) else own.types[0]
        embedded = embedded.view(rows * length, -1)
        hidden, mean, deviation = torch.native_layer_norm(
            embedded, embedded.shape[1:], own.norm, own.norm_bias, self._eps
        )
        mask = None if drops is None else drops.mask(self._dropout.p, hidden.shape, hidden.dtype)
        hidden = _times(hidden, mask).to(self._precision)
        if self._gradients is not None:
            self._kept = (batch, embedded, mean, deviation, mask)
        for layer in self._layers:
            hidden = layer.forward(hidden, batch)
        return hidden.view(rows, -1, hidden.shape[-1])

    def backward(self, gradient: torch.Tensor) -> None:
        """gradient: of what `forward` returned. Writes the gradients of all that is trained."""
        hidden = gradient.to(self._precision).reshape(-1, gradient.shape[-1])
        trained = [layer for layer in self._layers if layer.gradients is not None]
        for place, layer in reversed(list(enumerate(trained))):
            found = layer.backward(hidden, wanted=place > 0 or self._gradients is not None)
            if found is None:
                return
            hidden = found
        if self._gradients is not None:
            self._embeddings_backward(self._gradients, hidden.float())

    def _embeddings_backward(self, into: Embeddings, gradient: torch.Tensor) -> None:
        batch, embedded, mean, deviation, mask = self._kept
        self._kept = ()
        own = self._embeddings
        found = _norm_backward(
            _times(gradient, mask), embedded, mean, deviation, own.norm, own.norm_bias, into.norm, into.norm_bias
        )
        ids, types = batch.ids.view(-1), batch.types.view(-1)
        into.words.zero_().index_add_(0, ids, found)
        if self._pad is not None:
            into.words[self._pad].zero_()
        length = batch.ids.shape[1]
        into.positions.zero_()
        torch.sum(found.view(-1, length, found.shape[-1]), 0, out=into.positions[:length])
        into.types.zero_().index_add_(0, types, found)

    def _mask(self, attention: torch.Tensor | None) -> torch.Tensor | None:
        if attention is None or bool(attention.all()):
            return None
        rows, length = attention.shape
        added = torch.zeros(rows, 1, length, dtype=self._precision)
        added.masked_fill_(attention.unsqueeze(1) == 0, torch.finfo(self._precision).min)
        return added.repeat_interleave(self._heads, 0)


def _by_head(projected: torch.Tensor, rows: int, heads: int, width: int) -> tuple[torch.Tensor, ...]:
    """Each (rows * heads, length, width), from (rows * length, n * heads * width)."""
    count = projected.shape[1] // (heads * width)
    split = projected.view(rows, -1, count, heads, width).permute(2, 0, 3, 1, 4).contiguous()
    return split.view(count, rows * heads, -1, width).unbind()


def _by_token(joint: torch.Tensor, rows: int, heads: int) -> torch.Tensor:
    """The way back: (rows * length, n * heads * width) from (n, rows * heads, length, width)."""
    count, _, length, width = joint.shape
    return joint.view(count, rows, heads, length, width).permute(1, 3, 0, 2, 4).reshape(rows * length, -1)


def _times(values: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    return values if mask is None else values * mask


def _dropped_onto(residual: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    return residual + values if mask is None else torch.addcmul(residual, values, mask)


def _linear_backward(gradient: torch.Tensor, inputs: torch.Tensor, into: torch.Tensor, into_bias: torch.Tensor) -> None:
    torch.mm(gradient.t(), inputs, out=into)
    torch.sum(gradient, 0, dtype=into_bias.dtype, out=into_bias)


def _norm_backward(
    gradient: torch.Tensor,
    inputs: torch.Tensor,
    mean: torch.Tensor,
    deviation: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    into: torch.Tensor,
    into_bias: torch.Tensor,
) -> torch.Tensor:
    found, of_weight, of_bias = aten.native_layer_norm_backward(
        gradient, inputs, inputs.shape[-1:], mean, deviation, weight, bias, [True, True, True]
    )
    into.copy_(of_weight)
    into_bias.copy_(of_bias)
    result: torch.Tensor = found
    return result
