"""What must be there before the first trial: weights, rows, labels, encoded splits. All of the network happens here."""

import json
import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hpo.config import StudyConfig
from hpo.config.checks import check_model, parameters_for
from hpo.data.cache import EncodedSplits, encode_splits
from hpo.data.config import DataConfig
from hpo.data.loading import Splits, load, without_texts
from hpo.encoded import Encoded
from hpo.errors import ConfigError, DataError, MissingColumnError, Problem
from hpo.objectives import mode_of
from hpo.report.screen import Advance, Screen
from hpo.space import Params
from hpo.study.folder import ADAPTED, MODELS, STAGE_DATA, TEACHER, saved_fact
from hpo.study.steps import check_rungs
from hpo.study.teaching import Taught, teach
from hpo.tasks import Task
from hpo.training import pretrained
from hpo.training.extended import extended
from hpo.training.families import OF_THE_MODEL
from hpo.training.hyperparameters import ADAPT
from hpo.training.pretrained import Pretrained, Tokenizer
from hpo.trial import Start, TrialObjective

if TYPE_CHECKING:
    import pyarrow as pa

CACHE = ".cache"
"""Beside the studies, shared by them. No study has a name that starts with a dot."""


@dataclass(frozen=True)
class Fetched:
    """A model that trials start from, and the rows as its tokenizer encodes them."""

    pretrained: Pretrained
    tokenizer: Tokenizer
    encoded: EncodedSplits


@dataclass(frozen=True)
class Stage:
    """The rows of the stage before the study's own task. encoded: by the name of the model."""

    splits: Splits
    encoded: Mapping[str, EncodedSplits]


@dataclass(frozen=True)
class Prepared:
    """Everything that trials and promotion read. starts: the models by name, that of the default configuration first.
    labels: in id order, () for regression."""

    starts: Mapping[str, Fetched]
    splits: Splits
    labels: tuple[str, ...]
    stage: Stage | None = None
    teacher: Taught | None = None

    @property
    def first(self) -> Fetched:
        return next(iter(self.starts.values()))

    @property
    def pretrained(self) -> Pretrained:
        return self.first.pretrained

    @property
    def tokenizer(self) -> Tokenizer:
        return self.first.tokenizer

    @property
    def encoded(self) -> EncodedSplits:
        return self.first.encoded

    @property
    def folders(self) -> list[Path]:
        return [own.pretrained.folder for own in self.starts.values()]

    def start_of(self, params: Params) -> Fetched:
        """Where a trial with these values starts."""
        return self.starts.get(str(params.get("model")), self.first)

    def objective(
        self, config: StudyConfig, checkpoints: Path, running: Path | None = None, *, gpus: float = 0.0
    ) -> TrialObjective:
        """gpus: what is settled for one trial."""
        minutes = config.checkpoints.every_minutes
        own = TrialObjective(
            model=self.pretrained.folder,
            task=config.task,
            labels=self.labels,
            data=self.encoded.search.resolve(),
            checkpoints=checkpoints.resolve(),
            metric=config.metric,
            mode=config.mode,
            pad_id=self.tokenizer.pad_id,
            name=config.models[0],
            models={
                name: Start(own.pretrained.folder, own.encoded.search.resolve(), own.tokenizer.pad_id)
                for name, own in self.starts.items()
            },
            cpus=config.resources.cpus,
            gpus=gpus,
            running=running.resolve() if running else None,
            bookmark_seconds=None if minutes is None else 60.0 * minutes,
            teacher=self.teacher.file if self.teacher else None,
        )
        if config.stages is None or self.stage is None:
            return own
        task, rows = config.stages.adapt.task, self.stage.encoded
        adaptation = replace(
            own,
            task=task,
            labels=(),
            data=rows[config.models[0]].search.resolve(),
            checkpoints=(checkpoints.parent / ADAPTED).resolve(),
            metric=task.default_metric,
            mode=mode_of(task.default_metric),
            models={name: replace(start, data=rows[name].search.resolve()) for name, start in own.models.items()},
            running=None,
            bookmark_seconds=None,
        )
        return replace(own, adaptation=adaptation)

    @property
    def facts(self) -> Mapping[str, str]:
        """What makes two preparations the same."""
        facts = {"model_sha256": self.pretrained.digest, "data_sha256": self.splits.digest}
        if len(self.starts) > 1:
            facts[MODELS] = json.dumps({name: own.pretrained.digest for name, own in self.starts.items()})
        if self.stage is not None:
            facts[STAGE_DATA] = self.stage.splits.digest
        if self.teacher is not None:
            facts |= {TEACHER: self.teacher.name, "teacher_sha256": self.teacher.digest}
        return facts


