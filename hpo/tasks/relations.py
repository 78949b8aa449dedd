"""Metrics of relations where one class says that there is none, which counts neither when it is found nor when it is
there. Must not know rows or models.

An answer is (class, relation), two ids, -1 and -1 where there is none: `Cause-Effect(e1,e2)` and `Cause-Effect(e2,e1)`
are two classes of one relation, as in SemEval-2010 task 8.
"""

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from hpo.encoded import Array

_DIRECTION = re.compile(r"\((e1,e2|e2,e1)\)$")


def as_answers(ids: Array, labels: Sequence[str], negative: str) -> Array:
    """(rows, 2) int64. ids: (rows,), of labels."""
    bare = [_DIRECTION.sub("", name) for name in labels]
    known = {name: number for number, name in enumerate(dict.fromkeys(bare))}
    pairs = [(-1, -1) if name == negative else (number, known[bare[number]]) for number, name in enumerate(labels)]
    found: Array = np.array(pairs, np.int64)[ids]
    return found


def f1_micro_positive(predictions: Array, references: Array) -> float:
    """Over all relations together (TACRED, Zhang et al. 2017). 0.0 where none is there and none predicted."""
    said, there = predictions[:, 0] >= 0, references[:, 0] >= 0
    hits = there & (predictions[:, 0] == references[:, 0])
    return float(2 * hits.sum() / max(1, said.sum() + there.sum()))


def f1_macro_positive(predictions: Array, references: Array) -> float:
    """Mean over relations that are there or predicted; one in the wrong direction is no hit (SemEval-2010 task 8, the
    official score, which its script multiplies by 100). 0.0 where there is none."""
    size = 1 + int(max(predictions[:, 1].max(initial=-1), references[:, 1].max(initial=-1)))
    hits = (references[:, 0] >= 0) & (predictions[:, 0] == references[:, 0])
    right, said, there = (
        np.bincount(own[own >= 0].astype(np.int64), minlength=size)
        for own in (references[hits, 1], predictions[:, 1], references[:, 1])
    )
    both = said + there
    return float((2 * right[both > 0] / both[both > 0]).mean()) if both.any() else 0.0


PLAIN: Mapping[str, Callable[[Array, Array], float]] = {
    "f1_micro_positive": f1_micro_positive,
    "f1_macro_positive": f1_macro_positive,
}


def figures(predictions: Array, references: Array) -> dict[str, float]:
    """All metrics. predictions, references: (rows, 2), answers."""
    return {name: score(np.asarray(predictions), np.asarray(references)) for name, score in PLAIN.items()}
