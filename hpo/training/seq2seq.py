"""BERT as encoder and as decoder (Rothe et al., TACL 2020, "BERT2BERT"): both begin with the same pretrained weights,
the decoder with attention to the encoder that is new.

Owns how such a model is made of one that has no decoder, and how it writes. Must not know metrics.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from hpo.errors import ModelError
from hpo.training.families import WRITER
from hpo.training.pretrained import quiet

HEAD = WRITER

WRITING = "writing"
"""The input that says how: (2,), the most tokens that are written, and how many beams."""

_TOKENS = 2_048
"""Whose scores, 30,000 of them each, are held at a time."""


def config_of(own: Any, tokenizer: Any) -> Any:
    """The configuration of the whole. own: of the pretrained model."""
    from transformers import EncoderDecoderConfig

    marks = {"the first": tokenizer.cls_token_id, "the last": tokenizer.sep_token_id}
    for which, mark in marks.items():
        if mark is None:
            raise ModelError(f"model.name: its tokenizer has no token for {which} of a text; name a BERT, or a RoBERTa")
    values = own.to_dict()
    config: Any = EncoderDecoderConfig(
        encoder=values,
        decoder=values | {"is_decoder": True, "add_cross_attention": True},
        decoder_start_token_id=marks["the first"],
        pad_token_id=tokenizer.pad_token_id,
    )
    config.eos_token_id = marks["the last"]
    return config


def parts_of(config: Any) -> list[Any]:
    """The configurations of a model's halves; of any other model its own."""
    return [config.encoder, config.decoder] if config.model_type == "encoder-decoder" else [config]


def build(config: Any, weights: Mapping[str, torch.Tensor]) -> nn.Module:
    """A model on the CPU in fp32, whose halves have their own copies of the weights. What is new follows from torch's
    seed."""
    from transformers import AutoModel, AutoModelForCausalLM, EncoderDecoderModel

    quiet()
    kinds: list[tuple[Any, Any]] = [(AutoModel, config.encoder), (AutoModelForCausalLM, config.decoder)]
    halves = []
    for kind, part in kinds:
        with torch.device("meta"):
            own = type(kind.from_config(part))
        copies = {name: tensor.clone() for name, tensor in weights.items()}
        halves.append(own.from_pretrained(None, config=part, state_dict=copies, dtype=torch.float32))
    model: Any = EncoderDecoderModel(config, *halves)
    if config.tie_embeddings:
        model.decoder.set_input_embeddings(model.encoder.get_input_embeddings())
        model.decoder.tie_weights()
    found: nn.Module = model
    return found


def attach(model: nn.Module, tokenizer: Any) -> None:
    """Let the model write texts; and, in training, take no notice of how."""

    def take(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, {name: value for name, value in kwargs.items() if name != WRITING}

    model.register_forward_pre_hook(take, with_kwargs=True)
    writer: Any = model
    writer.reads_back = tokenizer


def writes(model: nn.Module) -> bool:
    return hasattr(model, "reads_back")


def write(model: Any, inputs: Mapping[str, torch.Tensor], labels: torch.Tensor | None) -> torch.Tensor:
    """(rows, 2 + bytes) float32: nats of the right tokens and how many they are, both 0 where there are none; then what
    the model writes, in UTF-8, filled up with -1.

    inputs: input_ids, attention_mask and `writing`; with labels (rows, length) decoder_input_ids and their mask.
    """
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    read = model.encoder(input_ids=ids, attention_mask=mask, return_dict=True)
    nats = torch.zeros(len(ids), 2, device=ids.device)
    if labels is not None:
        nats = _nats(model, read.last_hidden_state, inputs, labels)
    most, beams = map(int, inputs[WRITING])
    config = model.config
    written = model.generate(
        encoder_outputs=read,
        attention_mask=mask,
        max_new_tokens=most,
        num_beams=beams,
        do_sample=False,
        decoder_start_token_id=config.decoder_start_token_id,
        eos_token_id=config.eos_token_id,
        pad_token_id=config.pad_token_id,
    )
    texts = model.reads_back.batch_decode(written.cpu(), skip_special_tokens=True)
    found = [torch.tensor([*text.strip().encode("utf-8")], dtype=torch.float32) for text in texts]
    return torch.cat([nats.cpu(), nn.utils.rnn.pad_sequence(found, batch_first=True, padding_value=-1.0)], dim=1)


def as_wide(answers: list[torch.Tensor]) -> list[torch.Tensor]:
    """Of batches of different widths."""
    widest = max(answer.shape[1] for answer in answers)
    return [functional.pad(answer, (0, widest - answer.shape[1]), value=-1.0) for answer in answers]


def _nats(model: Any, read: torch.Tensor, inputs: Mapping[str, torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
    """(rows, 2): the sum over a row's right tokens, and how many they are."""
    found = []
    for rows in torch.split(torch.arange(len(labels), device=labels.device), max(1, _TOKENS // labels.shape[1])):
        scores = model(
            encoder_outputs=(read[rows],),
            attention_mask=inputs["attention_mask"][rows],
            decoder_input_ids=inputs["decoder_input_ids"][rows],
            decoder_attention_mask=inputs["decoder_attention_mask"][rows],
            use_cache=False,
        ).logits.float()
        truth = labels[rows]
        nats = functional.cross_entropy(scores.transpose(1, 2), truth, reduction="none").sum(1)
        found.append(torch.stack([nats, (truth >= 0).sum(1).float()], dim=1))
    return torch.cat(found)
