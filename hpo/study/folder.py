"""A study's folder: its saved configuration, and the signals that may end its driver.

<storage>/<study>/  study.json  ledger.db  events.jsonl  checkpoints/  adapted/  population/  running/
                    tensorboard/  report.html  report.md
"""

import errno
import json
import os
import re
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Self

from hpo.config import StudyConfig
from hpo.durable import replacing
from hpo.errors import ConfigError, DataError, Problem, ServiceError, StudyExistsError
from hpo.ledger.past import PastStudy

SAVED = "study.json"

ADAPTED = "adapted"
"""The folder of models that the stage `adapt` made, one for each assignment of it."""

TEACHER = "teacher"
"""The fact that names who teaches: a version, where `model.teacher` is an alias, which may come to mean another."""

STAGE_DATA = "stage_data_sha256"
"""The fact of the rows of the stage before, where there is one."""

MODELS = "models_sha256"
"""The fact that holds a JSON object, where `space.model` lists several: the sha256 of each one's weights."""

_BY_SEED = " (rows that are cut follow data.seed)"

_ABOUT = {
    "model_sha256": "model",
    MODELS: "model",
    STAGE_DATA: "stages.adapt.data",
    TEACHER: "model.teacher",
    "teacher_sha256": "model.teacher",
}
"""The keys of the space file that facts are about, those of `data` left out."""

_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}

LEAVE_WITHIN = 28.0
"""Seconds between the first signal and the end of the process."""

_TEMPORARY = re.compile(r"\..+\.\d+").fullmatch
_MEANING = ("seed", "model", "task", "data", "stages")
"""Sections that decide, beside the metric, what a trial and its value mean. Any other may change from run to run."""


def claim(folder: Path, *, resume: bool) -> None:
    """Make the folder, or make sure that going on in it is meant. Raises StudyExistsError, ServiceError."""
    if (folder / SAVED).exists() and not resume:
        raise StudyExistsError(
            f"study: {folder.name} is there already ({folder}); go on with --resume, or give the new one another name"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ServiceError(f"storage: {folder} can't be made ({error.strerror}); choose another --storage") from error


def temporaries(*folders: Path) -> Iterator[Path]:
    """Files and folders in them that somebody began to write, under `.NAME.PID`, and did not come to rename."""
    return (own for folder in folders if folder.is_dir() for own in sorted(folder.iterdir()) if _TEMPORARY(own.name))


def remove_temporaries(*folders: Path) -> None:
    """Of a driver, or a process of its trials, that was killed. For whoever holds the lock, while no trial runs."""
    for own in list(temporaries(*folders)):
        if own.is_dir():
            shutil.rmtree(own, ignore_errors=True)  # somebody on a node that was cut off may still write
        else:
            own.unlink(missing_ok=True)


def save(folder: Path, config: StudyConfig, facts: Mapping[str, str]) -> None:
    """Remember the resolved configuration, and what was prepared from it."""
    values = json.loads(config.to_json())
    del values["tracking"]  # its URI may hold a password, and a later run may use another one
    with replacing(folder / SAVED) as stream:
        stream.write(json.dumps({"config": values, "facts": dict(facts)}, indent=2).encode())


def check_unchanged(folder: Path, config: StudyConfig) -> None:
    """Refuse to go on under a configuration that gives the study's trials another meaning: ConfigError."""
    saved = _saved(folder)
    if saved is None:
        return
    before, now = saved["config"], json.loads(config.to_json())
    differing = list(zip(_MEANING, _meaning(before), _meaning(now), strict=True))
    searched = before.get("search", {})
    metric = searched.get("metric") or config.task.default_metric
    differing.append(("search.metric", [metric] if isinstance(metric, str) else metric, list(config.objectives)))
    differing.append(("search.mode", searched.get("mode") or config.mode, config.mode))
    problems = [
        Problem(
            section,
            f"it differs from the one this study began with ({_shown(was)}, now {_shown(is_now)}); "
            "restore it, or give the study a new name",
        )
        for section, was, is_now in differing
        if was != is_now
    ]
    if problems:
        raise ConfigError(problems)


def _meaning(values: Mapping[str, Any]) -> list[Any]:
    """Of each of these sections, without the seeds that choose rows: which rows these were is told by their digests."""
    stages = values.get("stages") or {"adapt": {"data": {}}}
    for data in (values["data"], stages["adapt"]["data"]):
        data.pop("seed", None)
    return [values.get(section) for section in _MEANING]


def check_is_its_own(folder: Path, config: StudyConfig, past: PastStudy) -> None:
    """Refuse a database in which another folder's study has this name already: StudyExistsError."""
    if config.ledger and (past.trials or past.running) and not (folder / SAVED).exists():
        raise StudyExistsError(
            f"study: the ledger {config.ledger} has {config.study} already, and {folder} is not its folder; "
            "name the right one with --storage, or give the new study another name"
        )


def check_facts(folder: Path, facts: Mapping[str, str]) -> None:
    """Refuse to go on over other rows or other weights: DataError."""
    saved = _saved(folder)
    for name, value in facts.items():
        if saved is not None and not _agrees(name, before := saved["facts"].get(name), value):
            raise DataError(
                f"{_ABOUT.get(name, 'data')}: {name} is {value[:12]}, but this study began with "
                f"{before[:12] if before else 'none'}; "
                f"restore what it was{_BY_SEED if name == 'data_sha256' else ''}, or give the study a new name"
            )


def saved_fact(folder: Path, name: str) -> str | None:
    """What the study began with; None where it has not begun."""
    saved = _saved(folder)
    found: str | None = saved["facts"].get(name) if saved else None
    return found


def _agrees(name: str, before: str | None, now: str) -> bool:
    """Of the models that are searched, other ones may come and go with the space."""
    if name != MODELS:
        return before == now
    known, own = json.loads(before or "{}"), json.loads(now)
    return all(known[each] == own[each] for each in known.keys() & own.keys())


def _saved(folder: Path) -> dict[str, Any] | None:
    try:
        saved: dict[str, Any] = json.loads((folder / SAVED).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ServiceError(f"storage: {folder / SAVED} can't be read ({error}); restore it from a backup") from error
    return saved


def _shown(value: object) -> str:
    text = "none" if value is None else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """A disk that is full or broken is a service that is not there; what was written before is whole."""
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK:
            raise
        raise ServiceError(
            f"storage: {folder}: {error.strerror}; look at the disk, then go on with --resume"
        ) from error


def leave(number: int) -> None:
    """End the driver in order, with 128 + the signal's number."""
    raise SystemExit(128 + number)


class Deadline:
    """Ends the process should it not have ended by itself in time, whatever it hangs in. The ledger has everything that
    was reported at any moment, so nothing is lost."""

    def __init__(self, seconds: float = LEAVE_WITHIN) -> None:
        self._seconds = seconds
        self._timer: threading.Timer | None = None

    def begin(self, code: int) -> None:
        if self._timer is None:
            self._timer = threading.Timer(self._seconds, os._exit, (code,))
            self._timer.daemon = True
            self._timer.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._timer is not None:
            self._timer.cancel()


@contextmanager
def on_signal(first: Callable[[int], None], deadline: Deadline) -> Iterator[None]:
    """Call `first` on the first SIGINT or SIGTERM, and give the driver until the deadline; leave at once, with 128 +
    its number, on the second."""
    received = 0

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal received
        received += 1
        if received > 1:
            os._exit(128 + number)
        deadline.begin(128 + number)
        first(number)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
