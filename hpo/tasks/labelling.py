"""Metrics of many labels a row. All arrays are (rows, labels): decisions and truth hold 0 and 1, shares probabilities.

Those of decisions are those of scikit-learn, which the tests hold them to, in numpy: fast enough for resamples.
"""

from collections.abc import Callable, Mapping

import numpy as np

from hpo.encoded import Array

CANDIDATES = np.linspace(0.01, 0.99, 99)
"""Thresholds that are tried."""


def figures(predictions: Array, references: Array, *, threshold: float) -> dict[str, float]:
    """All metrics. predictions: shares; references: truth."""
    shares, truth = np.asarray(predictions), np.asarray(references)
    decided = (shares >= threshold).astype(np.float64)
    return {
        name: score(shares if name.startswith("average_precision") else decided, truth) for name, score in PLAIN.items()
    }


def f1_micro(decided: Array, truth: Array) -> float:
    """F1 over all decisions together. 0.0 where nothing is there and nothing predicted."""
    return _f1(float((decided * truth).sum()), float(decided.sum()), float(truth.sum()))


def f1_macro(decided: Array, truth: Array) -> float:
    """Mean over labels; 0.0 for a label that is neither there nor predicted, as scikit-learn has it."""
    return float(_f1s(decided, truth, axis=0).mean())


def f1_samples(decided: Array, truth: Array) -> float:
    """Mean over rows; 0.0 for a row without labels and decisions, as scikit-learn has it."""
    return float(_f1s(decided, truth, axis=1).mean())


def accuracy(decided: Array, truth: Array) -> float:
    """Share of rows with all labels right and none too many (subset accuracy)."""
    return float((decided == truth).all(axis=1).mean())


def average_precision_micro(shares: Array, truth: Array) -> float:
    """Of all (row, label) pairs in one ranking. 0.0 where no label is there."""
    return _average_precision(shares.reshape(-1), truth.reshape(-1))


def average_precision_macro(shares: Array, truth: Array) -> float:
    """Mean over the labels that are there in some row; 0.0 where none is."""
    found = [_average_precision(shares[:, label], truth[:, label]) for label in np.flatnonzero(truth.any(axis=0))]
    return float(np.mean(found)) if found else 0.0


PLAIN: Mapping[str, Callable[[Array, Array], float]] = {
    "f1_micro": f1_micro,
    "f1_macro": f1_macro,
    "f1_samples": f1_samples,
    "average_precision_micro": average_precision_micro,
    "average_precision_macro": average_precision_macro,
    "accuracy": accuracy,
}


def best_threshold(shares: Array, truth: Array, average: str) -> float:
    """The one of CANDIDATES with the best F1; of several, the one in their middle."""
    score = f1_macro if average == "macro" else f1_micro
    reached = np.array([score((shares >= threshold).astype(np.float64), truth) for threshold in CANDIDATES])
    best = CANDIDATES[reached >= reached.max() - 1e-12]
    return float(round(best[len(best) // 2], 2))


def by_label(decided: Array, truth: Array) -> list[tuple[float, float, float, int]]:
    """precision, recall, f1 and number of rows, label by label."""
    hits, said, there = ((part).sum(axis=0).astype(float) for part in (decided * truth, decided, truth))
    return [
        (hit / max(own, 1.0), hit / max(all_, 1.0), _f1(hit, own, all_), int(all_))
        for hit, own, all_ in zip(hits, said, there, strict=True)
    ]


def _f1(hits: float, said: float, there: float) -> float:
    return 2 * hits / (said + there) if said + there else 0.0


def _f1s(decided: Array, truth: Array, axis: int) -> Array:
    hits, both = (decided * truth).sum(axis=axis), decided.sum(axis=axis) + truth.sum(axis=axis)
    found: Array = 2 * hits / np.maximum(both, 1.0)
    return found


def _average_precision(shares: Array, truth: Array) -> float:
    """Sum of precision times the recall that it adds, over the thresholds there are; equal shares share a threshold."""
    order = np.argsort(-shares, kind="stable")
    hits = np.cumsum(truth[order])
    if not hits[-1]:
        return 0.0
    ends = np.append(np.flatnonzero(np.diff(shares[order])), len(order) - 1)
    precision, recall = hits[ends] / (ends + 1), hits[ends] / hits[-1]
    return float((np.diff(recall, prepend=0.0) * precision).sum())
