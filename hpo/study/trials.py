"""Trials as both phases of a study handle them: in flight, in the end, in order, and as events."""

import math
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from hpo.ledger import PARTS, part_of
from hpo.objectives import COSTS, NO_LIMITS, Limits
from hpo.records import (
    AGAIN,
    BASELINE,
    AnyEvent,
    Report,
    TrialDropped,
    TrialFinished,
    TrialRecord,
    TrialReported,
    TrialStarted,
    TrialState,
)
from hpo.study.folder import STAGE_DATA
from hpo.study.population import METRICS
from hpo.study.retries import Rows, noted
from hpo.training.hyperparameters import in_effect


@dataclass
class Running:
    """A trial in flight: what it has reported since it was (re)started in this process. rows: what it was started
    with."""

    record: TrialRecord
    curve: dict[float, float]
    best: Report | None = None
    last: Report | None = None
    epochs: float = 0.0
    rows: Rows = field(default_factory=Rows)
    costs: Mapping[str, float] = field(default_factory=dict)

    def hear(self, report: Report, metric: str, mode: Literal["min", "max"]) -> str | None:
        """Take a report in. None; or why the trial has failed by it, which then changes nothing."""
        value = report.metrics.get(metric, math.nan)
        if not math.isfinite(value):  # no ledger, scheduler or sampler makes sense of it
            said = f"its {metric} is {value}" if metric in report.metrics else f"it reported no {metric}"
            return f"{said} at {report.progress:.0%} of training"
        sign = 1.0 if mode == "max" else -1.0
        if self.best is None or sign * value > sign * self.best.metrics[metric]:
            self.best = report
        self.epochs = max(self.epochs, report.metrics.get("epoch", 0.0))
        self.last = report
        self.costs = costs_of(report, self.costs)
        self.curve[part_of(report.progress) / PARTS] = value
        return None

    def ended(self, state: TrialState, metric: str, reason: str | None) -> TrialRecord:
        """Its record from now on."""
        metrics = totals_of(self)
        return self.record.model_copy(
            update={
                "state": state,
                "value": self.best.metrics[metric] if self.best and state is TrialState.COMPLETE else None,
                "curve": dict(sorted(self.curve.items())),
                "metrics": metrics,
                "checkpoint": self.last.checkpoint if self.last else None,
                "seconds": metrics.get("total_seconds"),
                "reason": reason,
            }
        )


MICRO_BATCH = "micro_batch_size"
"""What a trial reports that takes fewer rows at a time than its batches have."""

_PROGRESS = frozenset(
    {"train_seconds", "learning_rate", "sentences_per_second", "epoch", MICRO_BATCH, *COSTS, *METRICS}
)
"""How far training was and what it cost, not how good: no best of it is worth a column."""


def costs_of(report: Report, so_far: Mapping[str, float]) -> dict[str, float]:
    """What a trial has cost up to this report. Of its latencies the shortest, which others disturbed least."""
    found = {name: report.metrics[name] for name in COSTS if name in report.metrics}
    if {"latency"} <= found.keys() & so_far.keys():
        found["latency"] = min(found["latency"], so_far["latency"])
    return {**so_far, **found}


def totals_of(running: Running) -> dict[str, float]:
    """What a trial has in the end: all metrics of its best evaluation, and how long it was."""
    best, last = running.best, running.last
    metrics = {"epochs": running.epochs}
    if best is not None and last is not None:
        metrics |= {f"best_{name}": value for name, value in best.metrics.items() if name not in _PROGRESS}
        metrics |= running.costs
        metrics |= {name: value for name, value in last.metrics.items() if name == MICRO_BATCH}
        metrics |= {
            "best_step": float(best.step),
            "steps": float(last.step),
            "total_seconds": last.metrics.get("seconds", 0.0),
        }
    return metrics


def ranked(
    records: Iterable[TrialRecord], mode: Literal["min", "max"], limits: Limits = NO_LIMITS
) -> list[TrialRecord]:
    """Complete trials, best first; those that break a limit come last; of equals the earlier one."""
    return sorted((record for record in records if record.value is not None), key=rank(mode, limits))


def rank(mode: Literal["min", "max"], limits: Limits = NO_LIMITS) -> Callable[[TrialRecord], tuple[bool, float, int]]:
    """The key by which complete trials are ranked."""
    sign = -1.0 if mode == "max" else 1.0
    return lambda record: (bool(limits.broken_by(record)), sign * (record.value or 0.0), record.number)


