"""What must be there before the first trial: weights, rows, labels, encoded splits. All of the network happens here."""

import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hpo.config import StudyConfig
from hpo.config.checks import check_model
from hpo.data.cache import EncodedSplits, encode_splits
from hpo.data.loading import Splits, load
from hpo.encoded import Encoded
from hpo.errors import DataError
from hpo.report.screen import Advance, Screen
from hpo.study.steps import check_rungs
from hpo.study.teaching import teach
from hpo.tasks import Task
from hpo.training import pretrained
from hpo.training.pretrained import Pretrained, Tokenizer
from hpo.trial import TrialObjective

if TYPE_CHECKING:
    import pyarrow as pa

CACHE = ".cache"
"""Beside the studies, shared by them. No study has a name that starts with a dot."""


@dataclass(frozen=True)
class Prepared:
    """Everything that trials and promotion read. labels: in id order, () for regression."""

    pretrained: Pretrained
    tokenizer: Tokenizer
    splits: Splits
    labels: tuple[str, ...]
    encoded: EncodedSplits
    teacher: Path | None = None
    teacher_digest: str | None = None

    def objective(self, config: StudyConfig, checkpoints: Path, running: Path | None = None) -> TrialObjective:
        minutes = config.checkpoints.every_minutes
        return TrialObjective(
            model=self.pretrained.folder,
            task=config.task,
            labels=self.labels,
            data=self.encoded.search.resolve(),
            checkpoints=checkpoints.resolve(),
            metric=config.metric,
            mode=config.mode,
            pad_id=self.tokenizer.pad_id,
            cpus=config.resources.cpus,
            gpus=config.resources.gpus,
            running=running.resolve() if running else None,
            bookmark_seconds=None if minutes is None else 60.0 * minutes,
            teacher=self.teacher,
        )

    @property
    def facts(self) -> Mapping[str, str]:
        """What makes two preparations the same."""
        found = {"model_sha256": self.pretrained.digest, "data_sha256": self.splits.digest}
        return found | ({"teacher_sha256": self.teacher_digest} if self.teacher_digest else {})


def prepare(config: StudyConfig, screen: Screen) -> Prepared:
    """Fetch the model and the data once, and encode every split. Later runs find it all in the cache.

    Raises ModelError, DataError, ServiceError, and ConfigError where the rungs are too fine for so few rows.
    """
    os.environ["TOKENIZERS_PARALLELISM"] = "true"  # here nothing else runs; trials switch it off
    cache = config.storage / CACHE
    screen.say(f"model     {config.model.name}")
    weights = pretrained.fetch(config.model.name, revision=config.model.revision, base=config.base)
    check_model(config, weights.folder)
    tokenizer = pretrained.load_tokenizer(weights.folder)
    task = config.task
    splits = load(
        config.data,
        layout=task.layout,
        base=config.base,
        seed=config.seed,
        cache=cache / "data",
        announce=screen.say,
    )
    if config.promotion is not None and splits.test is None:
        raise DataError(
            "promotion: it needs labelled test rows, and there are none; "
            "add data.test: {from: train, rows: 2000}, or remove the section promotion"
        )
    check_rungs(config, len(splits.train))
    labels = task.label_names(splits.train)
    task.check_metric(config.metric, labels)
    encoded = _encode(task, splits, labels, tokenizer, cache / "encoded", screen)
    screen.say(f"data      {' · '.join(f'{own.split} {own.rows:,}' for own in splits.records)} rows")
    for note in (*splits.notes, *_notes(task, encoded)):
        screen.say(f"          {note}")
    if config.model.teacher is None:
        return Prepared(weights, tokenizer, splits, labels, encoded)
    screen.say(f"teacher   {config.model.teacher}")
    taught, digest = teach(config, splits.train, splits.digest, labels, cache / "taught")
    return Prepared(weights, tokenizer, splits, labels, encoded, taught, digest)


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
