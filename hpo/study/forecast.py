"""What a study will come to: its scheduler, played with trials of known length and values drawn at random.

The scheduler is the real one, trials end in the order of their lengths, and the budget ends the play as it would end
the study. Values come in no order and keep their rank from rung to rung: a sampler that learns sends more trials on.
"""

import heapq
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from hpo.records import Verdict
from hpo.schedulers import Scheduler

PLAYS = 100
"""Their mean is within a few percent of what more of them would give."""


@dataclass(frozen=True, slots=True)
class Job:
    """One trial. seconds: from the start to each rung. is_baseline: it is never stopped early."""

    seconds: tuple[float, ...]
    steps: int
    epochs: float
    sentences: float
    is_baseline: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """Of the study: seconds of wall time, epochs of all trials together. None: no such limit."""

    trials: int | None = None
    seconds: float | None = None
    epochs: float | None = None


@dataclass(frozen=True, slots=True)
class Forecast:
    """Means over all plays. reached: trials at each rung. seconds: wall time until the last trial ends."""

    trials: float
    reached: tuple[float, ...]
    seconds: float
    steps: float
    epochs: float
    sentences: float


def forecast(
    jobs: Sequence[Job], rungs: Sequence[float], build: Callable[[], Scheduler], slots: int, limits: Limits
) -> Forecast:
    """jobs: in the order of their start. Where the limits allow for more, the rest is taken to be like these."""
    draw = random.Random(0)
    plays = [_play(jobs, rungs, build(), slots, limits, draw) for _ in range(PLAYS)]
    return Forecast(
        trials=fmean(one.trials for one in plays),
        reached=tuple(fmean(values) for values in zip(*(one.reached for one in plays), strict=True)),
        seconds=fmean(one.seconds for one in plays),
        steps=fmean(one.steps for one in plays),
        epochs=fmean(one.epochs for one in plays),
        sentences=fmean(one.sentences for one in plays),
    )


def _play(
    jobs: Sequence[Job],
    rungs: Sequence[float],
    scheduler: Scheduler,
    slots: int,
    limits: Limits,
    draw: random.Random,
) -> Forecast:
    values = [draw.gauss(0.0, 1.0) for _ in jobs]
    most = min(len(jobs), limits.trials or len(jobs))
    events: list[tuple[float, int, int]] = []  # when, trial, rung
    reached = [0] * len(rungs)
    shares: dict[int, float] = {}
    now = epochs = 0.0

    def start() -> None:
        used_up = now >= (limits.seconds or math.inf) or epochs >= (limits.epochs or math.inf)
        if len(shares) < most and not used_up:
            number = len(shares)
            shares[number] = 0.0
            heapq.heappush(events, (now + jobs[number].seconds[0], number, 0))

    for _ in range(slots):
        start()
    while events:
        now, number, rung = heapq.heappop(events)
        job = jobs[number]
        reached[rung] += 1
        epochs += (rungs[rung] - shares[number]) * job.epochs
        shares[number] = rungs[rung]
        verdict = scheduler.report(number, rungs[rung], values[number])
        if rung + 1 < len(rungs) and (verdict is not Verdict.STOP or job.is_baseline):
            later = now + job.seconds[rung + 1] - job.seconds[rung]
            heapq.heappush(events, (later, number, rung + 1))
        else:
            start()
    scale = _beyond(len(shares) == len(jobs), len(shares), now, epochs, limits)
    return Forecast(
        trials=scale * len(shares),
        reached=tuple(scale * count for count in reached),
        seconds=scale * now,
        steps=scale * sum(share * jobs[number].steps for number, share in shares.items()),
        epochs=scale * epochs,
        sentences=scale * sum(share * jobs[number].sentences for number, share in shares.items()),
    )


def _beyond(ran_out: bool, trials: int, seconds: float, epochs: float, limits: Limits) -> float:
    """How much longer than the play the study is, where the play ran out of jobs."""
    used = ((limits.trials, trials), (limits.seconds, seconds), (limits.epochs, epochs))
    scales = [limit / done for limit, done in used if limit is not None and done > 0]
    return max(1.0, min(scales, default=1.0)) if ran_out else 1.0
