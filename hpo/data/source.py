"""What a reader hands over: raw splits, where they came from, and how to name one of their rows to a person.

Owns the checks that every source shares: columns that must be there, each of the kind that the task asks for.
Must not know where the rows were read from.
"""

import difflib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from hpo.columns import Column, Fault, Kind, Layout
from hpo.errors import DataError, MissingColumnError

if TYPE_CHECKING:
    import pyarrow as pa

SplitName: TypeAlias = Literal["train", "validation", "test"]

SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")


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
    """MissingColumnError where a column is not there, DataError where it is there twice."""
    for name in wanted:
        if name not in available:
            near = difflib.get_close_matches(name, available, n=1)
            meant = f"; did you mean {near[0]}?" if near else ""
            there = ", ".join(available) or "none"
            raise MissingColumnError(f"{where}: there is no column {name!r}; there are {there}{meant}", name)
        if list(available).count(name) > 1:
            raise DataError(f"{where}: the column {name!r} is there twice; rename one of them")


def clean(split: RawSplit, layout: Layout) -> "pa.Table":
    """The needed columns: texts as large_string, lists of them as such lists; labels as large_string (or the dictionary
    that they are, whose order is that of the class ids), as finite float64, as lists of large_string, or as spans.

    Errors: DataError names the first row that is not what the task needs.
    """
    cleaned = clean_columns(split, layout.all)
    refuse(split, layout.asked_fault(cleaned) or layout.fault(cleaned))
    return cleaned


def clean_columns(split: RawSplit, columns: Sequence[Column]) -> "pa.Table":
    """These columns alone, each right by itself. Raises DataError."""
    import pyarrow as pa

    if split.table.num_rows == 0:
        raise DataError(f"{split.where}: there are no rows; give at least one below the header")
    return pa.table({column.name: _CLEANERS[column.kind](split, column) for column in columns})


def refuse(split: RawSplit, fault: Fault | None) -> None:
    """DataError where there is a fault, with its place."""
    if fault is not None:
        row, words = fault
        raise DataError(f"{split.where}, {split.place(row)}: {words}")


def refuse_nulls(split: RawSplit, name: str, what: str, remedy: str) -> None:
    """DataError names the first row that has nothing there."""
    column = split.table[name]
    if column.null_count:
        row = column.is_null().to_pylist().index(True)
        raise DataError(f"{split.where}, {split.place(row)}: {name!r} is null, not {what}; {remedy}")


def is_hidden(split: RawSplit, label: str) -> bool:
    """Whether no row has a label: published test splits hold nothing, or -1, in each of them."""
    return all(value is None or value in (-1, "-1") for value in split.table[label].to_pylist())


def _text(split: RawSplit, own: Column) -> "pa.ChunkedArray":
    import pyarrow as pa

    name = own.name
    column = split.table[name]
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        raise DataError(f"{split.where}: the column {name!r} is {column.type}, not text; name a column of texts")
    refuse_nulls(split, name, "a text", "give it one, an empty one if need be, or remove the row")
    return column.cast(pa.large_string())


def _texts(split: RawSplit, own: Column) -> "pa.ChunkedArray":
    import pyarrow as pa

    rows = _lists(split, own.name, "texts")
    for row, values in enumerate(rows):
        if not all(isinstance(value, str) for value in values):
            refuse(split, (row, f"{own.name!r} holds {_odd(values)!r}, which is no text; give texts only"))
    return pa.chunked_array([pa.array(rows, pa.large_list(pa.large_string()))])


def _words(split: RawSplit, own: Column) -> "pa.ChunkedArray":
    import pyarrow as pa

    kind = split.table[own.name].type
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    return _text(split, own) if is_text else _texts(split, own)


def _classes(split: RawSplit, own: Column) -> "pa.ChunkedArray":
    """Names without repeats; a row may have none."""
    import pyarrow as pa

    if own.separator is not None:
        texts = split.table[own.name]
        if pa.types.is_string(texts.type) or pa.types.is_large_string(texts.type):
            refuse_nulls(split, own.name, "labels", "write an empty text where no label applies")
            parts = [[part.strip() for part in text.split(own.separator)] for text in texts.to_pylist()]
            named = [list(dict.fromkeys(filter(None, names))) for names in parts]
            return pa.chunked_array([pa.array(named, pa.large_list(pa.large_string()))])
    rows = _lists(split, own.name, "labels")
    for row, values in enumerate(rows):
        if any(value is None or value == "" or isinstance(value, list | dict) for value in values):
            refuse(split, (row, f"{own.name!r} holds {_odd(values)!r}, which names no label; name it, or leave it out"))
    named = [list(dict.fromkeys(map(_class_name, values))) for values in rows]
    return pa.chunked_array([pa.array(named, pa.large_list(pa.large_string()))])


