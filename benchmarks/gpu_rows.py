"""The rows of the GPU benchmark: SST-2 of HPO_DATA in wordpieces, or random ids of like lengths. Loads no torch."""

import csv
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hpo.encoded import Encoded, Ragged

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
MEAN, SPREAD = 2.3, 0.6
"""Of the logarithm of a sentence's length in wordpieces, near SST-2's (mean 13, median 10)."""


def write_rows(folder: Path, rows: int | None, short: int, vocabulary: int) -> str:
    """`data` and, with the first `short` training rows, `short`. Returns what they are, in words.

    rows: training rows at most; None: all. vocabulary: ids where there is no data.
    """
    if (_data() / "sst2" / "train.tsv").is_file():
        splits = {name: _sentences(name, rows) for name in ("train", "validation")}
        what = "SST-2"
    else:
        splits = {"train": _random(rows or 67_349, vocabulary, 0), "validation": _random(872, vocabulary, 1)}
        what = "random ids of lengths like SST-2's (HPO_DATA has no sst2)"
    for data in ("data", "short"):
        (folder / data).mkdir(parents=True, exist_ok=True)
        splits["validation"].save(folder / data / "validation.arrow")
    splits["train"].save(folder / "data" / "train.arrow")
    _first(splits["train"], short).save(folder / "short" / "train.arrow")
    lengths = splits["train"].ragged["input_ids"].lengths
    return f"{what}: {len(lengths):,} rows of {lengths.mean():.2f} wordpieces, {lengths.max()} at most"


def vocabulary_size() -> int:
    """Of the vocabulary in HPO_DATA; BERT's where there is none."""
    path = _data() / "bert-base-uncased" / "vocab.txt"
    return len(path.read_text(encoding="utf-8").splitlines()) if path.is_file() else 30_522


def _data() -> Path:
    return Path(os.environ.get("HPO_DATA", "../shared/data"))


def _sentences(split: str, rows: int | None) -> Encoded:
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer
    from tokenizers.processors import TemplateProcessing

    base = _data()
    words = (base / "bert-base-uncased" / "vocab.txt").read_text(encoding="utf-8").splitlines()
    ids = {word: place for place, word in enumerate(words)}
    tokenizer = Tokenizer(WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(name, ids[name]) for name in SPECIAL[2:4]]
    )
    tokenizer.enable_truncation(128)
    with open(base / "sst2" / f"{split}.tsv", encoding="utf-8", newline="") as stream:
        found = list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))[:rows]
    encodings = tokenizer.encode_batch([row["sentence"] for row in found])
    return _encoded([one.ids for one in encodings], [int(row["label"]) for row in found])


def _random(rows: int, vocabulary: int, seed: int) -> Encoded:
    draw = np.random.default_rng(seed)
    lengths = np.clip(draw.lognormal(MEAN, SPREAD, rows) + 2, 4, 66).astype(int)
    labels = draw.integers(0, 2, rows)
    return _encoded([draw.integers(len(SPECIAL), vocabulary, length).tolist() for length in lengths], labels.tolist())


def _encoded(ids: Sequence[Sequence[int]], labels: Sequence[int]) -> Encoded:
    return Encoded({"input_ids": Ragged.of(ids)}, {"labels": np.array(labels, np.int64)})


def _first(encoded: Encoded, rows: int) -> Encoded:
    ids = encoded.ragged["input_ids"]
    some = [ids[row].tolist() for row in range(min(rows, len(ids)))]
    return _encoded(some, encoded.flat["labels"][: len(some)].tolist())
