"""How kinds of encoders differ in what their configurations call things. Must not import torch: space files are checked
against it before anything heavy is loaded.

Classes and defaults are those of transformers 5.
"""

from collections.abc import Mapping
from typing import Any

DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout")
"""Hyperparameters, by the names that BERT has."""

OF_THE_LAYERS = frozenset({"frozen_layers", "gradual_unfreezing", "layerwise_lr_decay", "peft", "reinit_layers"})
OF_THE_MODEL = OF_THE_LAYERS | {*DROPOUTS}
"""Hyperparameters that do something only where a model has modules for them."""

ROBERTAS = frozenset(
    {"camembert", "data2vec-text", "roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod"}
)
"""Model types whose first token has position 2: the last two of max_position_embeddings are not for tokens."""

WRITER = "EncoderDecoderModel"
"""The class of a model that reads one text and writes another."""

HEADS: Mapping[str, frozenset[str]] = {
    "AutoModelForPreTraining": frozenset({"bert", "ernie", "megatron-bert", "mobilebert"}),
    WRITER: frozenset({"bert", "camembert", "roberta", "xlm-roberta"}),
}
"""Heads that not every kind of encoder has -> the model types that have them."""

ASKS_FOR_A_HEAD = ("next_sentence",)
"""Fields of tasks that ask for such a head, where the task has another one without them."""

_LIKE_BERT = ROBERTAS | {"bert", "big_bird", "convbert", "electra", "ernie", "mobilebert", "roc_bert"}
"""Model types whose configuration class has all three, written in config.json or not."""

_TWO = {name: (name,) for name in DROPOUTS[:2]}
_OWN: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "albert": _TWO | {"classifier_dropout": ("classifier_dropout_prob",)},
    "deberta": _TWO | {"classifier_dropout": ("cls_dropout",)},
    "deberta-v2": _TWO | {"classifier_dropout": ("cls_dropout",)},
    "distilbert": {
        "hidden_dropout_prob": ("dropout",),
        "attention_probs_dropout_prob": ("attention_dropout",),
        "classifier_dropout": ("seq_classif_dropout", "qa_dropout"),
    },
    "modernbert": {
        "hidden_dropout_prob": ("embedding_dropout", "mlp_dropout"),
        "attention_probs_dropout_prob": ("attention_dropout",),
        "classifier_dropout": ("classifier_dropout",),
    },
    "mpnet": _TWO,
}
"""Model types -> dropout -> the fields that it sets there."""


def fields_of(config: Mapping[str, Any], dropout: str) -> tuple[str, ...]:
    """The fields of a `config.json` that `dropout` sets; () where such a model has none."""
    kind = str(config.get("model_type"))
    if kind in _OWN:
        return _OWN[kind].get(dropout, ())
    return (dropout,) if kind in _LIKE_BERT or dropout in config else ()


def positions_of(config: Mapping[str, Any]) -> int | None:
    """How many tokens a model of such a `config.json` takes; None where it does not say. Of two halves, the first."""
    config = config.get("encoder", config)
    positions = config.get("max_position_embeddings")
    if not isinstance(positions, int):
        return None
    return positions - 2 if config.get("model_type") in ROBERTAS else positions
