"""Trials that failed and are trained again, in both phases of a study.

Owns what a study has learnt of memory: how many rows at a time fit, by what needs it. Must not know what failed, or who
runs trials.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from hpo.failures import Final, judge, shortened
from hpo.records import Failure, FailureKind, TrialNoted, TrialRecord
from hpo.training.hyperparameters import ADAPT, COUPLES_ROWS, Hyperparameters, coupling, of_stage, without_stage

Stage = Literal["task", "adapt"]

_WEIGH = (
    "per_device_train_batch_size",
    "rdrop_alpha",
    "adversarial",
    "averaging",
    "peft",
    "freeze_embeddings",
    "frozen_layers",
    "bf16",
    *COUPLES_ROWS,
)
"""Hyperparameters that take memory, spare it, or need whole batches."""


@dataclass(frozen=True, slots=True)
class Rows:
    """The most at a time in the trial's own task, and in the stage before; None: whole batches."""

    task: int | None = None
    adapt: int | None = None


@dataclass(frozen=True, slots=True)
class Need:
    """What decides how many rows at a time fit. model: its name. stage: each has one max_length in a study. heavy: of
    each hyperparameter that takes memory how much, the more the higher."""

    model: str | None
    stage: Stage
    heavy: tuple[int, ...]

    @classmethod
    def of(cls, record: TrialRecord, stage: Stage) -> "Need":
        own = _trained_with(record, stage)
        heavy = (
            own.rdrop_alpha > 0.0,
            own.adversarial != "none",
            own.averaging != "none",
            own.peft == "none",
            not own.freeze_embeddings,
            -own.frozen_layers,
            {True: 0, None: 1, False: 2}[own.bf16],
        )
        model = record.params.get("model")
        return cls(None if model is None else str(model), stage, tuple(map(int, heavy)))

    def is_at_least(self, other: "Need") -> bool:
        """Whether what is too much for the other one is too much for this one, too."""
        return (self.model, self.stage) == (other.model, other.stage) and all(
            mine >= its for mine, its in zip(self.heavy, other.heavy, strict=True)
        )


@dataclass
class Retries:
    """found: the most rows at a time that are known to fit, since more did not, by what needed the memory."""

    found: dict[Need, int] = field(default_factory=dict)

    @classmethod
    def after(cls, records: Iterable[TrialRecord], known: Mapping[Need, int] | None = None) -> "Retries":
        """With what these trials found out, and what is known already."""
        own = cls(dict(known or {}))
        for record in records:
            if record.micro_batch is not None:
                own._remember(Need.of(record, "task"), record.micro_batch)
            if record.adapt_micro_batch is not None:
                own._remember(Need.of(record, "adapt"), record.adapt_micro_batch)
        return own

    def rows(self, record: TrialRecord) -> Rows:
        """What a trial begins with."""
        return Rows(
            self._begins_with(record, "task", record.micro_batch),
            self._begins_with(record, "adapt", record.adapt_micro_batch),
        )

    def judge(self, record: TrialRecord, failure: Failure, rows: Rows) -> tuple[TrialRecord, TrialNoted] | str:
        """The trial as it goes on, and what there is to say of it; or the reason why it has failed. rows: those that it
        took at a time."""
        stage: Stage = failure.stage or "task"
        own, need, before = _trained_with(record, stage), Need.of(record, stage), getattr(rows, stage)
        batch = own.per_device_train_batch_size
        answer = judge(failure, record.setbacks, batch, before, self.fitting(need), coupling(own))
        if isinstance(answer, Final):
            return answer.reason
        is_short = failure.kind is FailureKind.OUT_OF_MEMORY
        now = {"task": rows.task, "adapt": rows.adapt, stage: answer.micro_batch}
        if is_short and answer.micro_batch is not None:
            self._remember(need, answer.micro_batch)
        if is_short and failure.stage is None:  # nobody knows in which one it was
            now["adapt"] = fewer = max(1, (rows.adapt or batch_of(record, "adapt")) // 2)
            self._remember(Need.of(record, "adapt"), fewer)
        setbacks = (*record.setbacks, shortened(failure))
        again = record.model_copy(
            update={"setbacks": setbacks, "micro_batch": now["task"], "adapt_micro_batch": now["adapt"]}
        )
        tags = {"hpo.setbacks": ", ".join(one.kind for one in setbacks)}
        if answer.micro_batch is not None:
            tags[f"hpo.{ADAPT if stage == 'adapt' else ''}micro_batch_size"] = str(answer.micro_batch)
        return again, TrialNoted(
            time=time.time(), number=record.number, replicate=record.replicate, text=answer.words, tags=tags
        )

    def is_whole(self, record: TrialRecord) -> bool:
        """Whether it needs its batches whole, so that they fit into memory or it can't be trained."""
        return coupling(_trained_with(record, "task")) is not None

    def fitting(self, need: Need) -> int | None:
        """None: nothing that needs no more was ever short of memory."""
        return min((rows for known, rows in self.found.items() if need.is_at_least(known)), default=None)

    def _begins_with(self, record: TrialRecord, stage: Stage, own: int | None) -> int | None:
        if (not self.found and own is None) or coupling(_trained_with(record, stage)) is not None:
            return None
        limits = [limit for limit in (self.fitting(Need.of(record, stage)), own) if limit is not None]
        return min(limits) if limits and min(limits) < batch_of(record, stage) else None

    def _remember(self, need: Need, rows: int) -> None:
        self.found[need] = min(rows, self.found.get(need, rows))


def batch_of(record: TrialRecord, stage: Stage = "task") -> int:
    """Rows of one batch."""
    return _trained_with(record, stage).per_device_train_batch_size


def _trained_with(record: TrialRecord, stage: Stage) -> Hyperparameters:
    """As far as memory is concerned."""
    params = of_stage(record.params) if stage == "adapt" else without_stage(record.params)
    return Hyperparameters.model_validate({name: params[name] for name in _WEIGH if name in params})


def noted(record: TrialRecord, text: str) -> TrialNoted:
    return TrialNoted(time=time.time(), number=record.number, replicate=record.replicate, text=text)