def _spans(split: RawSplit, own: Column) -> "pa.ChunkedArray":
    """As in SQuAD: {text: [...], answer_start: [...]}, both of one length, which is 0 where there is no answer."""
    import pyarrow as pa

    column = split.table[own.name]
    if not pa.types.is_struct(column.type) or {"text", "answer_start"} - {part.name for part in column.type}:
        raise DataError(
            f"{split.where}: {own.name!r} is {column.type}, not answers; "
            'write {"text": [...], "answer_start": [...]} in each row, as SQuAD does (jsonl or parquet)'
        )
    refuse_nulls(split, own.name, "answers", "give them, with empty lists where there is none, or remove the row")
    rows = [{part: row[part] or [] for part in ("text", "answer_start")} for row in column.to_pylist()]
    for row, values in enumerate(rows):
        texts, starts = values["text"], values["answer_start"]
        if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
            refuse(split, (row, f"{own.name!r} has not one answer_start for each text; give both as lists"))
    kind = pa.struct([("text", pa.large_list(pa.large_string())), ("answer_start", pa.large_list(pa.int64()))])
    try:
        return pa.chunked_array([pa.array(rows, kind)])
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DataError(f"{split.where}: {own.name!r} is not texts and whole numbers ({error}); correct it") from error


def _places(split: RawSplit, own: Column) -> "pa.ChunkedArray":
    import pyarrow as pa

    rows = _lists(split, own.name, "two characters' numbers")
    for row, values in enumerate(rows):
        if len(values) != 2 or not all(isinstance(value, int) for value in values):
            refuse(split, (row, f"{own.name!r} is {values!r}; write the first character and the one behind the last"))
    return pa.chunked_array([pa.array(rows, pa.large_list(pa.int64()))])


def _lists(split: RawSplit, name: str, what: str) -> list[list[Any]]:
    import pyarrow as pa

    column = split.table[name]
    if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
        raise DataError(
            f"{split.where}: the column {name!r} is {column.type}, not a list of {what} in each row; "
            "use jsonl, parquet or (for words and tags) conll"
        )
    refuse_nulls(split, name, f"a list of {what}", "give one, or remove the row")
    rows: list[list[Any]] = column.to_pylist()
    return rows


def _odd(values: Sequence[object]) -> object:
    return next(value for value in values if not (isinstance(value, str) and value))


def _class(split: RawSplit, own: Column) -> "pa.ChunkedArray":
    import pyarrow as pa

    name = own.name
    column = split.table[name]
    refuse_nulls(split, name, "a label", "label the row or remove it")
    if pa.types.is_dictionary(column.type):
        return column
    if pa.types.is_nested(column.type) or pa.types.is_binary(column.type):
        raise DataError(
            f"{split.where}: the label {name!r} is {column.type}; this task wants one class a row; "
            "name another column, or make it text"
        )
    values = [_class_name(value) for value in column.to_pylist()]
    if "" in values:
        raise DataError(f"{split.where}, {split.place(values.index(''))}: the label {name!r} is empty; give it a class")
    return pa.chunked_array([pa.array(values, pa.large_string())])


def _class_name(value: object) -> str:
    """1, 1.0 and "1" are one class; so are true and "true"."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _numbers(split: RawSplit, own: Column) -> "pa.ChunkedArray":
    import pyarrow as pa

    name = own.name
    refuse_nulls(split, name, "a label", "label the row or remove it")
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


_CLEANERS: "Mapping[Kind, Callable[[RawSplit, Column], pa.ChunkedArray]]" = {
    "text": _text,
    "texts": _texts,
    "words": _words,
    "class": _class,
    "number": _numbers,
    "classes": _classes,
    "spans": _spans,
    "places": _places,
}
