"""Where a classifier goes wrong, class by class, and whether its probabilities can be believed. Numpy alone."""

from collections.abc import Sequence

import numpy as np

from hpo.encoded import Array

BINS = 15
"""Of equal width, as in Guo et al. 2017."""

Row = tuple[str | int | float, ...]

HEADS = ("class", "precision", "recall", "f1", "rows", "most often taken for")


def by_class(predictions: Array, truth: Array, labels: Sequence[str]) -> tuple[Row, ...]:
    """One row of HEADS for each class. predictions, truth: (rows,) class ids."""
    table = np.zeros((len(labels), len(labels)), np.int64)
    np.add.at(table, (truth, predictions), 1)
    hits, said, there = table.diagonal(), table.sum(axis=0), table.sum(axis=1)
    found: list[Row] = []
    for number, name in enumerate(labels):
        precision = float(hits[number] / max(1, said[number]))
        recall = float(hits[number] / max(1, there[number]))
        f1 = float(2 * hits[number] / max(1, said[number] + there[number]))
        wrong = table[number].copy()
        wrong[number] = 0
        other = f"{labels[int(wrong.argmax())]} ({int(wrong.max())})" if wrong.any() else "-"
        found.append((name, precision, recall, f1, int(there[number]), other))
    return tuple(found)


def calibration_error(shares: Array, truth: Array) -> float:
    """How far probabilities are from how often they are right, on average over the rows: the expected calibration error
    (Guo et al. 2017, eq. 3). shares: (rows, classes). truth: (rows,)."""
    sure, right = shares.max(axis=-1), shares.argmax(axis=-1) == truth
    place = np.minimum((sure * BINS).astype(np.int64), BINS - 1)
    gaps = np.zeros(BINS)
    np.add.at(gaps, place, sure - right)
    return float(np.abs(gaps).sum() / max(1, len(truth)))
