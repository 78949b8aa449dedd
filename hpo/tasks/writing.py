"""How near a written text comes to the right one: ROUGE (Lin 2004) and BLEU (Papineni et al. 2002), as the libraries
`rouge_score` and `sacrebleu` count them. Must not know tasks, nor how a text was written.

ROUGE reads a-z and digits only, without stemming. BLEU is lower-cased: an uncased model writes no capitals.
"""

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hpo.encoded import Array

if TYPE_CHECKING:
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics.bleu import BLEU

ROUGE = ("rouge1", "rouge2", "rougeL")
METRICS = (*ROUGE, "sacrebleu")


def written(predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Means of the F-measures of ROUGE, 0 to 1, and BLEU of all rows together, 0 to 100."""
    return {metric: plain(metric)(counts(metric, predictions, references), np.zeros(0)) for metric in METRICS}


def counts(metric: str, predictions: Sequence[str], references: Sequence[str]) -> Array:
    """(rows,) F-measures of ROUGE; of BLEU (rows, 10): the right and all n-grams of 1 to 4 words, the words of both."""
    if metric in ROUGE:
        return np.array(
            [_rouge().score(right, own)[metric].fmeasure for own, right in zip(predictions, references, strict=True)],
            np.float64,
        )
    found = [_bleu().sentence_score(own, [right]) for own, right in zip(predictions, references, strict=True)]
    rows = [[*one.counts, *one.totals, one.sys_len, one.ref_len] for one in found]
    return np.array(rows, np.float64).reshape(len(rows), 10)


def plain(metric: str) -> Callable[[Array, Array], float]:
    """(counts, anything) -> the metric over these rows."""
    return _mean if metric in ROUGE else _of_all


def _mean(rows: Array, references: Array) -> float:
    return float(rows.mean())


def _of_all(rows: Array, references: Array) -> float:
    from sacrebleu.metrics.bleu import BLEU

    sums = [int(value) for value in rows.sum(axis=0)]
    return float(BLEU.compute_bleu(sums[:4], sums[4:8], sums[8], sums[9]).score)


@functools.cache
def _rouge() -> "RougeScorer":
    from rouge_score import rouge_scorer

    scorer: Any = rouge_scorer.RougeScorer([*ROUGE])
    return scorer


@functools.cache
def _bleu() -> "BLEU":
    from sacrebleu.metrics.bleu import BLEU

    return BLEU(lowercase=True, effective_order=True)
