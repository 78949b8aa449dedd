"""One trial: what it is to train, what it says on the way, what is known of it in the end."""

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from hpo.records.failure import Failure
from hpo.space import Scalar

BASELINE = "default"
"""Origin of the default configuration. It is never stopped early: what tuning buys is measured against it."""

AGAIN = "again:"
"""Begins the origin of a trial that trains the assignment of another one once more, whose weights are gone."""


class TrialState(StrEnum):
    """Where a trial is. PRUNED: stopped by the scheduler. FAILED: diverged or broken. Neither is ever best."""

    WAITING = "waiting"
    RUNNING = "running"
    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"

    @property
    def is_finished(self) -> bool:
        return self in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED)


class Verdict(StrEnum):
    """What the scheduler says to a report."""

    CONTINUE = "continue"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Exploit:
    """The scheduler's third answer: go on from the weights of trial `source`, as they were at the same level, with
    `params` in place of the trial's own values of the same names."""

    source: int
    params: Mapping[str, Scalar]


@dataclass(frozen=True, slots=True)
class Seeds:
    """Separate seeds, so that the head's initial weights and the order of the rows vary one by one."""

    init: int
    order: int


@dataclass(frozen=True, slots=True)
class TrialConfig:
    """One assignment to train. `params` holds fixed and sampled values, without those that are inactive.

    number: the handle under which the runner reports. rungs: fractions (0, 1] of this trial's own optimiser steps at
    which it evaluates, besides every epoch's end. keep_above: a trial whose best value is worse can no longer be among
    the study's best; it writes no checkpoint. replicate, of: the retraining number `replicate` (from 1) of trial `of`
    over fresh seeds; 0 and None for a trial of the search. schedule: (progress, values) at which other values come into
    force; progress 0 is before the first step. population: the folder through which trials of a population hand their
    states to each other; None: this one is alone. micro_batch, adapt_micro_batch: the most rows that it may take at a
    time, in its own task and in the stage before, where a whole batch does not fit into memory; what it learns from
    one batch stays the same: recipes that let rows meet (`COUPLES_ROWS`) are left their whole batches.
    """

    number: int
    params: Mapping[str, Scalar]
    seeds: Seeds
    rungs: tuple[float, ...] = (1.0,)
    keep_above: float | None = None
    replicate: int = 0
    of: int | None = None
    schedule: tuple[tuple[float, Mapping[str, Scalar]], ...] = ()
    population: Path | None = None
    micro_batch: int | None = None
    adapt_micro_batch: int | None = None

    @property
    def trial(self) -> int:
        """The number of the trial that is trained, for the first time or again."""
        return self.number if self.of is None else self.of

    @property
    def first_params(self) -> dict[str, Scalar]:
        """What is in force before the first step."""
        return dict(self.params) | {
            name: value for progress, values in self.schedule if progress <= 0.0 for name, value in values.items()
        }

    @property
    def name(self) -> str:
        """Of its checkpoint's folder."""
        return name_of(self.trial, self.replicate)


@dataclass(frozen=True, slots=True)
class Report:
    """What a trial says at one evaluation.

    step: optimiser steps done. progress: step / all steps of this trial. metrics: validation metrics under their
    plain names (accuracy), and what goes with them (loss, train_loss, learning_rate, epoch, seconds, ...).
    done: the last report of the trial; its `checkpoint` is the folder of the best weights, if they were written.
    notes: what else there is to say of the trial, each worth a line.
    """

    step: int
    progress: float
    metrics: Mapping[str, float]
    done: bool = False
    checkpoint: Path | None = None
    notes: tuple[str, ...] = ()


class Objective(Protocol):
    """What a runner runs: a generator of reports. Whoever pulls may stop pulling; `close()` then cleans up."""

    def __call__(self, config: TrialConfig) -> Generator[Report, None, None]: ...


def name_of(trial: int, replicate: int = 0) -> str:
    """Of all that a trial, or its retraining over a fresh seed, has on disk."""
    return f"trial-{trial:04d}" + (f"-seed-{replicate}" if replicate else "")


class Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


def is_owed(origin: str) -> bool:
    """As `TrialRecord.is_owed`, of a trial that is still queued."""
    return origin == BASELINE or origin.startswith(AGAIN)


class Exploited(Record):
    """A trial went on from the weights of trial `source`, as they were at the same level of the scheduler.

    progress: of the trial's own training, where it did. params: the values in force from there on. schedule: (level,
    values) of all that its weights went through, from level 0 and with those of `source`, to `params` at the end.
    """

    level: float
    progress: float
    source: int
    params: dict[str, Scalar]
    schedule: tuple[tuple[float, dict[str, Scalar]], ...]


