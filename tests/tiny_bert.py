"""A real BERT, tiny and untrained, in a folder like a checkpoint's: what registry and predict are tried on."""

from collections.abc import Sequence
from pathlib import Path

WORDS = ["a", "bad", "boring", "film", "good", "great", "is", "it", "movie", "not", "one", "plot", "the", "this"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def write_tiny_bert(folder: Path, labels: Sequence[str] = ("neg", "pos"), seed: int = 0) -> Path:
    """labels: in id order, () for a regression. Its weights are large, so that answers differ from row to row."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast
    from transformers.utils import logging

    logging.disable_progress_bar()
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = folder.with_name(f"{folder.name}.txt")
    vocabulary.write_text("\n".join(SPECIAL + WORDS) + "\n")
    names = dict(enumerate(labels or ("LABEL_0",)))
    config = BertConfig(
        vocab_size=len(SPECIAL + WORDS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=37,
        max_position_embeddings=64,
        id2label=names,
        label2id={name: number for number, name in names.items()},
        problem_type="single_label_classification" if labels else "regression",
    )
    torch.manual_seed(seed)
    model = BertForSequenceClassification(config)
    for name, weights in model.named_parameters():
        if name.endswith("weight") and "LayerNorm" not in name:
            torch.nn.init.normal_(weights, std=0.5)
    model.save_pretrained(folder, safe_serialization=True)
    BertTokenizerFast(vocab={word: place for place, word in enumerate(SPECIAL + WORDS)}).save_pretrained(folder)
    vocabulary.unlink()
    return folder
