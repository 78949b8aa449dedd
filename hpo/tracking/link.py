"""The identity under which MLflow knows a study, and the run that it has for it: `mlflow.json` in the study folder.

With the folder goes the identity: a study made anew under an old name gets a page of its own. Must not import mlflow.
"""

import json
import os
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

LINK = "mlflow.json"


@dataclass(frozen=True, slots=True)
class Link:
    """parent_run_id and experiment_id are None before MLflow was reached."""

    id: str
    experiment_id: str | None = None
    parent_run_id: str | None = None

    def save(self, folder: Path) -> None:
        temporary = folder / f".{LINK}.{os.getpid()}"
        with open(temporary, "w", encoding="utf-8") as stream:
            json.dump(asdict(self), stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.rename(folder / LINK)


def read_link(folder: Path) -> Link | None:
    """What MLflow has for the study in `folder`; None before the tracker was first asked."""
    try:
        return Link(**json.loads((folder / LINK).read_text("utf-8")))
    except FileNotFoundError:
        return None


def make_link(folder: Path) -> Link:
    """The same, with an identity made and kept where there is none yet."""
    link = read_link(folder)
    if link is None:
        link = Link(uuid.uuid4().hex)
        link.save(folder)
    return link
