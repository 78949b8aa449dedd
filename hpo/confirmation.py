"""Confirmation: the leaders of a search, raced over fresh seeds. Who runs next, who is out, how sure the means are.

Pure: values in, words on them out; the same values give the same race, in whatever order they came. Must not know
who trains, where values are kept, or what is promoted. scipy is imported where it counts.

A first score is the best of many, and so too good by luck; the mean over seeds that nobody has chosen by is not. The
winner's mean is the best of a few such, and so a little too good again: intervals are wide enough to hold for all
candidates that could win at once. All get the same seeds: what a seed does to all of them (the head's initial weights,
the order of the rows: Dodge et al., arXiv:2002.06305) cancels out of every difference.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal, TypeAlias

from hpo.records import Confirmed

Scores: TypeAlias = Mapping[int, Mapping[int, float | None]]
"""By candidate, by replicate (from 1): the value of a finished run; None of one that failed."""

Mode: TypeAlias = Literal["min", "max"]

Run: TypeAlias = tuple[int, int]
"""Candidate and replicate."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """first: its value in the search. is_reference: the default configuration, which is never out: the gain of all
    others is measured against it. is_barred: it can't win, whatever its mean (a limit that it does not keep)."""

    number: int
    origin: str
    first: float
    is_reference: bool = False
    is_barred: bool = False


@dataclass(frozen=True, slots=True)
class Interval:
    """Around a mean. low, high: None where there were fewer than two values, or all are the same: they say nothing of
    how far another one may stray."""

    mean: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Race:
    """Every candidate runs replicate 1, 2, ... up to `seeds`, all of them the same one before any runs the next; the
    first two at once, since nothing can be said of one value each. Only the default configuration, which is never out,
    runs ahead where there is room: its values count when the others have come to their round.

    After each round from the second on, a clear loser is out: one-sided t-test of its mean against the leader's, among
    those that can win (a barred one puts nobody out), with
    the variance pooled over those that still race, which has k (m - 1) degrees of freedom for k candidates of m values
    (Student's test after an analysis of variance; racing: Maron & Moore, NIPS 1994). 1 - confidence is divided by the
    rivals that each has and by the rounds that are judged (Bonferroni), so it bounds the chance that the truly best
    one is ever put out. The pooled test takes seeds as independent: where common ones make values go together, it is
    on the careful side. Without any variance nothing is tested and nobody is out.

    A candidate of which a seed fails is out too, and ranks below all that had no failure: what diverges now and then
    is not what one wants to name a winner, however good its lucky runs are.

    `confidence` is that of all intervals together: 1 - confidence is divided by the candidates that can win, for gains
    by those of them that are measured against the default configuration (Bonferroni). So it holds for the winner's,
    though it was chosen by its mean: at 0.95 each, three equals of the default had, where one of them won, a gain
    above zero in 6.9 % of races, not in 2.5 %.
    """

    candidates: Sequence[Candidate]
    seeds: int
    confidence: float
    mode: Mode
    bounds: tuple[float, float] = (-math.inf, math.inf)
    """Of the metric: no interval of a mean reaches beyond."""

    def due(self, scores: Scores) -> list[Run]:
        """Runs that can start, in the order of their importance; those that are under way are among them. Empty when
        the race is over."""
        return self._course(scores).due

    def out(self, scores: Scores) -> set[int]:
        """Who is out, as far as is known."""
        return set(self._course(scores).out)

    def standing(self, scores: Scores) -> tuple[Confirmed, ...]:
        """The candidates with at least one value that counts, best first. Of equal means the default configuration
        is better (nothing had to be tuned), then the earlier trial. The first one of a race that is over has won."""
        course = self._course(scores)
        counted = {one.number: course.counted(one.number, scores) for one in self.candidates}
        reference = next((one.number for one in self.candidates if one.is_reference), None)
        among, measured = len(self._may_win), len(self._may_win - {reference})
        found = []
        for one in self.candidates:
            values = {place: value for place, value in counted[one.number].items() if value is not None}
            if not values:
                continue
            own = interval(list(values.values()), self._confidence_of_one(among))
            gain = None
            if reference is not None and one.number != reference:
                gain = self._gain(counted[one.number], counted[reference], self._confidence_of_one(measured))
            found.append(
                Confirmed(
                    number=one.number,
                    origin=one.origin,
                    first=one.first,
                    values=tuple(values.values()),
                    mean=own.mean,
                    low=None if own.low is None else max(own.low, self.bounds[0]),
                    high=None if own.high is None else min(own.high, self.bounds[1]),
                    confidence=self.confidence,
                    among=among,
                    is_out=one.number in course.out,
                    failed=len(counted[one.number]) - len(values),
                    gain=gain.mean if gain else None,
                    gain_low=gain.low if gain else None,
                    gain_high=gain.high if gain else None,
                )
            )
        return tuple(sorted(found, key=lambda one: self._rank(one, reference)))

    def _rank(self, one: Confirmed, reference: int | None) -> tuple[bool, int, bool, float, bool, int]:
        is_barred = any(own.is_barred for own in self.candidates if own.number == one.number)
        return (is_barred, one.failed, one.is_out, -self._sign * one.mean, one.number != reference, one.number)

    def _gain(
        self, own: Mapping[int, float | None], default: Mapping[int, float | None], confidence: float
    ) -> Interval | None:
        """Over the default, above zero where it is better: by the seeds that both have, pair by pair."""
        pairs = [
            self._sign * (value - other)
            for place, value in own.items()
            if value is not None and (other := default.get(place)) is not None
        ]
        return interval(pairs, confidence) if pairs else None

    def _confidence_of_one(self, intervals: int) -> float:
        return 1.0 - (1.0 - self.confidence) / max(1, intervals)

    @property
    def _may_win(self) -> set[int]:
        """Who can; where all are barred, all."""
        everybody = {one.number for one in self.candidates}
        return {one.number for one in self.candidates if not one.is_barred} or everybody

    @property
    def _sign(self) -> float:
        return 1.0 if self.mode == "max" else -1.0

    def _course(self, scores: Scores) -> "_Course":
        """Go through the rounds as far as the scores reach."""
        racing = list(self.candidates)
        out: dict[int, int] = {}
        for replicate in range(1, self.seeds + 1):
            last = min(2, self.seeds) if replicate == 1 else replicate
            due = [
                (one.number, place)
                for place in range(replicate, last + 1)
                for one in racing
                if place not in scores.get(one.number, {}) and not _has_failed(one, place - 1, scores)
            ]
            if any(place == replicate for _, place in due):
                return _Course(out, [*due, *self._ahead(last, scores)], replicate)
            out |= {one.number: replicate for one in racing if _has_failed(one, replicate, scores)}
            racing = [one for one in racing if one.number not in out]
            if 2 <= replicate < self.seeds:
                rivals = [one for one in racing if one.number in self._may_win]
                behind = losers({one.number: self._values(one, replicate, scores) for one in rivals}, self._error_rate)
                out |= {one.number: replicate for one in racing if one.number in behind and not one.is_reference}
                racing = [one for one in racing if one.number not in out]
        return _Course(out, [], self.seeds)

    def _ahead(self, replicate: int, scores: Scores) -> list[Run]:
        """Runs after `replicate` that are certain to be wanted, whatever the others bring."""
        places = range(replicate + 1, self.seeds + 1)
        sure = [one.number for one in self.candidates if one.is_reference]
        return [(number, place) for place in places for number in sure if place not in scores.get(number, {})]

    def _values(self, one: Candidate, replicate: int, scores: Scores) -> list[float]:
        """So that more is better."""
        found = (scores[one.number].get(place) for place in range(1, replicate + 1))
        return [self._sign * value for value in found if value is not None]

    @property
    def _error_rate(self) -> float:
        """Of one comparison."""
        return (1.0 - self.confidence) / (max(1, len(self._may_win) - 1) * max(1, self.seeds - 2))


