"""A run as MLflow shows it, for whoever compares the mirror with what was told. Must not know how it is read."""

from typing import Literal

from pydantic import Field

from hpo.records.trials import Record


class MirroredRun(Record):
    """kind: what this program made it for. study_run: the study's run that it is below, or is itself. number: of its
    trial, -1 for the study. metrics: the latest value by name;
    histories: every (step, value) of those that were asked for."""

    run_id: str
    experiment_id: str
    kind: Literal["study", "trial", "seed"]
    study_run: str = ""
    number: int = -1
    replicate: int = 0
    status: str
    state: str | None = None
    params: dict[str, str] = Field(default_factory=dict)
    metrics: dict[str, float] = Field(default_factory=dict)
    histories: dict[str, tuple[tuple[int, float], ...]] = Field(default_factory=dict)


class Mirrored(Record):
    """All runs of a study, wherever in the store they are. experiment_id: where they should be. experiment: its name.
    study_run: the one that the study is told to; None where it was told to none. is_whole: whether the histories are of
    every metric, and not of the searched one alone."""

    experiment_id: str
    experiment: str
    study_run: str | None = None
    runs: tuple[MirroredRun, ...]
    is_whole: bool = True
