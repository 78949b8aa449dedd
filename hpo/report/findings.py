"""What the trials of a study add up to: gains, survivors, what was spent and spared, failures by kind.

Pure arithmetic on records; the figures and the pages say it. Must not know how anything is drawn.
"""

import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from hpo.records import BASELINE, Confirmed, DatasetRecord, StudyStarted, StudySummary, TrialRecord, TrialState
from hpo.space import Scalar, Varying

GRID = "bert-paper-grid"
"""Origin of the points that the BERT paper searches (Devlin et al. 2019, arXiv:1810.04805, A.3)."""

DRAWS = 200
"""Numbers of draws that the expected best is worked out for, each over all trials."""

Level = Callable[[Mapping[str, Scalar], float], float]
"""What a part of a trial's own training, with these params, is on the scheduler's scale of rungs."""


def own_progress(params: Mapping[str, Scalar], progress: float) -> float:
    """The scale of a scheduler that compares trials by the part of their own training."""
    return progress


@dataclass(frozen=True, slots=True)
class Background:
    """What a report shows besides results. document: the resolved space file. rungs: the scheduler's levels, rising.

    params: model, sampler and what else names the study. tags: versions and digests.
    """

    varying: Mapping[str, Varying]
    document: str = ""
    rungs: tuple[float, ...] = (1.0,)
    level: Level = own_progress
    params: Mapping[str, Scalar] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    datasets: tuple[DatasetRecord, ...] = ()

    @classmethod
    def of(
        cls, beginning: StudyStarted, varying: Mapping[str, Varying], rungs: Sequence[float], level: Level
    ) -> "Background":
        """As the study was announced. rungs, level: of the scheduler."""
        return cls(
            varying,
            beginning.document,
            tuple(rungs),
            level,
            beginning.params,
            beginning.tags,
            beginning.datasets,
        )


@dataclass(frozen=True, slots=True)
class Rung:
    """One level of training: how many trials got there, and how many were stopped there."""

    level: float
    reached: int
    stopped: int


@dataclass(frozen=True, slots=True)
class Spent:
    """Training by trials of one state: epochs over all rows, seconds of the trials' own clocks."""

    state: TrialState
    trials: int
    epochs: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Spared:
    """What the stopped trials would have cost on top, had each run to its own end."""

    epochs: float
    seconds: float
    share: float
    """Of the epochs that all trials together would have taken."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Failed trials that say the same but for the numbers in it."""

    kind: str
    numbers: tuple[int, ...]
    example: str


@dataclass(frozen=True, slots=True)
class Expected:
    """The best of `draws` trials picked at random from those of the study, and the epochs that they take."""

    draws: int
    epochs: float
    mean: float
    deviation: float


@dataclass(frozen=True, slots=True)
class Gain:
    """Of the winner over a rival, both in the metric's own direction. low, high: the difference's interval of
    `confidence`, above zero where the winner is better; None where unknown."""

    winner: float
    rival: float
    low: float | None = None
    high: float | None = None
    confidence: float = 0.95


def of_search(trials: Iterable[TrialRecord]) -> list[TrialRecord]:
    """The trials of the search by number, without the retrainings over fresh seeds."""
    return sorted((trial for trial in trials if not trial.replicate), key=lambda trial: trial.number)


def finite(curve: Mapping[float, float]) -> dict[float, float]:
    return {progress: value for progress, value in sorted(curve.items()) if math.isfinite(value)}


def last_value(trial: TrialRecord) -> float | None:
    """What a trial stands at: its value, or the last finite one of its curve."""
    if trial.value is not None:
        return trial.value if math.isfinite(trial.value) else None
    curve = finite(trial.curve)
    return curve[max(curve)] if curve else None


