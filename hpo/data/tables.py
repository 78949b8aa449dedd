"""Whole tables: a file with all of its columns in, the same with more columns out.

For predictions, which stand beside whatever a user's rows hold. Must not know models or tasks.
"""

import csv
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from hpo.columns import Column, Fault
from hpo.data.files import READERS, read_file
from hpo.data.source import clean_columns, refuse
from hpo.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

Rows: TypeAlias = Mapping[str, Sequence[Any]]
"""Columns by name, all of one length."""

Write: TypeAlias = Callable[[Path, Rows], None]


def read_rows(
    path: Path, asked: Sequence[Column], names: Sequence[str], fault: "Callable[[pa.Table], Fault | None]"
) -> tuple[Rows, "pa.Table"]:
    """All columns of a file; and, for a task to encode, those that it asks for, checked. Raises DataError.

    names: what the file calls these columns. fault: what is wrong between them, under the names that the task has.
    """
    if path.suffix not in READERS:
        raise DataError(f"{path}: {path.suffix or 'no suffix'} is not read; use one of {', '.join(READERS)}")
    there = list(names[:1])
    if path.suffix != ".conll":
        with suppress(OSError):  # what is wrong with the file is said by its reader
            there = [*_columns(path), *names]
    split = read_file(path, list(dict.fromkeys(there)))
    wanted = [replace(column, name=name) for column, name in zip(asked, names, strict=True)]
    table = clean_columns(split, wanted).rename_columns([column.name for column in asked])
    refuse(split, fault(table))
    return split.table.to_pydict(), table


def check_output(path: Path) -> None:
    """DataError where `write_rows` could not write there."""
    if path.suffix not in WRITERS:
        raise DataError(f"{path}: {path.suffix or 'no suffix'} is not written; use one of {', '.join(WRITERS)}")
    if not path.absolute().parent.is_dir():
        raise DataError(f"{path}: there is no folder {path.absolute().parent}; make it")


def check_rows(path: Path, rows: Rows) -> None:
    """DataError where `write_rows` could not write these columns in that format."""
    if path.suffix == ".tsv":
        for _ in _tsv_lines(rows):
            pass


def write_rows(path: Path, rows: Rows) -> None:
    """By the suffix; temporary name, fsync, rename. Raises DataError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        WRITERS[path.suffix](temporary, rows)
        with open(temporary, "rb") as stream:
            os.fsync(stream.fileno())
        temporary.rename(path)
    except OSError as error:
        raise DataError(f"{path}: not writable ({error.strerror}); name another place") from error
    finally:
        temporary.unlink(missing_ok=True)


def _columns(path: Path) -> list[str]:
    """Names only."""
    if path.suffix == ".parquet":
        return _parquet_columns(path)
    with open(path, encoding="utf-8-sig", errors="replace", newline="") as stream:
        if path.suffix == ".tsv":
            return stream.readline().rstrip("\r\n").split("\t")
        if path.suffix == ".csv":
            return next(csv.reader(stream), [])
        return list(dict.fromkeys(name for line in stream for name in _keys(line)))


def _keys(line: str) -> Iterable[str]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return ()
    return row if isinstance(row, dict) else ()


def _parquet_columns(path: Path) -> list[str]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return list(parquet.read_schema(path).names)
    except pa.ArrowException:
        return []


def _write_tsv(path: Path, rows: Rows) -> None:
    with open(path, "w", encoding="utf-8", newline="") as stream:
        stream.writelines(_tsv_lines(rows))


def _tsv_lines(rows: Rows) -> Iterator[str]:
    for number, row in enumerate(((*rows,), *zip(*rows.values(), strict=True))):
        cells = [_cell(value) for value in row]
        if any(mark in cell for cell in cells for mark in "\t\r\n"):
            where = f"row {number}" if number else "the header"
            raise DataError(
                f"{where} holds a tab or a line break, which a tsv can't; write a csv or a jsonl (--output)"
            )
        yield "\t".join(cells) + "\n"


def _write_csv(path: Path, rows: Rows) -> None:
    with open(path, "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(rows)
        writer.writerows([_cell(value) for value in row] for row in zip(*rows.values(), strict=True))


def _write_jsonl(path: Path, rows: Rows) -> None:
    with open(path, "w", encoding="utf-8") as stream:
        for row in zip(*rows.values(), strict=True):
            values = [None if isinstance(value, float) and not math.isfinite(value) else value for value in row]
            stream.write(json.dumps(dict(zip(rows, values, strict=True)), ensure_ascii=False, default=str) + "\n")


def _write_parquet(path: Path, rows: Rows) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        parquet.write_table(pa.table(dict(rows)), path)
    except pa.ArrowException as error:
        raise DataError(f"parquet can't hold these columns ({error}); write a jsonl (--output)") from error


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


WRITERS: dict[str, Write] = {
    ".tsv": _write_tsv,
    ".csv": _write_csv,
    ".jsonl": _write_jsonl,
    ".parquet": _write_parquet,
}
