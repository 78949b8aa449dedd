"""What tasks share: types of their fields, texts to padded batches, class names, probabilities. Must not know tasks."""

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from pydantic import Field

from hpo.errors import DataError
from hpo.tasks.contract import Answers, Tokenize

if TYPE_CHECKING:
    import pyarrow as pa

    from hpo.encoded import Array, Encoded, Ragged

Name: TypeAlias = Annotated[str, Field(min_length=1)]
"""Of a column."""

Length: TypeAlias = Annotated[int, Field(ge=2, le=8192)]
"""In tokens, special ones included."""

NOT_MASKED = frozenset({"mlm_probability"})
"""Hyperparameters that do nothing where no words are masked."""

BLOCK = 2_000
"""Rows that are tokenised at a time."""


def encode_texts(table: "pa.Table", texts: Sequence[str], max_length: int, tokenize: Tokenize) -> "dict[str, Ragged]":
    """input_ids of one column of texts, or of pairs; for pairs token_type_ids, too, where the model has them."""
    from hpo.encoded import Ragged

    rows: dict[str, list[list[int]]] = {}
    for start in range(0, len(table), BLOCK):
        block = table.slice(start, BLOCK)
        first, *pairs = (block[name].to_pylist() for name in texts)
        for name, ids in tokenize(first, pairs[0] if pairs else None, max_length).items():
            rows.setdefault(name, []).extend(ids)
    kept = ("input_ids", "token_type_ids") if len(texts) == 2 else ("input_ids",)
    return {name: Ragged.of(rows[name]) for name in kept if name in rows}


def padded(encoded: "Encoded", features: "Array", pad_id: int) -> "dict[str, Array]":
    """input_ids, attention_mask and, where they are there, token_type_ids (len(features), longest of them), int64."""
    import numpy as np

    ids = encoded.ragged["input_ids"]
    block = ids.padded(features, pad_id)
    mask = (np.arange(block.shape[1]) < ids.lengths_of(features)[:, None]).astype(np.int64)
    batch = {"input_ids": block, "attention_mask": mask}
    if "token_type_ids" in encoded.ragged:
        batch["token_type_ids"] = encoded.ragged["token_type_ids"].padded(features, 0)
    return batch


def named(labels: Sequence[str]) -> dict[str, Any]:
    """Classes in a model's configuration."""
    return {
        "num_labels": len(labels),
        "id2label": dict(enumerate(labels)),
        "label2id": {label: number for number, label in enumerate(labels)},
    }


def refuse_strangers(column: str, found: Iterable[str], labels: Sequence[str]) -> None:
    """DataError on the first class that is not among `labels`."""
    strange = sorted(set(found) - set(labels))
    if strange:
        raise DataError(
            f"the column {column!r} has the class {strange[0]!r}, which is not among {', '.join(labels)}; "
            "add it to task.labels, or remove its rows"
        )


def sorted_names(names: Iterable[str]) -> list[str]:
    """Numbers by size where all are finite ones, else by name: nothing is before or behind a NaN."""
    by_name = sorted(names)
    try:
        sizes = {name: float(name) for name in by_name}
    except ValueError:
        return by_name
    return sorted(by_name, key=sizes.__getitem__) if all(map(math.isfinite, sizes.values())) else by_name


def class_answers(predictions: "Array", outputs: "Array", labels: Sequence[str], *, all_scores: bool) -> Answers:
    """The name of each prediction, its probability, and with `all_scores` that of every class."""
    shares = softmax(outputs)
    answers: Answers = {"prediction": [labels[number] for number in predictions], "score": rounded(shares.max(axis=-1))}
    if all_scores:
        answers |= {f"score_{name}": rounded(shares[:, number]) for number, name in enumerate(labels)}
    return answers


def some(labels: Sequence[str], most: int = 20) -> str:
    """`3 labels (a, b, c)`"""
    listed = ", ".join(label[:60] for label in labels[:most]) + (", ..." if len(labels) > most else "")
    return f"{len(labels)} labels ({listed})"


def softmax(outputs: "Array") -> "Array":
    """(..., classes) probabilities, float64."""
    import numpy as np

    powers = np.exp(outputs.astype(np.float64) - outputs.max(axis=-1, keepdims=True))
    shares: Array = powers / powers.sum(axis=-1, keepdims=True)
    return shares


def sigmoid(outputs: "Array") -> "Array":
    """Probabilities of each by itself, float64, without overflow."""
    import numpy as np

    shares: Array = 0.5 * (1.0 + np.tanh(0.5 * outputs.astype(np.float64)))
    return shares


def rounded(shares: "Iterable[float]") -> list[float]:
    """Six digits: what is beyond them differs from one machine to the next."""
    return [round(float(share), 6) for share in shares]
