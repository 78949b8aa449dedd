"""How a trial can fail, by class: the class decides whether it is trained again."""

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict


class FailureKind(StrEnum):
    """PREEMPTED: its machine was taken away or died. LOST: its process died. SILENT: nothing came from it for too long.
    OUT_OF_MEMORY: of a device or a machine. DIVERGED: a loss or a metric is not finite. UNFIT: a sampled value does not
    act in this model. BAD_DATA: its rows or weights can't be used. BUG: whatever nobody expected."""

    PREEMPTED = "preempted"
    LOST = "lost"
    SILENT = "silent"
    OUT_OF_MEMORY = "out of memory"
    DIVERGED = "diverged"
    UNFIT = "unfit"
    BAD_DATA = "bad data"
    BUG = "bug"


class Failure(BaseModel):
    """What ended one try of a trial. reason: in words, a traceback where it is a bug. stage: in which one memory was
    short, that of the trial's own task or the one before it; None: nobody knows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: FailureKind
    reason: str
    stage: Literal["task", "adapt"] | None = None
