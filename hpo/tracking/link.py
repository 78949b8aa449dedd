"""The identity under which MLflow knows a study, and the run that it has for it: `mlflow.json` in the study folder.

With the folder goes the identity: a study made anew under an old name gets a page of its own. Must not import mlflow.
"""

import json
import os
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

from hpo.errors import ServiceError
from hpo.tracking.spool import CURSOR

LINK = "mlflow.json"


@dataclass(frozen=True, slots=True)
class Link:
    """All but `id` is None before MLflow was reached. uri: of the store that has the run, as `kept_store` writes it;
    None where an earlier release wrote the file."""

    id: str
    experiment_id: str | None = None
    parent_run_id: str | None = None
    uri: str | None = None

    def save(self, folder: Path) -> None:
        temporary = folder / f".{LINK}.{os.getpid()}"
        with open(temporary, "w", encoding="utf-8") as stream:
            json.dump(asdict(self), stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.rename(folder / LINK)


def read_link(folder: Path) -> Link | None:
    """What MLflow has for the study in `folder`; None before the tracker was first asked. Raises ServiceError where the
    file can't be read."""
    file = folder / LINK
    try:
        return Link(**json.loads(file.read_text("utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise ServiceError(
            f"storage: {file} can't be read ({type(error).__name__}); remove it and {CURSOR} beside it and go on with "
            "--resume, which shows the study on a new page of MLflow"
        ) from error


def make_link(folder: Path) -> Link:
    """The same, with an identity made and kept where there is none yet."""
    link = read_link(folder)
    if link is None:
        link = Link(uuid.uuid4().hex)
        link.save(folder)
    return link