def prepare(config: StudyConfig, screen: Screen) -> Prepared:
    """Fetch the model and the data once, and encode every split. Later runs find it all in the cache.

    Raises ModelError, DataError, ServiceError, and ConfigError where the rungs are too fine for so few rows.
    """
    os.environ["TOKENIZERS_PARALLELISM"] = "true"  # here nothing else runs; trials switch it off
    cache = config.storage / CACHE
    weights = {}
    for name in config.models:
        screen.say(f"model     {name}")
        revision = config.model.revision if name == config.model.name else None
        fetched = pretrained.fetch(name, revision=revision, base=config.base)
        check_model(config, fetched.folder, name)
        weights[name] = extended(fetched, config.task.markers, cache / "models")
    task = config.task
    splits = _load(config, config.data, task, "task", cache, screen)
    if config.promotion is not None and splits.test is None:
        raise DataError(
            "promotion: it needs labelled test rows, and there are none; "
            "add data.test: {from: train, rows: 2000}, or remove the section promotion"
        )
    check_rungs(config, len(splits.train))
    labels = task.label_names(splits.train)
    task.check_metric(config.metric, labels)
    starts = {}
    for name, own in weights.items():
        _refuse_inert(config, own.folder, name, task, "", labels)
        tokenizer = pretrained.load_tokenizer(own.folder)
        encoded = _encode(task, splits, labels, tokenizer, cache / "encoded", screen)
        starts[name] = Fetched(own, tokenizer, encoded)
    screen.say(f"data      {' · '.join(f'{own.split} {own.rows:,}' for own in splits.records)} rows")
    notes = [note for own in starts.values() for note in _notes(task, own.encoded)]
    for note in dict.fromkeys((*splits.notes, *notes)):
        screen.say(f"          {note}")
    stage = _stage(config, starts, splits, cache, screen)
    if config.model.teacher is None:
        return Prepared(starts, splits, labels, stage)
    name = saved_fact(config.folder, TEACHER) or config.model.teacher  # who was asked first, whoever is champion now
    screen.say(f"teacher   {name}")
    taught = teach(config, splits.train, splits.digest, labels, cache / "taught", name)
    return Prepared(starts, splits, labels, stage, taught)


def _load(config: StudyConfig, data: DataConfig, task: Task, key: str, cache: Path, screen: Screen) -> Splits:
    """key: of the task in the space file. Where a column is missing, it says which key names it."""
    try:
        return load(data, layout=task.layout, base=config.base, cache=cache / "data", announce=screen.say)
    except MissingColumnError as error:
        naming = (name for name, own in task if own == error.column or (isinstance(own, tuple) and error.column in own))
        of_group = f"{key.removesuffix('task')}data.group" if error.column == data.group else f"{key}.type"
        where = next((f"{key}.{name}" for name in naming), of_group)
        remedy = "" if str(error).endswith("?") else "; name one of them here, or add it to the rows"
        raise ConfigError([Problem(where, f"{error}{remedy}")]) from error


