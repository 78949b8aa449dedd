"""What a study will come to: its scheduler, played with trials of known length and values drawn at random.

The scheduler is the real one, trials report where real ones do and end in the order of their lengths, and the budget
ends the play as it would end the study. A trial keeps its rank from report to report, longer ones tend to be better,
and a sampler that learns proposes, once it has begun to, what is the best of some random draws.
"""

import heapq
import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from statistics import fmean, pstdev

from hpo.records import Exploit, Verdict
from hpo.schedulers import Scheduler
from hpo.schedulers.base import has_reached
from hpo.space import Params

PLAYS = 100
"""Their mean is within a few percent of what more of them would give."""

ENOUGH = 12_000
"""Trials in all plays together: where a study has many, fewer plays say as much."""


LENGTH = 0.35
"""Correlation of a trial's value with the logarithm of its epochs: 0.47 for SST-2 and 0.23 for RTE, over the 33 random
trials each of benchmarks/curves."""

CANDIDATES = 2
"""Random draws of which the best stands for a proposal of a sampler that has learnt: so quickstart and files_sst2 come
to 11.0 and 31.8 epochs. Simulated with TPE, over a toy and over recorded curves, they come to 10.9 and 32.7."""


@dataclass(frozen=True, slots=True)
class Look:
    """A report. level: on the scheduler's scale. share: of the trial's own training. seconds: since it began."""

    level: float
    share: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Job:
    """One trial. looks: its reports, in order. is_baseline: it is never stopped early."""

    params: Params
    looks: tuple[Look, ...]
    steps: int
    epochs: float
    sentences: float
    is_baseline: bool = False

    @property
    def seconds(self) -> float:
        """To its end."""
        return self.looks[-1].seconds


@dataclass(frozen=True, slots=True)
class Limits:
    """Of the study: seconds of wall time, epochs of all trials together. None: no such limit."""

    trials: int | None = None
    seconds: float | None = None
    epochs: float | None = None


@dataclass(frozen=True, slots=True)
class Proposals:
    """What decides which trials there are. learns_after: so many trials until the sampler learns; None: it never does.
    top: leaders that are trained again."""

    learns_after: int | None = None
    top: int = 1


@dataclass(frozen=True, slots=True)
class Slots:
    """Where trials run. count: at a time. opening: seconds before there are any. start: seconds that each takes to
    begin with its first trial; they begin one after the other."""

    count: int
    opening: float = 0.0
    start: float = 0.0

    def begin(self, slot: int) -> float:
        return self.opening + (slot + 1) * self.start


@dataclass(frozen=True, slots=True)
class Forecast:
    """Means over all plays. reached: trials at each level of the scheduler. ended: those that trained to their end.

    seconds: wall time until the last trial ends. whole_seconds, whole_epochs: what all of the trials that began would
    take to their ends. leader_seconds, leader_epochs: what each of the best that trained to their ends took.
    """

    trials: float
    reached: tuple[float, ...]
    ended: float
    seconds: float
    steps: float
    epochs: float
    sentences: float
    whole_seconds: float
    whole_epochs: float
    leader_seconds: float
    leader_epochs: float


