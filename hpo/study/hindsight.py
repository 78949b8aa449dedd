"""How fast the trials of a study are, learnt from those that it has finished. Trains nothing."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hpo.records import TrialRecord
from hpo.study.probe import Pace
from hpo.study.steps import Ladder, TrialLength
from hpo.trial import evaluation_steps

START = 4.0
"""Seconds that a trial's process takes to begin: torch and transformers are imported, weights read."""


@dataclass(frozen=True, slots=True)
class _Work:
    """Of one trial, as far as it came: trials (1), batches, rows trained on, evaluations."""

    amounts: tuple[float, float, float, float]
    seconds: float


def pace_of(records: Sequence[TrialRecord], ladder: Ladder, rows: int, validation: int) -> Pace | None:
    """None where no trial says how long it took. rows, validation: of the two splits.

    seconds = setup + batches x a + rows x b + evaluations x c, with none of them below zero and the relative error the
    least. With few trials fewer of the four are told apart: time is then taken to go with the rows trained on.
    """
    works = [work for record in records if (work := _work(record, ladder, rows)) is not None]
    if not works:
        return None
    setup, per_batch, per_row, per_look = _fit(works)
    sizes = sorted({TrialLength.of(record.params, rows).batch for record in records})
    return Pace(
        steps={size: per_batch + size * per_row for size in {sizes[0], sizes[-1]}},
        evaluation=validation / per_look if per_look else math.inf,
        setup=setup,
        start=START,
        memory=0,
        trials=len(works),
    )


def _work(record: TrialRecord, ladder: Ladder, rows: int) -> _Work | None:
    steps = record.metrics.get("steps", 0.0)
    if not (record.state.is_finished and record.seconds and steps):
        return None
    length = TrialLength.of(record.params, rows)
    looks = sum(step <= steps for step in evaluation_steps(length, ladder.rungs(record.params)))
    batches = steps * length.accumulation
    return _Work((1.0, batches, batches * length.batch, float(looks)), record.seconds)


def _fit(works: Sequence[_Work]) -> tuple[float, ...]:
    """The four coefficients: least squares over those subsets of them that hold the rows, none below zero."""
    seconds = np.array([work.seconds for work in works])
    shares = np.array([work.amounts for work in works]) / seconds[:, None]
    others = (0, 1, 3)
    most = min(len(others), len(works) // 2)
    best, least = np.zeros(4), math.inf
    for chosen in itertools.chain.from_iterable(itertools.combinations(others, count) for count in range(most + 1)):
        columns = [2, *chosen]
        found = np.linalg.lstsq(shares[:, columns], np.ones(len(works)), rcond=None)[0]
        error = float(np.square(shares[:, columns] @ found - 1.0).sum())
        if (found >= 0.0).all() and error < least - 1e-12:
            best, least = np.zeros(4), error
            best[columns] = found
    return tuple(best.tolist())
