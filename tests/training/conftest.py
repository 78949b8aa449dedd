from pathlib import Path

import numpy as np
import pytest

from hpo.encoded import Encoded, Ragged
from hpo.tasks import SequenceClassification
from hpo.trial import TrialObjective

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film", "plot", "a", "the", "very", "was", "it"]


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real BERT of two layers with random weights, and its tokenizer."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("tiny-bert")
    (folder / "words.txt").write_text("\n".join(WORDS))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)
    BertTokenizerFast(vocab={word: place for place, word in enumerate(WORDS)}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sentences that are good or bad, as the one telling word in them says."""
    folder = tmp_path_factory.mktemp("encoded")
    draw = np.random.default_rng(0)
    for split, rows in (("train", 192), ("validation", 48)):
        labels = draw.integers(0, 2, rows)
        texts = [[2, *draw.integers(7, 14, draw.integers(1, 7)), 5 if label else 6, 3] for label in labels]
        Encoded({"input_ids": Ragged.of(texts)}, {"labels": labels.astype(np.int64)}).save(folder / f"{split}.arrow")
    return folder


@pytest.fixture
def objective(tiny_bert: Path, encoded: Path, tmp_path: Path) -> TrialObjective:
    return TrialObjective(
        model=tiny_bert,
        task=SequenceClassification(text="sentence", label="label", max_length=16),
        labels=("bad", "good"),
        data=encoded,
        checkpoints=tmp_path / "checkpoints",
        metric="accuracy",
        mode="max",
        pad_id=0,
    )
