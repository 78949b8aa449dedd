"""A finished model answers rows of a table. Must not know the registry, commands, or how the model was found."""

import json
import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from hpo.encoded import Array, Encoded
from hpo.errors import DataError, ModelError
from hpo.records import Piece
from hpo.tasks import Task
from hpo.tasks.contract import Answers, as_asked
from hpo.training.checkpoint import ABOUT

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

    from hpo.training.pretrained import Tokenizer


Advance: TypeAlias = Callable[[int], None]
"""Called with how many more are done."""


@dataclass(frozen=True)
class Model:
    """A folder of weights and tokenizer, and what they are for. gpus: the part of one that it may use. fresh: a seed,
    where nothing was trained yet: the weights are pretrained, and what the task needs on top begins by chance. abreast:
    batches at a time, where it runs on a CPU."""

    folder: Path
    task: Task
    labels: tuple[str, ...]
    gpus: float = 0.0
    fresh: int | None = None
    abreast: int = 1

    @classmethod
    def open(cls, folder: Path) -> "Model":
        """As `task.json` says. Raises ModelError."""
        about = read_about(folder)
        if about is None:
            raise ModelError(f"{folder}: it has no {ABOUT}, which says what it is for; train or register it anew")
        return cls(folder, task_of(about["task"], folder), tuple(about["labels"]))

    def encode(self, table: "pa.Table") -> Encoded:
        return self.task.encode(table, self.labels, self.tokenizer)

    def outputs(self, encoded: Encoded, advance: Advance = lambda features: None) -> Array:
        """As `hpo.tasks.contract` has them; in fp32 whatever the hardware has."""
        from hpo.training import inference

        def collate(some: Encoded, features: Array) -> dict[str, Array]:
            advance(len(features))
            return self.task.collate(some, features, self.tokenizer.pad_id)

        return inference.logits(self._network, encoded, collate, self._where, bf16=False, abreast=self.abreast)

    def answers(
        self,
        table: "pa.Table",
        *,
        all_scores: bool = False,
        at_most: int | None = None,
        advance: Advance = lambda rows: None,
    ) -> dict[str, list[Any]]:
        """Columns of one answer a row. table: the columns `task.asked`. at_most: rows at a time. advance: is told of
        rows as they are answered."""
        answers: Answers = {}
        size = at_most or len(table)
        task = as_asked(self.task)
        for start in range(0, len(table), size):
            encoded = task.encode(table.slice(start, size), self.labels, self.tokenizer)
            told = _in_rows(advance, encoded)
            found = task.predict(self.outputs(encoded, told), encoded, self.labels, all_scores=all_scores)
            for name, values in found.items():
                answers.setdefault(name, []).extend(values)
        return answers

    def reply(self, rows: Iterable[Any]) -> list[dict[str, Any]]:
        """One answer for each row that a server is asked: a mapping by column, or a text where there is one column.

        Raises DataError where a row is not what the task asks for.
        """
        import pyarrow as pa

        from hpo.data.source import RawSplit, check_columns, clean_columns, refuse

        names = [column.name for column in self.task.asked]
        given = [row if isinstance(row, Mapping) else {names[0]: row} for row in rows]
        if len(names) == 1:
            given = [row if names[0] in row else dict(zip(names, row.values(), strict=False)) for row in given]
        check_columns(list(dict.fromkeys(key for row in given for key in row)), names, "inputs")
        split = RawSplit(pa.table({name: _column(name, [row.get(name) for row in given]) for name in names}), "inputs")
        table = clean_columns(split, self.task.asked)
        refuse(split, self.task.layout.asked_fault(table))
        answers = self.answers(table)
        return [dict(zip(answers, values, strict=True)) for values in zip(*answers.values(), strict=True)]

    def explain(self, encoded: Encoded, feature: int, output: int) -> tuple[tuple[Piece, ...], float, float]:
        """The tokens of a feature with what each gave to that output; the output; and what it is without any words.

        Raises ModelError where such a model can't be explained.
        """
        import numpy as np

        from hpo.training.attribution import attribute

        inputs = dict(self.task.collate(encoded, np.array([feature]), self.tokenizer.pad_id))
        inputs.pop("labels", None)
        ids = inputs["input_ids"][0]
        found = attribute(
            self._network,
            inputs,
            output,
            keep=np.isin(ids, self.tokenizer.special_ids),
            pad_id=self.tokenizer.pad_id,
            where=self._where,
        )
        pieces = zip(self.tokenizer.pieces(ids), found.weights, strict=True)
        named = [Piece(text=text, begins=begins, weight=float(weight)) for (text, begins), weight in pieces]
        return tuple(named), found.logit, found.baseline

    def on(self, gpus: float, abreast: int = 1) -> "Model":
        return replace(self, gpus=gpus, abreast=abreast)

    @cached_property
    def tokenizer(self) -> "Tokenizer":
        from hpo.training import pretrained

        return pretrained.load_tokenizer(self.folder)

    @cached_property
    def _where(self) -> "torch.device":
        from hpo.training import device

        return device.pick_device(self.gpus)

    @cached_property
    def _network(self) -> Any:
        from hpo.training import inference

        if self.fresh is not None:
            settings = self.task.head_config(self.labels)
            return inference.untrained(self.folder, self.task.head, settings, self.fresh, self._where)
        return inference.load(self.folder, self.task.head, self._where)


def _column(name: str, values: Sequence[Any]) -> "pa.Array":
    """NaN, as pandas writes a value that is missing, is null. DataError on the first row of another kind."""
    import pyarrow as pa

    values = [None if isinstance(value, float) and math.isnan(value) else value for value in values]

    def is_mixed(rows: int) -> bool:
        try:
            pa.array(values[:rows])
        except (pa.ArrowException, OverflowError):
            return True
        return False

    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError) as error:
        row = bisect_left(range(len(values) + 1), True, key=is_mixed)
        raise DataError(f"inputs, row {row}: {name!r} is of another kind than before ({error}); correct it") from error


def _in_rows(advance: Advance, encoded: Encoded) -> Advance:
    """From features, of which a row may have several."""
    features = rows = 0

    def told(more: int) -> None:
        nonlocal features, rows
        features += more
        so_far = encoded.rows * features // len(encoded)
        advance(so_far - rows)
        rows = so_far

    return told


def read_about(folder: Path) -> dict[str, Any] | None:
    """None where there is none. Raises ModelError where it can't be read."""
    path = folder / ABOUT
    if not path.is_file():
        return None
    try:
        about: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return {"task": dict(about["task"]), "labels": list(about["labels"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path}: it does not describe a model ({error}); bring the file back") from error


def task_of(values: Mapping[str, Any], folder: Path) -> Task:
    """Raises ModelError where this program has no such task."""
    from pydantic import TypeAdapter, ValidationError

    try:
        task: Task = TypeAdapter(Task).validate_python(dict(values))
    except ValidationError as error:
        raise ModelError(
            f"{folder}: its task is not one of this program's ({error.errors()[0]['msg']}); "
            "use the release that trained it"
        ) from error
    return task