def evidence(trials: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Those that the present space has room for; what a changed one dropped is history."""
    return [trial for trial in trials if not trial.dropped]


def best_first(summary: StudySummary, trials: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Complete trials, best first, then the stopped ones by the value they had, then those without any."""
    sign = -1 if summary.mode == "max" else 1

    def rank(trial: TrialRecord) -> tuple[bool, float, int]:
        value = last_value(trial)
        return (trial.state is not TrialState.COMPLETE, math.inf if value is None else sign * value, trial.number)

    return sorted(trials, key=rank)


def best_of(summary: StudySummary, trials: Iterable[TrialRecord], origin: str) -> TrialRecord | None:
    """The best complete trial that `origin` proposed."""
    own = [one for one in trials if one.origin == origin and one.state is TrialState.COMPLETE and one.value is not None]
    return next(iter(best_first(summary, own)), None)


def best_so_far(summary: StudySummary, trials: Sequence[TrialRecord]) -> list[tuple[int, float]]:
    """(number, best value of the complete trials up to it), from the first complete one to the last trial."""
    better = max if summary.mode == "max" else min
    complete = [(one.number, one.value) for one in trials if one.state is TrialState.COMPLETE and one.value is not None]
    values = itertools.accumulate((value for _, value in complete), better)
    path = [(number, value) for (number, _), value in zip(complete, values, strict=True)]
    return [*path, (trials[-1].number, path[-1][1])] if path else []


def epochs_of(trial: TrialRecord) -> float:
    """Epochs trained, 0 where nothing says so."""
    return trial.metrics.get("epochs", 0.0)


def progress_of(trial: TrialRecord) -> float:
    """The part (0, 1] of its own training that the trial is known to have done; 0 before its first report."""
    return 1.0 if trial.state is TrialState.COMPLETE else max(trial.curve, default=0.0)


def spending(trials: Iterable[TrialRecord]) -> list[Spent]:
    """By state, in the order of the states; only those that occur."""
    groups: dict[TrialState, list[TrialRecord]] = {}
    for trial in trials:
        groups.setdefault(trial.state, []).append(trial)
    return [
        Spent(state, len(own), sum(map(epochs_of, own)), sum(trial.seconds or 0.0 for trial in own))
        for state in TrialState
        if (own := groups.get(state))
    ]


def spared(trials: Iterable[TrialRecord]) -> Spared:
    """A stopped trial would have gone on at its own pace to its own end."""
    epochs = seconds = spent = 0.0
    for trial in trials:
        spent += epochs_of(trial)
        done = progress_of(trial)
        if trial.state is TrialState.PRUNED and done > 0.0:
            epochs += epochs_of(trial) * (1.0 / done - 1.0)
            seconds += (trial.seconds or 0.0) * (1.0 / done - 1.0)
    return Spared(epochs, seconds, epochs / (epochs + spent) if epochs else 0.0)


def survivors(trials: Iterable[TrialRecord], rungs: Sequence[float], level: Level = own_progress) -> list[Rung]:
    """How many trials reached each rung and how many were stopped there. A trial stopped between two rungs (by a
    budget, or a scheduler without rungs) counts with the one below. The first entry is the start, level 0."""
    levels = [0.0, *sorted(set(rungs))]
    reached, stopped = [0] * len(levels), [0] * len(levels)
    for trial in trials:
        done = progress_of(trial)
        at = level(trial.params, done)
        highest = max(place for place, own in enumerate(levels) if at + 1e-6 >= own)
        if trial.state is TrialState.COMPLETE:
            highest = len(levels) - 1
        for place in range(highest + 1):
            reached[place] += 1
        if trial.state is TrialState.PRUNED:
            stopped[highest] += 1
    return [Rung(*row) for row in zip(levels, reached, stopped, strict=True)]


def failures(trials: Iterable[TrialRecord]) -> list[Failure]:
    """By kind, the commonest first. The last line of a reason is what it says; numbers in it don't matter."""
    kinds: dict[str, list[tuple[int, str]]] = {}
    for trial in trials:
        if trial.state is TrialState.FAILED:
            lines = (trial.reason or "").strip().splitlines()
            reason = lines[-1].strip() if lines else "no reason was given"
            kind = re.sub(r"(?<![A-Za-z_])[-+]?\d+(\.\d+)?(e[-+]?\d+)?", "…", reason)
            kinds.setdefault(kind, []).append((trial.number, reason))
    ordered = sorted(kinds.items(), key=lambda item: (-len(item[1]), item[1][0][0]))
    return [Failure(kind, tuple(number for number, _ in own), own[0][1]) for kind, own in ordered]


def prunings(trials: Iterable[TrialRecord]) -> Counter[str]:
    """Why trials were stopped, without the numbers."""
    reasons = (trial.reason or "stopped early" for trial in trials if trial.state is TrialState.PRUNED)
    return Counter(re.sub(r"(?<![A-Za-z_])[-+]?\d+(\.\d+)?(e[-+]?\d+)?%?", "…", reason) for reason in reasons)


def expected_best(summary: StudySummary, trials: Sequence[TrialRecord]) -> list[Expected]:
    """The expected best validation value by training spent: Dodge et al. 2019, arXiv:1909.03004, eq. 2-4.

    For at most `DRAWS` numbers of draws, close together where there are few of them, since the curve bends there.
    Draws are without replacement, P(best of n <= v_(i)) = C(i, n) / C(B, n), which is unbiased (Tang et al. 2020,
    arXiv:2004.13705); the paper's own draws are with it. A stopped trial counts with its last value and
    with what it took; failed trials add to the mean price of a draw alone.
    """
    sign = 1.0 if summary.mode == "max" else -1.0
    values = sorted(sign * value for trial in trials if (value := last_value(trial)) is not None)
    if not values:
        return []
    price = sum(map(epochs_of, trials)) / len(values)
    rows = []
    for draws in _numbers(len(values)):
        whole = _log_choose(len(values), draws)
        chances = [
            math.exp(_log_choose(place, draws - 1) - whole) if place >= draws - 1 else 0.0
            for place in range(len(values))
        ]  # that the value at `place` is the best: the other draws lie below it
        mean = sum(chance * value for chance, value in zip(chances, values, strict=True))
        variance = sum(chance * (value - mean) ** 2 for chance, value in zip(chances, values, strict=True))
        rows.append(Expected(draws, draws * price, sign * mean, math.sqrt(variance)))
    return rows


def _numbers(most: int) -> list[int]:
    """From 1 to `most`: all of them, or every one of the first half of DRAWS, then as many even steps."""
    half = DRAWS // 2
    if most <= DRAWS:
        return list(range(1, most + 1))
    return [*range(1, half + 1), *(half + (most - half) * step // half for step in range(1, half + 1))]


def winners_confirmation(summary: StudySummary) -> Confirmed | None:
    return next((one for one in summary.confirmed if one.number == summary.best.number), None)


def gain_on_test(summary: StudySummary) -> Gain | None:
    """Over the default, on rows that nothing was chosen by."""
    best = (summary.test_best or {}).get(summary.metric)
    rival = (summary.test_baseline or {}).get(summary.metric)
    if best is None or rival is None:
        return None
    difference = summary.test_gain
    if difference is None:
        return Gain(best, rival)
    return Gain(best, rival, difference.low, difference.high, difference.confidence)


def gain_over_seeds(summary: StudySummary) -> Gain | None:
    """Over the default, both by their means over the same fresh seeds."""
    own = winners_confirmation(summary)
    rival = summary.confirmed_baseline
    if own is None or rival is None or own.number == rival.number:
        return None
    return Gain(own.mean, rival.mean, low=own.gain_low, high=own.gain_high, confidence=own.confidence)


def gain_over(summary: StudySummary, rival: TrialRecord | None) -> Gain | None:
    """Over another trial, by the values that the winner was chosen for: too good by luck."""
    if rival is None or rival.value is None or summary.best.value is None or rival.number == summary.best.number:
        return None
    return Gain(summary.best.value, rival.value)


def _log_choose(all_of: int, some: int) -> float:
    return math.lgamma(all_of + 1) - math.lgamma(some + 1) - math.lgamma(all_of - some + 1)


def chosen(summary: StudySummary) -> list[Confirmed]:
    """The confirmed leaders, without the default, which comes with them in any case."""
    return [own for own in summary.confirmed if own.origin != BASELINE]
