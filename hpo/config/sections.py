"""Sections of a space file that stand for themselves: what a study may use, and what it keeps."""

from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    PlainSerializer,
    field_validator,
    model_validator,
)


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BudgetConfig(Section):
    """What the study may use, whichever ends first. hours: wall time. epochs: of training, all trials together.

    target: a value of the metric that is good enough; the search ends with the first complete trial that reaches it.
    """

    trials: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    hours: Annotated[float, Field(gt=0.0)] | None = None
    epochs: Annotated[float, Field(gt=0.0)] | None = None
    target: Annotated[float, Field(allow_inf_nan=False)] | None = None

    @model_validator(mode="after")
    def _is_limited(self) -> Self:
        if self.trials is None and self.hours is None and self.epochs is None:
            raise ValueError("no limit is given; write trials, hours or epochs")
        return self


AUTO = "auto"


def _open(value: Any) -> Any:
    return None if value == AUTO else value


def _written(value: float | None) -> float | str:
    return AUTO if value is None else value


class ResourcesConfig(Section):
    """What one trial gets. gpus: one, or a share of one; None (`auto`) takes what is there, as many trials to a GPU as
    its memory bears. max_concurrent_trials: fewer than would fit.

    silent_minutes: a trial from which nothing came for so long, not even the sign of a finished step, is ended; None
    takes half an hour, or longer where the study's trials have been silent for longer and went on.
    """

    cpus: Annotated[int, Field(ge=1, le=4096)] = 1
    gpus: Annotated[float | None, Field(ge=0.0), BeforeValidator(_open), PlainSerializer(_written)] = None
    max_concurrent_trials: Annotated[int, Field(ge=1)] | None = None
    silent_minutes: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] | None = None

    @field_validator("gpus")
    @classmethod
    def _is_one_device_at_most(cls, gpus: float | None) -> float | None:
        if gpus is not None and gpus > 1:
            raise ValueError(f"{gpus:g} GPUs, but a trial trains on one device; write 1, or a share such as 0.5")
        return gpus

    @property
    def at_hand(self) -> float:
        """The part of a GPU for what runs alone, beside no trial: all of one, unless GPUs are not wanted."""
        return 1.0 if self.gpus is None else self.gpus


class ConfirmConfig(Section):
    """The leaders are retrained over fresh seeds before one of them is named the winner, beside the budget.

    top: how many of the complete trials, fewer where there are fewer; the default configuration always comes with them.
    seeds: runs of each; one gives a mean without an interval, and from three on clear losers stop early. confidence:
    of all intervals together, and of not losing the best one early.
    """

    top: Annotated[int, Field(ge=1, le=100)] = 3
    seeds: Annotated[int, Field(ge=1, le=100)] = 3
    confidence: Annotated[float, Field(ge=0.5, lt=1.0)] = 0.95


class CheckpointsConfig(Section):
    """keep: how many of the study's best stay on disk. max_bytes: what all of them may take (2GB, 500MB, a number).

    every_minutes: how often a running trial writes down where it is (four times the model's size), so that one that is
    cut off repeats no more than that; shorter ones write nothing. null: never.
    """

    keep: Annotated[int, Field(ge=1, le=1000)] = 2
    max_bytes: Annotated[ByteSize, Field(ge=1_000_000)] = ByteSize(4_000_000_000)
    every_minutes: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] | None = 5.0