def _stage(
    config: StudyConfig, starts: Mapping[str, Fetched], own: Splits, cache: Path, screen: Screen
) -> Stage | None:
    """The texts that models are adapted to, encoded for each of them; without those on which the study is judged."""
    if config.stages is None:
        return None
    adapt = config.stages.adapt
    try:
        splits = _load(config, adapt.data, adapt.task, "stages.adapt.task", cache, screen)
    except DataError as error:
        said = str(error)
        raise DataError(f"stages.adapt.{said}" if said.startswith("data") else said) from error
    held_out = [table for name, table in own.tables.items() if name != "train"]
    splits, dropped = without_texts(splits, adapt.task.layout, held_out, config.task.layout)
    encoded = {}
    for name, start in starts.items():
        _refuse_inert(config, start.pretrained.folder, name, adapt.task, ADAPT)
        encoded[name] = _encode(adapt.task, splits, (), start.tokenizer, cache / "encoded", screen)
    screen.say(f"adapt     {' · '.join(f'{record.split} {record.rows:,}' for record in splits.records)} rows")
    if dropped:
        screen.say(f"          {dropped:,} texts dropped from train: validation or test rows of the task have them")
    return Stage(splits, encoded)


def _refuse_inert(
    config: StudyConfig, folder: Path, name: str, task: Task, prefix: str, labels: tuple[str, ...] = ()
) -> None:
    """ConfigError where the model itself, not only its kind, lacks what the space has. prefix: of the names there."""
    there = parameters_for(config.space, name)
    asked = {field for field in OF_THE_MODEL if f"{prefix}{field}" in there}
    if not asked:
        return
    from hpo.training.model import Starting

    found = Starting(folder, task.head, task.head_config(labels)).inert(asked)
    if found:
        remedy = f"remove it, or keep it from {name} by a `when`" if len(config.models) > 1 else "remove it"
        raise ConfigError(
            [Problem(f"space.{prefix}{field}", f"{why}; {remedy}") for field, why in sorted(found.items())]
        )


def _encode(
    task: Task, splits: Splits, labels: tuple[str, ...], tokenizer: Tokenizer, cache: Path, screen: Screen
) -> EncodedSplits:
    total = sum(record.rows for record in splits.records)
    with ExitStack() as stack:
        bar: list[Advance] = []

        def advance(rows: int) -> None:
            if not bar:  # shown only where the cache does not have it all
                bar.append(stack.enter_context(screen.progress("tokenising", total)))
            bar[0](rows)

        watched = _Watched(tokenizer, advance)

        def encode(table: "pa.Table") -> Encoded:
            return task.encode(table, labels, watched)

        return encode_splits(
            splits,
            encode,
            cache=cache,
            key=encoded_key(splits.digest, tokenizer, task, labels),
        )


def encoded_key(data_digest: str, tokenizer: Tokenizer, task: Task, labels: tuple[str, ...]) -> dict[str, str]:
    """All that encoded rows follow from."""
    return {
        "data": data_digest,
        "tokenizer": tokenizer.digest,
        "task": task.model_dump_json(),
        "labels": "\n".join(labels),
    }


def _notes(task: Task, encoded: EncodedSplits) -> list[str]:
    """What a person should know of how rows became features, for each split."""
    places = {"train": encoded.train, "validation": encoded.validation, "test": encoded.test}
    return [
        f"{name}: {note}"
        for name, path in places.items()
        if path is not None
        for note in task.notes(Encoded.load(path))
    ]


@dataclass(frozen=True, slots=True)
class _Watched:
    """A tokenizer that says how many rows it has done."""

    inner: Tokenizer
    advance: Advance

    @property
    def mask_id(self) -> int:
        return self.inner.mask_id

    @property
    def size(self) -> int:
        return self.inner.size

    def __call__(self, texts: list[str], pairs: list[str] | None, max_length: int) -> dict[str, list[list[int]]]:
        encoded = self.inner(texts, pairs, max_length)
        self.advance(len(texts))
        return encoded

    def aligned(self, texts: list[str], max_length: int) -> dict[str, list[list[int]]]:
        encoded = self.inner.aligned(texts, max_length)
        self.advance(len(texts))
        return encoded

    def windows(
        self, questions: list[str], texts: list[str], max_length: int, stride: int
    ) -> tuple[dict[str, list[list[int]]], list[int]]:
        encoded = self.inner.windows(questions, texts, max_length, stride)
        self.advance(len(texts))
        return encoded
