"""What the teacher of a study answers to its training rows: asked once, for all trials. Must not know trainings."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from hpo.answering import Model
from hpo.config import StudyConfig
from hpo.durable import replacing
from hpo.encoded import Array
from hpo.errors import ModelError
from hpo.tasks import described
from hpo.tasks.long_texts import pooled
from hpo.training.pretrained import sha256

if TYPE_CHECKING:
    import pyarrow as pa

REGISTERED = "models:/"


@dataclass(frozen=True)
class Taught:
    """file: of the logits, (rows, values) float32 in the order of our labels. digest: sha256 of the teacher's weights.
    name: the teacher's own, a version where it is in the registry."""

    file: Path
    digest: str
    name: str


def teach(
    config: StudyConfig, train: "pa.Table", digest: str, labels: Sequence[str], cache: Path, name: str | None = None
) -> Taught:
    """digest: of the data. name: of the teacher, in place of `model.teacher`. Raises ModelError where the teacher is
    not there, or is not of this task."""
    with TemporaryDirectory(prefix="hpo-teacher-") as temporary:
        folder, own = _folder(config, name or config.model.teacher or "", Path(temporary))
        teacher = Model.open(folder).on(config.resources.at_hand)
        weights = sha256(teacher.folder / "model.safetensors")
        order = _order(config, teacher, labels)
        asked = json.dumps([described(teacher.task, teacher.labels), [*labels], config.task.model_dump(mode="json")])
        file = cache / f"{digest[:32]}-{weights[:32]}-{hashlib.sha256(asked.encode()).hexdigest()[:16]}.npy"
        if not file.is_file():
            columns = [column.name for column in config.task.asked]
            theirs = [column.name for column in teacher.task.asked]
            encoded = teacher.encode(train.select(columns).rename_columns(theirs))
            logits = pooled(teacher.outputs(encoded), encoded)
            _write(file, logits if order is None else logits[:, order])
    return Taught(file.resolve(), weights, own)


def _folder(config: StudyConfig, name: str, temporary: Path) -> tuple[Path, str]:
    """Where it is, and the name by which it is found again."""
    if not name.startswith(REGISTERED):
        return (config.base / name).expanduser(), name
    from hpo.registry import Registry

    registry = Registry(config.tracking.uri)
    version = registry.resolve(name)
    return registry.fetch(version, temporary), f"{REGISTERED}{version.name}/{version.number}"


def _order(config: StudyConfig, teacher: Model, labels: Sequence[str]) -> Array | None:
    """Where the teacher has our labels, one after the other."""
    own, task = config.task, teacher.task
    if (task.type, task.learns, len(task.asked)) != (own.type, own.learns, len(own.asked)):
        raise ModelError(
            f"model.teacher: {config.model.teacher} is {task.noun} of {len(task.asked)} columns, and this study is "
            f"{own.noun} of {len(own.asked)}; name a teacher of the same task"
        )
    if sorted(teacher.labels) != sorted(labels):
        raise ModelError(
            f"model.teacher: {config.model.teacher} has the labels {', '.join(teacher.labels)}, and this study has "
            f"{', '.join(labels)}; name a teacher of the same labels"
        )
    return np.array([teacher.labels.index(name) for name in labels]) if labels else None


def _write(file: Path, logits: Array) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as stream:
        np.save(stream, np.ascontiguousarray(logits, np.float32))
