"""The rows that a model answers worst, for people to read: one way for each kind of answer. Must not know tasks."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hpo.encoded import Array
from hpo.records import Confusion, Mistake, Mistakes
from hpo.tasks.entities import Entity, entities
from hpo.tasks.reading import sigmoid, softmax

if TYPE_CHECKING:
    import pyarrow as pa

MOST = 100
"""Rows that are kept: enough to see what goes wrong, and few enough to be read."""

LONGEST = 2_000
"""Characters that are kept of a row's text."""

NOTHING = "(none)"


def of_classes(outputs: Array, truth: Array, labels: Sequence[str], text: Callable[[int], str]) -> Mistakes:
    """Wrong rows, the surest first. outputs: (rows, classes)."""
    shares = softmax(outputs)
    said, sure = shares.argmax(axis=-1), shares.max(axis=-1)
    wrong = np.flatnonzero(said != truth)
    worst = wrong[np.argsort(-sure[wrong], kind="stable")][:MOST]
    rows = [_mistake(row, text, labels[truth[row]], labels[said[row]], float(sure[row])) for row in worst]
    return Mistakes(score="probability of the answer", wrong=len(wrong), rows=tuple(rows))


def of_numbers(said: Array, truth: Array, text: Callable[[int], str]) -> Mistakes:
    """The largest errors. said, truth: (rows,)."""
    errors = said.astype(np.float64) - truth
    worst = np.argsort(-np.abs(errors), kind="stable")[:MOST]
    rows = [_mistake(row, text, f"{truth[row]:.6g}", f"{said[row]:.6g}", float(errors[row])) for row in worst]
    return Mistakes(score="too high by", wrong=None, rows=tuple(rows))


def of_labels(
    outputs: Array, truth: Array, threshold: float, labels: Sequence[str], text: Callable[[int], str]
) -> Mistakes:
    """Rows with a wrong label, the surest of its wrong decisions first. outputs, truth: (rows, labels)."""
    shares, wanted = sigmoid(outputs), truth.astype(bool)
    said = shares >= threshold
    sure = np.where(said == wanted, 0.0, np.where(said, shares, 1.0 - shares)).max(axis=-1)
    wrong = np.flatnonzero((said != wanted).any(axis=-1))
    worst = wrong[np.argsort(-sure[wrong], kind="stable")][:MOST]

    def named(marks: Array) -> str:
        return ", ".join(labels[number] for number in map(int, np.flatnonzero(marks))) or NOTHING

    rows = [_mistake(row, text, named(wanted[row]), named(said[row]), float(sure[row])) for row in worst]
    return Mistakes(score="probability of its surest wrong decision", wrong=len(wrong), rows=tuple(rows))


def of_entities(said: Sequence[Sequence[str]], truth: Sequence[Sequence[str]], table: "pa.Table") -> Mistakes:
    """Sentences by how many entities are missed or invented. said, truth: tags. table: one column of words."""
    found = [(set(entities(own)), set(entities(true))) for own, true in zip(said, truth, strict=True)]
    counts = np.array([len(own ^ true) for own, true in found], np.int64)
    wrong = np.flatnonzero(counts)
    rows = []
    for row in wrong[np.argsort(-counts[wrong], kind="stable")][:MOST]:
        words: list[str] = table.column(0)[int(row)].as_py()
        own, true = found[row]
        rows.append(_mistake(row, " ".join(words), _named(true, words), _named(own, words), float(counts[row])))
    return Mistakes(score="entities missed or invented", wrong=len(wrong), rows=tuple(rows))


def of_answers(
    said: Sequence[str],
    wanted: Sequence[Sequence[str]],
    scores: Array,
    text: Callable[[int], str],
    score: str = "F1 of words",
) -> Mistakes:
    """Answers that share the fewest words with what is right. scores: (rows,) from 0 to 1. score: what they are."""
    wrong = np.flatnonzero(scores < 1.0)
    rows = [
        _mistake(row, text, " | ".join(dict.fromkeys(wanted[row])) or NOTHING, said[row] or NOTHING, float(scores[row]))
        for row in wrong[np.argsort(scores[wrong], kind="stable")][:MOST]
    ]
    return Mistakes(score=score, wrong=len(wrong), rows=tuple(rows))


def confusion(outputs: Array, truth: Array, labels: Sequence[str]) -> Confusion:
    """outputs: (rows, classes). truth: (rows,)."""
    pairs, counts = np.unique(np.stack([truth, outputs.argmax(axis=-1)], axis=1), axis=0, return_counts=True)
    cells = [(int(true), int(said), int(rows)) for (true, said), rows in zip(pairs, counts, strict=True)]
    return Confusion(labels=tuple(labels), cells=tuple(cells))


def texts_of(table: "pa.Table") -> Callable[[int], str]:
    """What a row asks, in one line: its text, or its columns by name."""
    names = table.column_names

    def text(row: int) -> str:
        values = [_plain(table.column(name)[row].as_py()) for name in names]
        if len(names) == 1:
            return values[0]
        return " · ".join(f"{name}: {value}" for name, value in zip(names, values, strict=True))

    return text


def _mistake(row: Any, text: Callable[[int], str] | str, truth: str, said: str, score: float) -> Mistake:
    whole = text if isinstance(text, str) else text(int(row))
    return Mistake(row=int(row), text=shortened(whole, LONGEST), truth=truth, said=said, score=round(score, 6))


def shortened(text: str, most: int) -> str:
    """At most so many characters, its blanks and line ends as single blanks."""
    flat = " ".join(text.split())
    return flat if len(flat) <= most else f"{flat[: most - 3]}..."


def _named(found: set[Entity], words: Sequence[str]) -> str:
    return "; ".join(f"{one.type}: {' '.join(words[one.start : one.end])}" for one in sorted(found)) or NOTHING


def _plain(value: Any) -> str:
    return " | ".join(map(str, value)) if isinstance(value, list) else str(value)
