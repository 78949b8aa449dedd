"""Trackers: one-way mirrors of a study, fed with events. Here: where the mirror stands, and what a tracker is.

Must not import mlflow: a space file is checked against `TrackingConfig` before anything heavy is loaded. What a
tracker shows is never read back by the study.
"""

import re
from importlib.util import find_spec
from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from hpo.errors import Problem, ServiceError
from hpo.mlflow_client import default_store, sqlite_file, without_password
from hpo.records import AnyEvent

__all__ = ["ReplayNeededError", "Tracker", "TrackingConfig", "address_problems", "store_problems"]

_REMEDY = "write sqlite:///FILE.db, postgresql+psycopg2://USER:PASSWORD@HOST/DATABASE or http(s)://HOST:PORT"


class TrackingConfig(BaseModel):
    """Where MLflow keeps what it is told. uri: by default MLFLOW_TRACKING_URI, as for every command. experiment: None
    takes the study's name.

    tensorboard: the same curves for TensorBoard, too, in the study's folder.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    uri: str = Field(default_factory=default_store, validate_default=True)
    experiment: str | None = None
    tensorboard: bool = False

    @field_validator("uri")
    @classmethod
    def _is_a_store_that_mlflow_takes(cls, uri: str) -> str:
        if wrong := _wrong_store(uri):
            raise ValueError(f"{wrong} (it is what MLFLOW_TRACKING_URI says)" if uri == default_store() else wrong)
        return uri

    @field_validator("tensorboard")
    @classmethod
    def _can_be_written(cls, tensorboard: bool) -> bool:
        if tensorboard and find_spec("tensorboardX") is None:
            raise ValueError("tensorboardX is not installed; install the extra `tensorboard`, or write false")
        return tensorboard

    @field_validator("experiment")
    @classmethod
    def _is_a_name(cls, experiment: str | None) -> str | None:
        if experiment is not None and not experiment.strip():
            raise ValueError(f"{experiment!r} is not a name; leave it out to take the study's name")
        return experiment


def _wrong_store(uri: str) -> str | None:
    scheme, mark, rest = uri.partition(":")
    shown = repr(without_password(uri))
    if not mark or scheme == "file" or uri.startswith((".", "/")) or re.match(r"^[A-Za-z]:[\\/]", uri):
        return f"{shown} is a folder, and MLflow 3 refuses file stores (./mlruns); {_REMEDY}"
    if scheme == "postgresql":
        return f"{shown} names no driver; write postgresql+psycopg2:{without_password(rest)}"
    if scheme == "sqlite":
        if not re.match(r"^///[^?]+", rest) or rest == "///:memory:":
            return f"{shown} names no database file; write sqlite:///FILE.db"
    elif scheme not in ("postgresql+psycopg2", "http", "https") or not re.match(r"^//[^/]+", rest):
        return f"{shown} is not a store that MLflow can be given here; {_REMEDY}"
    if re.search(r"[?&]\w*password=", uri):
        return f"{shown} holds a password in its query; put it into PGPASSWORD or PGPASSFILE"
    return None


class ReplayNeededError(ServiceError):
    """The store behind a tracker does not know the study although it was told before: tell everything again."""


class Tracker(Protocol):
    """Is told what happened, in order. An event may come twice after a crash; the second time changes nothing.

    `apply` raises ServiceError while the service behind it is away, and is then called again with the same event.
    """

    def apply(self, event: AnyEvent) -> None: ...

    def close(self) -> None: ...


def address_problems(uri: str) -> list[Problem]:
    """Why a command can't be given this as --tracking-uri."""
    try:
        TrackingConfig(uri=uri)
    except ValidationError as error:
        return [Problem("--tracking-uri", str(own["msg"])) for own in error.errors()]
    return []


def store_problems(uri: str) -> list[Problem]:
    """Why the store that a command names by --tracking-uri can't have a model; nothing is opened."""
    problems = address_problems(uri)
    database = sqlite_file(uri)
    if database is not None and not database.is_file():
        problems.append(Problem("--tracking-uri", f"there is no {database}; name the store that has the model"))
    return problems