def baseline_of(records: Iterable[TrialRecord]) -> TrialRecord | None:
    """The trial that all others are compared with: the newest one of the default configuration that the space has room
    for, since a change of the space may have moved it. None where it did not complete: an older one is another
    configuration."""
    live = [record for record in records if record.origin == BASELINE and not record.dropped]
    newest = max(live, key=lambda record: record.number, default=None)
    return newest if newest is not None and newest.value is not None else None


def has_weights(record: TrialRecord) -> bool:
    """Whether its checkpoint is still there: of few trials it is kept."""
    return record.checkpoint is not None and record.checkpoint.is_dir()


def again_of(record: TrialRecord, records: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Trials that trained its assignment once more, the newest first."""
    own = [other for other in records if other.number > record.number and not other.dropped]
    same = [
        other
        for other in own
        if other.origin == f"{AGAIN}{record.number}" or (other.params == record.final_params and not other.exploits)
    ]
    return sorted(same, key=lambda other: -other.number)


def with_weights(best_first: Sequence[TrialRecord]) -> tuple[TrialRecord, str | None]:
    """The winner, and what there is to say where it is not the best one: that has lost its weights, so that the trial
    that trained its assignment again stands for it, or else the best one that has any. best_first: at least one."""
    best = best_first[0]
    if has_weights(best):
        return best, None
    lost = f"trial {best.number} is the best one, but its weights are gone"
    twin = next(filter(has_weights, again_of(best, best_first)), None)
    if twin is not None:
        return twin, f"{lost}; trial {twin.number}, which trained the same assignment again, stands for it"
    other = next(filter(has_weights, best_first), None)
    if other is not None:
        return other, f"{lost}, and could not be trained again; trial {other.number} is the best one that has any"
    return best, f"{lost}, and so are those of all others: nothing is tested or promoted"


def started_event(record: TrialRecord, tags: Mapping[str, str]) -> TrialStarted:
    """`params` are all that the trial trains with: its own, and the defaults of the others. tags: facts of the study,
    which say whether it has a stage before."""
    seeds = {"hpo.seed_init": str(record.seeds.init), "hpo.seed_order": str(record.seeds.order)}
    return TrialStarted(
        time=time.time(),
        number=record.number,
        replicate=record.replicate,
        origin=record.origin,
        params=in_effect(record.params, staged=f"hpo.{STAGE_DATA}" in tags),
        tags={**tags, **seeds},
    )


def news_of(record: TrialRecord, report: Report, told: set[int]) -> Iterator[AnyEvent]:
    """What a report says that nobody was told. told: steps of which somebody was; this one is among them afterwards."""
    if report.step not in told:
        told.add(report.step)
        yield TrialReported(
            time=time.time(),
            number=record.number,
            replicate=record.replicate,
            step=report.step,
            metrics=dict(report.metrics),
            progress=report.progress,
        )
    for text in report.notes:
        yield noted(record, text)


def dropped_event(record: TrialRecord) -> TrialDropped:
    return TrialDropped(time=time.time(), number=record.number, dropped=record.dropped)


def finished_event(record: TrialRecord) -> TrialFinished:
    """Without the costs: the trial's reports have told them, each at its step."""
    return TrialFinished(
        time=time.time(),
        number=record.number,
        replicate=record.replicate,
        state=record.state,
        metrics={name: value for name, value in record.metrics.items() if name not in COSTS},
        step=int(record.metrics.get("steps", 0)),
        reason=record.reason,
    )


def surplus(best_first: Sequence[TrialRecord], keep: int, keep_bytes: int, gone: set[int]) -> Iterator[Path]:
    """Folders of checkpoints that go beyond `keep` of the best, or beyond what they may take. Those that are owed stay,
    and so does that of the best trial. gone: trials whose folder is known not to be there, so that the disk is asked
    for each of thousands once; more are added."""
    room = keep_bytes
    for place, record in enumerate(best_first):
        if record.checkpoint is None or record.number in gone:
            continue
        if not record.checkpoint.is_dir():
            gone.add(record.number)
            continue
        room -= sum(file.stat().st_size for file in record.checkpoint.iterdir())
        if not record.is_owed and place > 0 and (place >= keep or room < 0):
            yield record.checkpoint


def strangers(checkpoints: Path, records: Iterable[TrialRecord]) -> Iterator[Path]:
    """Folders that no finished trial points to: of trials that a crash cut off, of those that the space has no room for
    any more, and temporary ones."""
    wanted = {record.checkpoint.name for record in records if record.checkpoint and not record.dropped}
    return (folder for folder in checkpoints.glob("*") if folder.name not in wanted and folder.is_dir())


def remove_strangers(checkpoints: Path, records: Iterable[TrialRecord]) -> None:
    for folder in list(strangers(checkpoints, records)):
        shutil.rmtree(folder)
