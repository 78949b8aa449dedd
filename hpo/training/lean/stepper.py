"""Steps of the lean path: whether it can take those of a training, and how it takes one.

What is not BERT's encoder (pooler, head, loss) stays what the task's model makes of it, with autograd. Before the first
step loss and gradients of a few rows are compared with the eager model's. Must not know reports or populations.
"""

import copy
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from hpo.encoded import Array
from hpo.training import batches, device, inference
from hpo.training.lean.bert import Embeddings, Encoder, Layer, Weights
from hpo.training.lean.drops import Drops
from hpo.training.lean.memory import Memory, Words

if TYPE_CHECKING:
    from hpo.training.loop import Training

_POOLED = ("BertForSequenceClassification", "BertForMultipleChoice")
"""Models that read nothing of the encoder but what its pooler says."""

_CLOSE = 1e-5
"""Of gradients in float32: the difference that rounding explains, as a part of the largest one."""


def lean(training: "Training") -> "Lean | None":
    """None where the model is not known here; after a warning, where it is known and does not do the same."""
    if not _is_known(training.model):
        return None
    try:
        stepper = Lean(training)
        difference = stepper.try_out()
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:  # a model that only looks like BERT
        difference = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    if difference is None:
        stepper.start()
        return stepper
    for part in training.model.parameters():
        part.grad = None
    warnings.warn(f"trained without the lean path ({difference})", RuntimeWarning, stacklevel=2)
    return None