def forecast(
    jobs: Sequence[Job],
    levels: Sequence[float],
    build: Callable[[], Scheduler],
    slots: Slots,
    limits: Limits,
    proposals: Proposals = Proposals(),
) -> Forecast:
    """jobs: in the order of their start. Where the limits allow for more, the rest is taken to be like these.

    levels: those of the scheduler that `build` makes.
    """
    draw = random.Random(0)
    count = max(1, min(PLAYS, ENOUGH // max(1, len(jobs))))
    plays = [_Play(jobs, build(), slots, limits, proposals, draw).result(levels) for _ in range(count)]
    means = {
        own.name: fmean(getattr(one, own.name) for one in plays) for own in fields(Forecast) if own.name != "reached"
    }
    return Forecast(
        **means, reached=tuple(fmean(values) for values in zip(*(one.reached for one in plays), strict=True))
    )


def makespan(seconds: Iterable[float], slots: Slots) -> float:
    """When the last of these trials ends, if none of them is stopped."""
    free = [slots.begin(slot) for slot in range(slots.count)]
    for own in seconds:
        heapq.heapreplace(free, free[0] + own)
    return max(free)


class _Play:
    """One course that the study may take."""

    def __init__(
        self,
        jobs: Sequence[Job],
        scheduler: Scheduler,
        slots: Slots,
        limits: Limits,
        proposals: Proposals,
        draw: random.Random,
    ) -> None:
        self._scheduler, self._slots, self._limits, self._proposals = scheduler, slots, limits, proposals
        self._jobs, self._values = _proposed(jobs, proposals, draw)
        self._most = min(len(jobs), len(jobs) if limits.trials is None else limits.trials)
        self._events: list[tuple[float, int, int]] = []  # when, trial, its look
        self._shares: list[float] = []
        self._highest: list[float] = []
        self._now = self._epochs = 0.0
        for slot in range(slots.count):
            self._start(slots.begin(slot))
        while self._events:
            self._look(*heapq.heappop(self._events))

    def _start(self, when: float) -> None:
        if len(self._shares) < self._most and not self._is_spent(when):
            number = len(self._shares)
            self._shares.append(0.0)
            self._highest.append(0.0)
            self._scheduler.start(number, self._jobs[number].params)
            heapq.heappush(self._events, (when + self._jobs[number].looks[0].seconds, number, 0))

    def _look(self, now: float, number: int, index: int) -> None:
        job, self._now = self._jobs[number], now
        look = job.looks[index]
        self._epochs += (look.share - self._shares[number]) * job.epochs
        self._shares[number], self._highest[number] = look.share, look.level
        answer = self._scheduler.report(number, look.level, self._values[number] + _rise(look.level))
        if isinstance(answer, Exploit):
            self._scheduler.start(number, {**job.params, **answer.params})
        is_stopped = answer is Verdict.STOP or self._is_spent(now)
        if index + 1 < len(job.looks) and (job.is_baseline or not is_stopped):
            later = now + job.looks[index + 1].seconds - look.seconds
            heapq.heappush(self._events, (later, number, index + 1))
        else:
            self._start(now)

    def _is_spent(self, now: float) -> bool:
        limits = self._limits
        return (limits.seconds is not None and now >= limits.seconds) or (
            limits.epochs is not None and self._epochs >= limits.epochs
        )

    def result(self, levels: Sequence[float]) -> Forecast:
        begun = list(zip(self._jobs, self._shares, strict=False))
        ended = [place for place, share in enumerate(self._shares) if share >= 1.0] or range(len(begun))
        best = sorted(ended, key=lambda place: -self._values[place])[: self._proposals.top]
        leaders = [self._jobs[place] for place in best]
        scale = self._beyond()
        opening = self._slots.begin(0)

        def longer(seconds: float) -> float:
            return opening + scale * (seconds - opening)

        return Forecast(
            trials=scale * len(begun),
            reached=tuple(scale * sum(has_reached(own, level) for own in self._highest) for level in levels),
            ended=scale * sum(share >= 1.0 for share in self._shares),
            seconds=longer(self._now),
            steps=scale * sum(share * job.steps for job, share in begun),
            epochs=scale * self._epochs,
            sentences=scale * sum(share * job.sentences for job, share in begun),
            whole_seconds=longer(makespan((job.seconds for job, _ in begun), self._slots)),
            whole_epochs=scale * sum(job.epochs for job, _ in begun),
            leader_seconds=fmean(job.seconds for job in leaders),
            leader_epochs=fmean(job.epochs for job in leaders),
        )

    def _beyond(self) -> float:
        """How much longer than the play the study is, where the play ran out of jobs."""
        limits = self._limits
        used = ((limits.trials, len(self._shares)), (limits.seconds, self._now), (limits.epochs, self._epochs))
        scales = [limit / done for limit, done in used if limit is not None and done > 0]
        return max(1.0, min(scales, default=1.0)) if len(self._shares) == len(self._jobs) else 1.0


def _proposed(jobs: Sequence[Job], proposals: Proposals, draw: random.Random) -> tuple[list[Job], list[float]]:
    """The trials of one play, and what each is worth, in standard deviations between random ones."""
    lengths = [math.log(max(job.epochs, 1e-9)) for job in jobs]
    middle, spread = fmean(lengths), pstdev(lengths) or 1.0

    def worth(place: int) -> float:
        own = (lengths[place] - middle) / spread
        return LENGTH * own + math.sqrt(1.0 - LENGTH**2) * draw.gauss(0.0, 1.0)

    chosen, values = [], []
    for place, job in enumerate(jobs):
        value = worth(place)
        if proposals.learns_after is not None and place >= proposals.learns_after:
            for other in draw.choices(range(len(jobs)), k=CANDIDATES - 1):
                if (another := worth(other)) > value:
                    value, job = another, replace(jobs[other], is_baseline=job.is_baseline)
        chosen.append(job)
        values.append(value)
    return chosen, values


def _rise(level: float) -> float:
    """A learning curve, in standard deviations between trials: about that of MiniLM on 4,000 rows of SST-2."""
    return -2.5 * math.exp(-5.0 * level)
