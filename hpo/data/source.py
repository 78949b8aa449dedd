"""What a reader hands over: raw splits, where they came from, and how to name one of their rows to a person.

Owns the checks that every source shares: columns that must be there, texts that are texts, labels that are labels.
Must not know where the rows were read from.
"""

import difflib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from hpo.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

SplitName: TypeAlias = Literal["train", "validation", "test"]
LabelKind: TypeAlias = Literal["class", "number"]

SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Layout:
    """Which columns a task needs. texts: one or two columns of text. label: a class or a number, as `kind` says."""

    texts: tuple[str, ...]
    label: str
    kind: LabelKind

    @property
    def columns(self) -> tuple[str, ...]:
        return (*self.texts, self.label)


@dataclass(frozen=True, slots=True)
class RawSplit:
    """One split as it was read, with the needed columns only. where: what a message calls it. place: row -> words."""

    table: "pa.Table"
    where: str
    place: Callable[[int], str] = field(default=lambda row: f"row {row + 1}")


@dataclass(frozen=True, slots=True)
class Source:
    """A data set as it was read. origins: where each split came from, in words, for the record."""

    name: str
    splits: Mapping[SplitName, RawSplit]
    origins: Mapping[SplitName, str]
    notes: tuple[str, ...] = ()


def check_columns(available: Sequence[str], wanted: Iterable[str], where: str) -> None:
    """DataError where a column is missing or there twice."""
    for name in wanted:
        if name not in available:
            near = difflib.get_close_matches(name, available, n=1)
            meant = f"; did you mean {near[0]}?" if near else ""
            there = ", ".join(available) or "none"
            raise DataError(f"{where}: there is no column {name!r}; there are {there}{meant} (task.text, task.label)")
        if list(available).count(name) > 1:
            raise DataError(f"{where}: the column {name!r} is there twice; rename one of them")


def clean(split: RawSplit, layout: Layout) -> "pa.Table":
    """The needed columns: texts as large_string; labels as large_string (or the dictionary that they are, whose order
    is that of the class ids) or as finite float64.

    Errors: DataError names the first row that is not what the task needs.
    """
    import pyarrow as pa

    if split.table.num_rows == 0:
        raise DataError(f"{split.where}: there are no rows; give at least one below the header")
    columns = {name: _texts(split, name) for name in layout.texts}
    labels = _classes if layout.kind == "class" else _numbers
    return pa.table(columns | {layout.label: labels(split, layout.label)})


def is_hidden(split: RawSplit, label: str) -> bool:
    """Whether no row has a label: published test splits hold nothing, or -1, in each of them."""
    return all(value is None or value in (-1, "-1") for value in split.table[label].to_pylist())


def _texts(split: RawSplit, name: str) -> "pa.ChunkedArray":
    import pyarrow as pa

    column = split.table[name]
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        raise DataError(f"{split.where}: the column {name!r} is {column.type}, not text; name a column of texts")
    _refuse_nulls(split, name, "a text", "give it one, an empty one if need be, or remove the row")
    return column.cast(pa.large_string())


def _classes(split: RawSplit, name: str) -> "pa.ChunkedArray":
    import pyarrow as pa

    column = split.table[name]
    _refuse_nulls(split, name, "a label", "label the row or remove it")
    if pa.types.is_dictionary(column.type):
        return column
    if pa.types.is_nested(column.type) or pa.types.is_binary(column.type):
        raise DataError(f"{split.where}: the label {name!r} is {column.type}; this task wants one class a row")
    values = [_class_name(value) for value in column.to_pylist()]
    if "" in values:
        raise DataError(f"{split.where}, {split.place(values.index(''))}: the label {name!r} is empty; give it a class")
    return pa.chunked_array([pa.array(values, pa.large_string())])


def _class_name(value: object) -> str:
    """1, 1.0 and "1" are one class; so are true and "true"."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _numbers(split: RawSplit, name: str) -> "pa.ChunkedArray":
    import pyarrow as pa

    _refuse_nulls(split, name, "a label", "label the row or remove it")
    numbers: list[float] = []
    for row, value in enumerate(split.table[name].to_pylist()):
        number = _number(value)
        if not math.isfinite(number):
            raise DataError(
                f"{split.where}, {split.place(row)}: the label {value!r} is not a finite number; regression needs "
                "one, or set task.problem_type to single_label_classification"
            )
        numbers.append(number)
    return pa.chunked_array([pa.array(numbers, pa.float64())])


def _number(value: object) -> float:
    """NaN where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return math.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan


def _refuse_nulls(split: RawSplit, name: str, what: str, remedy: str) -> None:
    column = split.table[name]
    if column.null_count:
        row = column.is_null().to_pylist().index(True)
        raise DataError(f"{split.where}, {split.place(row)}: {name!r} is null, not {what}; {remedy}")