@dataclass(frozen=True, slots=True)
class _Course:
    """How far a race is. out: after which round by candidate. reached: the round that is under way or was the last."""

    out: Mapping[int, int]
    due: list[Run]
    reached: int

    def counted(self, number: int, scores: Scores) -> dict[int, float | None]:
        """What counts of a candidate: no run of a round after it was out (an earlier race may have run it)."""
        until = self.out.get(number, max(2, self.reached))
        return {place: value for place, value in sorted(scores.get(number, {}).items()) if place <= until}


def _has_failed(one: Candidate, replicate: int, scores: Scores) -> bool:
    """Whether a run up to `replicate` has; the reference goes on all the same."""
    own = scores.get(one.number, {})
    return not one.is_reference and any(own.get(place, 0.0) is None for place in range(1, replicate + 1))


def losers(values: Mapping[int, Sequence[float]], error_rate: float) -> set[int]:
    """Whose mean lies below the highest one by more than chance explains, at `error_rate` a comparison.

    values: by candidate, more is better. The one with the highest mean is the leader, and never among them.
    """
    from scipy.special import stdtrit

    means = {number: fmean(own) for number, own in values.items() if own}
    freedom = sum(len(own) - 1 for own in values.values() if own)
    if len(means) < 2 or freedom < 1:
        return set()
    squares = sum((value - means[number]) ** 2 for number, own in values.items() for value in own)
    deviation = math.sqrt(squares / freedom)
    if deviation <= 1e-12 * max(abs(mean) for mean in means.values()):
        return set()
    leader = max(means, key=lambda number: means[number])
    limit = float(stdtrit(freedom, 1.0 - error_rate))
    return {
        number
        for number, mean in means.items()
        if means[leader] - mean > limit * deviation * math.sqrt(1 / len(values[leader]) + 1 / len(values[number]))
    }


def interval(values: Sequence[float], confidence: float) -> Interval:
    """Student's two-sided interval of the mean (1908), from the variance of these very values: how much a seed
    matters differs from one configuration to the next. values: at least one."""
    from scipy.special import stdtrit

    mean, freedom = fmean(values), len(values) - 1
    if freedom < 1 or max(values) - min(values) <= 1e-12 * max(map(abs, values)):
        return Interval(mean)
    error = math.sqrt(sum((value - mean) ** 2 for value in values) / freedom / len(values))
    reach = float(stdtrit(freedom, (1.0 + confidence) / 2.0)) * error
    return Interval(mean, mean - reach, mean + reach)
