"""What trackers are fed: one event for everything that happened in a study."""

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from hpo.records.trials import Confirmed, Record, TrialState
from hpo.space import Scalar


class DatasetRecord(Record):
    """One split as it was used. digest: sha256 over its rows, in hexadecimal. source: where it came from, in words."""

    name: str
    split: Literal["train", "validation", "test"]
    rows: int
    digest: str
    source: str
    columns: dict[str, str] = Field(default_factory=dict)


class Event(Record):
    """One thing that happened, with the time in seconds since the epoch. Applying it twice changes nothing."""

    time: float


class StudyStarted(Event):
    """The study runs. Comes again after every resume. `document` is the resolved space file."""

    kind: Literal["study_started"] = "study_started"
    study: str
    metric: str
    mode: Literal["min", "max"]
    document: str
    params: dict[str, Scalar]
    tags: dict[str, str]
    datasets: tuple[DatasetRecord, ...]


class TrialStarted(Event):
    """`replicate`: of the retraining over fresh seeds that this is about; 0 for the trial itself. So in all three."""

    kind: Literal["trial_started"] = "trial_started"
    number: int
    replicate: int = 0
    origin: str
    params: dict[str, Scalar]
    tags: dict[str, str] = Field(default_factory=dict)


class TrialReported(Event):
    """`progress`: step / all steps of this trial, where it is known."""

    kind: Literal["trial_reported"] = "trial_reported"
    number: int
    replicate: int = 0
    step: int
    metrics: dict[str, float]
    progress: float | None = None


class TrialFinished(Event):
    """`metrics` are of the best step (best_accuracy, ...) and the trial's totals."""

    kind: Literal["trial_finished"] = "trial_finished"
    number: int
    replicate: int = 0
    state: TrialState
    metrics: dict[str, float]
    step: int = 0
    reason: str | None = None


class TrialNoted(Event):
    """Something about a trial worth a line: why it is trained again, or from where it goes on. tags: for its run."""

    kind: Literal["trial_noted"] = "trial_noted"
    number: int
    replicate: int = 0
    text: str
    tags: dict[str, str] = Field(default_factory=dict)


class TrialConfirmed(Event):
    """What the fresh seeds say of a leader, once it gets no more of them. Comes again where that changes."""

    kind: Literal["trial_confirmed"] = "trial_confirmed"
    confirmed: Confirmed
    mode: Literal["min", "max"]


class TrialDropped(Event):
    """The space was changed and has no room for this trial any more; where `dropped` is false, it has room again."""

    kind: Literal["trial_dropped"] = "trial_dropped"
    number: int
    dropped: bool = True


class StudyStopped(Event):
    """The driver leaves before the budget is used; trials still running will go on with the next resume."""

    kind: Literal["study_stopped"] = "study_stopped"
    reason: str


class StudyFinished(Event):
    """The budget is used. `files` are reports to show on the study's page."""

    kind: Literal["study_finished"] = "study_finished"
    metrics: dict[str, float]
    tags: dict[str, str]
    files: tuple[Path, ...] = ()


AnyEvent: TypeAlias = Annotated[
    StudyStarted
    | TrialStarted
    | TrialReported
    | TrialFinished
    | TrialNoted
    | TrialConfirmed
    | TrialDropped
    | StudyStopped
    | StudyFinished,
    Field(discriminator="kind"),
]