class Lean:
    """Takes steps; see `hpo.training.graphs.Stepper`."""

    def __init__(self, training: "Training") -> None:
        self._training = training
        model: Any = training.model
        self._base: Any = getattr(model, model.base_model_prefix)
        embeddings = self._base.embeddings
        word = embeddings.word_embeddings.weight
        self._words = Words(word, _occurring(training, model.config.pad_token_id)) if word.requires_grad else None
        self._places = self._words.places if self._words is not None else torch.arange(len(word))
        inner = [part for part in self._base.encoder.parameters() if part.requires_grad]
        self._memory = Memory(training.optimizer, inner, self._words, bf16=training.bf16)
        self._memory.adopt_weights()
        self._encoding = _Encoding(self._base, self._encoder(exact=False))
        self._twin = copy.copy(training.model)
        self._twin._modules = {**training.model._modules, model.base_model_prefix: self._encoding}

    def start(self) -> None:
        """From now on the model's weights and the optimiser's state are what steps change."""
        self._memory.adopt()
        if self._words is None:
            return
        publish = self._words.publish
        model: Any = self._training.model
        self._base.embeddings.word_embeddings.register_forward_pre_hook(lambda *_: publish())
        model.register_state_dict_pre_hook(lambda *_: publish())
        model.register_load_state_dict_pre_hook(lambda *_: publish())

    def __call__(self, micro: Sequence[Array]) -> torch.Tensor:
        training, memory = self._training, self._memory
        terms = int(sum(training.train_terms[batch].sum() for batch in micro))
        parts = [part for batch in micro for part in batches.split(batch, training.micro_batch)]
        loss, summed = torch.zeros(()), None
        for part in parts:
            memory.clear()
            loss = loss + self._backward(self._inputs(part), terms, Drops(), bf16=training.bf16)
            memory.gather()
            if len(parts) > 1:
                summed = memory.gradients.clone() if summed is None else summed.add_(memory.gradients)
        if summed is not None:
            memory.gradients.copy_(summed)
        memory.step(training.clip.max_norm)
        return loss

    def settle(self) -> None:
        if self._words is not None:
            self._words.publish()
        self._memory.adopt()

    def try_out(self) -> str | None:
        """In float32 and without dropout: how loss or gradients differ from the eager model's; None: they don't."""
        training = self._training
        lengths = training.train.ragged["input_ids"].lengths
        rows = np.argsort(lengths, kind="stable")[[0, len(lengths) // 2]]
        terms = int(training.train_terms[rows].sum())
        training.model.eval()
        running = self._encoding.encoder
        self._encoding.encoder = self._encoder(exact=True)
        try:
            inputs = self._inputs(rows)
            found = self._backward(dict(inputs), terms, None, bf16=False)
            labels = inputs.pop("labels")
            outputs = inference.outputs_of(training.model(**inputs))
            expected = training.loss(outputs, labels).sum() / max(1, terms)
            trained = {name: part for name, part in training.model.named_parameters() if part.requires_grad}
            gradients = torch.autograd.grad(expected, list(trained.values()), allow_unused=True)
        finally:
            self._encoding.encoder = running
            training.model.train()
        if not torch.isclose(found, expected.detach(), rtol=_CLOSE, atol=_CLOSE):
            return f"the loss of two rows is {float(found)} instead of {float(expected.detach())}"
        scale = max((float(gradient.abs().max()) for gradient in gradients if gradient is not None), default=0.0)
        for (name, part), gradient in zip(trained.items(), gradients, strict=True):
            if gradient is None:
                return f"{name} has no gradient"
            own = self._memory.of(self._memory.gradients, part)
            if self._words is not None and part is self._words.parameter:
                gradient = gradient[self._words.occurring]
            if (difference := float((own - gradient).abs().max())) > _CLOSE * max(1.0, scale):
                return f"the gradient of {name} differs by {difference}"
        self._memory.gradients.zero_()
        return None

    def _inputs(self, rows: Array) -> dict[str, torch.Tensor]:
        return inference.to_tensors(self._training.collate(self._training.train, rows), self._training.where)

    def _backward(
        self, inputs: dict[str, torch.Tensor], terms: int, drops: Drops | None, *, bf16: bool
    ) -> torch.Tensor:
        """Gradients of a batch; returns its share of the step's mean loss, detached."""
        training, encoding = self._training, self._encoding
        labels = inputs.pop("labels")
        inputs["input_ids"] = self._places[inputs["input_ids"]]
        encoding.drops = drops
        context, _ = device.autocast(training.where, bf16)
        with context:
            logits = inference.outputs_of(self._twin(**inputs))
        share = training.loss(logits, labels).sum() / max(1, terms)
        share.backward()  # type: ignore[no-untyped-call]
        assert encoding.hidden is not None
        if encoding.hidden.grad is not None:
            encoding.encoder.backward(encoding.hidden.grad)
        encoding.hidden = None
        return share.detach()

    def _encoder(self, *, exact: bool) -> Encoder:
        """exact: float32, from the weights and into the gradients themselves."""
        memory, base, config = self._memory, self._base, self._base.config
        flat, into = (memory.weights, memory.gradients) if exact else (memory.copies, memory.raw)
        heads, eps = config.num_attention_heads, config.layer_norm_eps
        is_narrow = type(self._training.model).__name__ in _POOLED
        layers, last = [], len(base.encoder.layer) - 1
        for place, layer in enumerate(base.encoder.layer):
            attention = layer.attention
            dropouts = (attention.self.dropout, attention.output.dropout, layer.output.dropout)
            named = dict(_parts(layer))
            weights = Weights(**{name: self._weights(flat, name, own) for name, own in named.items()})
            gradients = None
            if named["qkv"][0] in memory:
                raw = {
                    name: memory.of(into if own[0].ndim > 1 else memory.gradients, *own) for name, own in named.items()
                }
                gradients = Weights(**raw)
            narrow = is_narrow and place == last
            layers.append(Layer(weights, gradients, dropouts, heads, eps, narrow=narrow))
        pad = config.pad_token_id
        return Encoder(
            self._embeddings(memory.weights),
            self._embeddings(memory.gradients) if self._words is not None else None,
            layers,
            base.embeddings.dropout,
            heads=heads,
            eps=eps,
            precision=flat.dtype,
            pad=None if pad is None else int(self._places[pad]),
        )

    def _weights(self, flat: torch.Tensor, name: str, parts: Sequence[nn.Parameter]) -> torch.Tensor:
        """Norms are float32, always."""
        flat = self._memory.weights if "norm" in name else flat
        if parts[0] in self._memory:
            return self._memory.of(flat, *parts)
        return torch.cat([part.detach() for part in parts]).to(flat.dtype)

    def _embeddings(self, flat: torch.Tensor) -> Embeddings:
        own = self._base.embeddings
        parts = (
            own.word_embeddings.weight,
            own.position_embeddings.weight,
            own.token_type_embeddings.weight,
            own.LayerNorm.weight,
            own.LayerNorm.bias,
        )
        return Embeddings(*(self._memory.of(flat, part) if part in self._memory else part.detach() for part in parts))


class _Encoding(nn.Module):
    """Stands for BertModel below a head. hidden: what it last gave the head, a leaf."""

    def __init__(self, base: Any, encoder: Encoder) -> None:
        super().__init__()
        self.pooler = base.pooler
        self.encoder = encoder
        self.drops: Drops | None = None
        self.hidden: torch.Tensor | None = None

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        **rest: Any,
    ) -> Any:
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            hidden = self.encoder.forward(input_ids, token_type_ids, attention_mask, self.drops)
        self.hidden = hidden.requires_grad_()
        pooled = None if self.pooler is None else self.pooler(self.hidden)
        return BaseModelOutputWithPooling(last_hidden_state=self.hidden, pooler_output=pooled)


def _is_known(model: Any) -> bool:
    """BERT's encoder as it was published, each layer trained or frozen as a whole, its word embedding used once."""
    from transformers.models.bert.modeling_bert import BertModel

    base, config = getattr(model, model.base_model_prefix, None), model.config
    if type(base) is not BertModel or model.get_output_embeddings() is not None:
        return False
    if config.is_decoder or config.add_cross_attention or config.hidden_act != "gelu":
        return False
    blocks = [base.embeddings, *base.encoder.layer]
    whole = all(len({part.requires_grad for part in block.parameters()}) == 1 for block in blocks)
    sizes = [len(list(block.parameters())) for block in blocks]
    return whole and sizes == [5] + [16] * len(base.encoder.layer)


def _occurring(training: "Training", pad: int | None) -> torch.Tensor:
    """The tokens of the training rows, and the one that fills them up."""
    tokens = np.unique(training.train.ragged["input_ids"].values)
    return torch.from_numpy(np.union1d(tokens, [] if pad is None else [pad]).astype(np.int64))


def _parts(layer: Any) -> Iterator[tuple[str, tuple[nn.Parameter, ...]]]:
    """A layer's parameters under the names of `Weights`."""
    own = layer.attention.self
    linear = {"out": layer.attention.output.dense, "up": layer.intermediate.dense, "down": layer.output.dense}
    norms = {"norm": layer.attention.output.LayerNorm, "last_norm": layer.output.LayerNorm}
    yield "qkv", (own.query.weight, own.key.weight, own.value.weight)
    yield "qkv_bias", (own.query.bias, own.key.bias, own.value.bias)
    for name, module in (linear | norms).items():
        yield name, (module.weight,)
        yield f"{name}_bias", (module.bias,)