class Answered(Record):
    """How far a trial was told to go on. progress: of its own training. steps: optimiser steps of all of it."""

    progress: float
    steps: int


class TrialRecord(Record):
    """A trial as the ledger knows it.

    origin: who proposed it (`default`, `bert-paper-grid`, `first`, or the sampler's name).
    curve: the searched metric by progress, the part (0, 1] of the trial's own training. value: the best of it, in the
    metric's own direction; None unless COMPLETE.
    metrics: all metrics of the best step, and the trial's totals. reason: why it was pruned or failed.
    replicate: 0 for a trial of the search; n for its nth retraining over fresh seeds, under the trial's number.
    exploits: from whom it went on, in order; `params` stay those that it began with. dropped: the space was changed
    and has no room for it: history, without a value, neither evidence nor winner. answered: up to where the scheduler
    has let it go on, at its rungs; None below the first. setbacks: failures after which it was trained again.
    micro_batch, adapt_micro_batch: as in TrialConfig, once that was found out.
    """

    number: int
    state: TrialState
    origin: str
    params: dict[str, Scalar]
    value: float | None = None
    curve: dict[float, float] = Field(default_factory=dict)
    metrics: dict[str, float] = Field(default_factory=dict)
    seeds: Seeds
    checkpoint: Path | None = None
    seconds: float | None = None
    reason: str | None = None
    replicate: int = 0
    exploits: tuple[Exploited, ...] = ()
    dropped: bool = False
    answered: Answered | None = None
    setbacks: tuple[Failure, ...] = ()
    micro_batch: int | None = None
    adapt_micro_batch: int | None = None

    @property
    def name(self) -> str:
        """As `TrialConfig.name`."""
        return name_of(self.number, self.replicate)

    @property
    def is_owed(self) -> bool:
        """Whether a study trains it whatever the budget is, never stops it early, and keeps its weights: what all
        others are compared with, and what stands for a winner that has lost its own."""
        return is_owed(self.origin)

    @property
    def total_steps(self) -> int | None:
        """Optimiser steps of all its training, as far as is known: to a step or so, of very many."""
        if self.answered:
            return self.answered.steps
        steps = self.metrics.get("steps")
        return round(steps / max(self.curve)) if steps and self.curve else None

    @property
    def schedule(self) -> tuple[tuple[float, dict[str, Scalar]], ...]:
        """What `TrialConfig.schedule` has to be to train its best weights again; () where no value ever changed."""
        steps = self.metrics.get("steps")
        best = self.metrics["best_step"] / steps if steps and self.state is TrialState.COMPLETE else 1.0
        before = [one for one in self.exploits if one.progress < best - 2e-6]  # the ledger counts in millionths
        return before[-1].schedule if before else ()

    @property
    def final_params(self) -> dict[str, Scalar]:
        """Those that its best weights were trained with at last."""
        return self.params | (self.schedule[-1][1] if self.schedule else {})


class Confirmed(Record):
    """A leader, retrained over fresh seeds. first: its value in the search, which it was chosen for. values: those of
    the fresh seeds. mean, low, high: of them, with the interval of `confidence` (None: one seed, or all are alike).
    among: how many could win by their means; `confidence` holds for the intervals of all of them at once.
    is_out: the race was ended early for it, as a clear loser or because a seed failed. failed: how many did. gain: of
    the mean over the default configuration on the same seeds, above zero where it is better, with its interval.
    """

    number: int
    origin: str
    first: float
    values: tuple[float, ...]
    mean: float
    low: float | None = None
    high: float | None = None
    confidence: float = 0.95
    among: int = 1
    is_out: bool = False
    failed: int = 0
    gain: float | None = None
    gain_low: float | None = None
    gain_high: float | None = None

    @property
    def is_alike(self) -> bool:
        """Whether all of several seeds gave the same value, which makes no interval."""
        return len(self.values) > 1 and (self.low is None or self.low == self.high)

    def optimism(self, mode: Literal["min", "max"]) -> float:
        """By how much the first score was better than the mean over fresh seeds."""
        return self.first - self.mean if mode == "max" else self.mean - self.first

    def figures(self, mode: Literal["min", "max"]) -> dict[str, float]:
        """What is known of it, under the names that trackers show."""
        found = {
            "confirmed_mean": self.mean,
            "confirmed_low": self.low,
            "confirmed_high": self.high,
            "confirmed_gain": self.gain,
            "confirmed_gain_low": self.gain_low,
            "confirmed_gain_high": self.gain_high,
            "optimism": self.optimism(mode),
        }
        return {name: value for name, value in found.items() if value is not None}
