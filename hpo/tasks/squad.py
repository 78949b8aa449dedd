"""Answers against answers, as the official scripts of SQuAD 1.1 and 2.0 score them (Rajpurkar et al. 2016, 2018), and
the best answer of many windows."""

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from hpo.encoded import Array

_ARTICLES = re.compile(r"\b(a|an|the)\b", re.UNICODE)
_MARKS = frozenset(string.punctuation)
_CANDIDATES = 20
"""First and last tokens of a window that are combined (`n_best_size` of the published scripts)."""


def normalised(text: str) -> str:
    """Lower case, without punctuation, articles and blanks too many."""
    plain = "".join(mark for mark in text.lower() if mark not in _MARKS)
    return " ".join(_ARTICLES.sub(" ", plain).split())


def exact_match(said: str, true: str) -> float:
    return float(normalised(said) == normalised(true))


def f1(said: str, true: str) -> float:
    """Of words, with repeats. Where one side has no words: whether the other has none, either (SQuAD 2.0)."""
    own, wanted = normalised(said).split(), normalised(true).split()
    if not own or not wanted:
        return float(own == wanted)
    shared = sum((Counter(own) & Counter(wanted)).values())
    return 2 * shared / (len(own) + len(wanted))


def best_of(score: Callable[[str, str], float], said: str, references: Sequence[str]) -> float:
    """Against the reference that fits best. References that are nothing but articles and marks do not count, where
    there are others; a question without references asks for no answer."""
    wanted = [text for text in references if normalised(text)] or [""]
    return max(score(said, text) for text in wanted)


def figures(predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """exact_match and f1, each a share from 0 to 1; the official scripts multiply by 100. predictions: one a row."""
    pairs = [(said, wanted) for (said,), wanted in zip(predictions, references, strict=True)]
    return {
        "exact_match": float(np.mean([best_of(exact_match, *pair) for pair in pairs])),
        "f1": float(np.mean([best_of(f1, *pair) for pair in pairs])),
    }


@dataclass(frozen=True, slots=True)
class Found:
    """The best answer in a text: characters [start, end). score: of its first and last token together. null: the score
    of no answer, the least of all windows. share, null_share: their probabilities among the best ones."""

    start: int
    end: int
    score: float
    null: float
    share: float
    null_share: float


def best_answer(windows: Sequence[tuple[Array, Array, Array]], longest: int, *, with_null: bool) -> Found:
    """The best of all windows of one question. windows: outputs (tokens, 2), starts and ends (tokens,) in characters of
    the text, -1 for tokens that are not of it. longest: tokens of an answer at most. with_null: whether no answer takes
    a share of the probability."""
    scores: list[Array] = []
    places: list[Array] = []
    null = np.inf
    for outputs, starts, ends in windows:
        null = min(null, float(outputs[0].sum()))
        inside = np.flatnonzero(starts >= 0)
        if not len(inside):
            continue
        first = inside[np.argsort(-outputs[inside, 0], kind="stable")[:_CANDIDATES]]
        last = inside[np.argsort(-outputs[inside, 1], kind="stable")[:_CANDIDATES]]
        fits = (last[None, :] >= first[:, None]) & (last[None, :] < first[:, None] + longest)
        one, other = np.nonzero(fits)
        scores.append(outputs[first[one], 0] + outputs[last[other], 1])
        places.append(np.stack([starts[first[one]], ends[last[other]]], axis=1))
    if not scores or not sum(map(len, scores)):
        return Found(0, 0, -np.inf, null, 0.0, 1.0)
    every, where = np.concatenate(scores), np.concatenate(places)
    best = int(every.argmax())
    rivals = np.sort(every)[-_CANDIDATES:]
    top = max(float(every[best]), null) if with_null else float(every[best])
    powers, no_answer = np.exp(rivals - top), float(np.exp(null - top)) if with_null else 0.0
    whole = float(powers.sum()) + no_answer
    share = float(powers[-1]) / whole
    return Found(int(where[best, 0]), int(where[best, 1]), float(every[best]), null, share, no_answer / whole)


def best_threshold(margins: Array, with_answer: Array, without: Array) -> float:
    """By how much no answer must score above the best answer to be preferred, for the best mean score.

    margins: (rows,), no answer's score minus the best answer's; infinite where a row has no candidate, which gives none
    whatever is chosen. with_answer, without: (rows,), what a row scores if the answer is given, and if none is. Rows
    above the threshold give none. Finite; 0 where no row has a candidate.
    """
    chosen = np.isfinite(margins)
    if not chosen.any():
        return 0.0
    margins, with_answer, without = margins[chosen], with_answer[chosen], without[chosen]
    order = np.argsort(margins, kind="stable")
    gained = np.concatenate([[0.0], np.cumsum((with_answer - without)[order])])
    ends = np.concatenate([[True], np.diff(margins[order]) > 0, [True]])
    place = int(np.flatnonzero(ends)[gained[ends].argmax()])
    sorted_ = margins[order]
    low = sorted_[place - 1] if place else sorted_[0] - 2.0
    high = sorted_[place] if place < len(sorted_) else sorted_[-1] + 2.0
    return float((low + high) / 2)


def tokens_of(span: tuple[int, int] | None, starts: Sequence[int], ends: Sequence[int]) -> tuple[int, int]:
    """First and last token of a window that hold the span; 0 and 0, the first special token, where it is not in it."""
    inside = [place for place, start in enumerate(starts) if start >= 0]
    if span is None or not inside or starts[inside[0]] > span[0] or ends[inside[-1]] < span[1]:
        return 0, 0
    first = max(place for place in inside if starts[place] <= span[0])
    return first, min(place for place in inside if ends[place] >= span[1])
