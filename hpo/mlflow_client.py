"""The door to MLflow: opens a client quietly and turns what goes wrong behind it into ServiceError.

Shared by the tracker, the registry and the report, which must not know each other. Imports mlflow only when a client
is opened.
"""

import fcntl
import logging
import os
import re
import shlex
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from hpo.errors import ServiceError

if TYPE_CHECKING:
    from mlflow import MlflowClient

_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # of every run that ends at a server
    # MLflow repeats requests by itself, creating ones too, which makes doubles; whoever calls repeats as a whole.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
_opening = threading.Lock()

VIEW_TAG = "mlflow.sharedViewState."
"""With a key behind it: the tag in which the MLflow UI keeps a view of an experiment's runs."""


def open_client(uri: str) -> "MlflowClient":
    """A client of the store at `uri`, which is made if it is an SQLite file that does not exist.

    Takes 1.6 s for the import, and 2 s more for a new SQLite file. Raises ServiceError.
    """
    with _opening, translated(uri):  # two threads that create one SQLite file at a time get in each other's way
        import mlflow

        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.ERROR)
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # its tracebacks; `translated` says it
        database = sqlite_file(uri)
        if database is None:
            return mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
        database.parent.mkdir(parents=True, exist_ok=True)
        with _alone_in(database.parent):
            client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
            client.search_experiments(max_results=1)  # at the latest now the tables are there
        return client


@contextmanager
def translated(uri: str) -> Iterator[None]:
    """Within it, what MLflow raises about its store, its server or its disk leaves as ServiceError."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)  # before the first import of mlflow, which reads some of it
    import requests
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, requests.RequestException, OSError) as error:
        said = without_password(" ".join(str(error).split())[:600])
        raise ServiceError(f"MLflow at {without_password(uri)}: {said}; {_remedy(uri)}") from error


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep other processes that do the same waiting, where the file system has locks."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def without_password(text: str) -> str:
    """The same with every `//user:password@` shown as `//user:***@`, and every `?password=` as `?password=***`: errors
    are read on screens and in logs.

    A password may hold an `@` or a `/`: what is hidden ends at the last `@` before a space.
    """
    return re.sub(r"([?&]\w*password=)[^&\s'\"]*", r"\1***", re.sub(r"//([^/:@\s]*):\S*@", r"//\1:***@", text))


def view_path(experiment_id: str, parent_run_id: str) -> str:
    """The UI's page that shows a study's trials side by side, in the view that the tracker keeps under this key."""
    return (
        f"#/experiments/{quote(experiment_id)}/runs?viewStateShareKey={quote(parent_run_id)}"
        "&workflowType=machine_learning"
    )


def default_store() -> str:
    """The store of whoever names none: MLFLOW_TRACKING_URI, else a file of this folder; MLflow's own rule, too."""
    return os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"


def store_option(uri: str) -> str:
    """` --tracking-uri URI`, for a command that is printed; empty where it asks that store by itself."""
    return "" if uri == default_store() else f" --tracking-uri {shlex.quote(without_password(uri))}"


def store_variable(uri: str) -> str:
    """`MLFLOW_TRACKING_URI=URI `, the same before one of MLflow's own commands."""
    return "" if uri == default_store() else f"MLFLOW_TRACKING_URI={shlex.quote(without_password(uri))} "


def kept_store(uri: str) -> str:
    """As a file of a study may keep it: without a password, and the same from whatever folder it is read."""
    database = sqlite_file(uri)
    return f"sqlite:///{database}" if database else re.sub(r"//([^/:@\s]*):\S*@", r"//\1@", uri)


def sqlite_file(uri: str) -> Path | None:
    """The database file of an SQLite uri, absolute; None for any other uri."""
    if not uri.startswith("sqlite:///"):
        return None
    return Path(uri.removeprefix("sqlite:///").partition("?")[0]).absolute()


def _remedy(uri: str) -> str:
    if sqlite_file(uri) is not None:
        return "check that the file can be written and that its disk has room"
    return "check that the service is up, that the address is right, and that MLFLOW_TRACKING_USERNAME/_PASSWORD hold"
