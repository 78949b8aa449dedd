"""Readers of local files: tsv, csv, jsonl, parquet, conll. They return the needed columns, with no row added or lost.

Every fault is a DataError that names the file, the line where it can be known, the rule and the remedy.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from hpo.data.config import Files
from hpo.data.source import SPLITS, RawSplit, Source, SplitName, check_columns
from hpo.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

Reader: TypeAlias = Callable[[Path, Sequence[str], str], RawSplit]


def read_files(files: Files, *, base: Path, columns: Sequence[str]) -> Source:
    """The splits that `files` names. Relative paths start at `base`."""
    given: dict[SplitName, Path] = {}
    for name in SPLITS:
        path: Path | None = getattr(files, name)
        if path is not None:
            given[name] = path
    splits = {name: read_file(base / path, columns, where=str(path)) for name, path in given.items()}
    home = (base / files.train).resolve().parent.name
    return Source(home or files.train.stem, splits, {name: f"file {path}" for name, path in given.items()})


def read_file(path: Path, columns: Sequence[str], *, where: str | None = None) -> RawSplit:
    """One file by its suffix. where: what messages call it, by default its path."""
    where = where or str(path)
    try:
        if not path.exists():
            raise DataError(f"{where}: there is no such file (looked at {path.resolve()}); correct data.files")
        if not path.is_file():
            raise DataError(f"{where}: this is not a file; name one file, not a folder (data.files)")
        return READERS[path.suffix](path, columns, where)
    except OSError as error:
        raise DataError(f"{where}: not readable ({error.strerror or error}); check its rights and its disk") from error


def _text(path: Path, where: str) -> str:
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{where}: byte {error.start} (line {line}) is {data[error.start]:#04x}, which is not UTF-8; "
            "convert the file, for example with iconv -f latin1 -t utf-8"
        ) from error
    if not text.strip("\r\n"):
        raise DataError(f"{where}: the file is empty; it needs a header line and rows, or one JSON object a line")
    return text


def _read_tsv(path: Path, columns: Sequence[str], where: str) -> RawSplit:
    """One header line; no quoting, no escaping, no missing values: what is between two tabs is the text."""
    import pyarrow as pa

    lines = _text(path, where).removesuffix("\n").split("\n")
    header, *rows = [line.removesuffix("\r").split("\t") for line in lines]
    check_columns(header, columns, where)
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise DataError(
                f"{where}, line {number}: {len(row)} columns where the header has {len(header)}; "
                "a tsv has no quoting: replace tabs and line breaks inside of texts, or use jsonl"
            )
    places = {name: header.index(name) for name in columns}
    table = pa.table(
        {name: pa.array([row[place] for row in rows], pa.large_string()) for name, place in places.items()}
    )
    return RawSplit(table, where, lambda row: f"line {row + 2}")


def _read_csv(path: Path, columns: Sequence[str], where: str) -> RawSplit:
    """RFC 4180: `"` quotes, doubled inside of quotes; line breaks may stand in quotes. All columns are text."""
    import pyarrow as pa
    from pyarrow import csv

    data = _text(path, where).encode()
    bad: list[tuple[int | None, int, int]] = []

    def remember(row: Any) -> str:
        bad.append((row.number, row.actual_columns, row.expected_columns))
        return "skip"

    # One block and one thread: a row of any length fits, and a bad row knows its number.
    reading = csv.ReadOptions(use_threads=False, block_size=len(data) + 1)
    parsing = csv.ParseOptions(newlines_in_values=True, invalid_row_handler=remember)
    try:
        header = csv.read_csv(pa.BufferReader(data), read_options=reading, parse_options=parsing).column_names
        check_columns(header, columns, where)
        bad.clear()
        conversion = csv.ConvertOptions(
            column_types=dict.fromkeys(columns, pa.large_string()),
            include_columns=list(columns),
            strings_can_be_null=False,
        )
        table = csv.read_csv(
            pa.BufferReader(data), read_options=reading, parse_options=parsing, convert_options=conversion
        )
    except pa.ArrowInvalid as error:
        raise DataError(f"{where}: not a csv with a header line ({error}); correct it, or use jsonl") from error
    if bad:
        number, actual, expected = bad[0]
        raise DataError(
            f"{where}, row {(number or 2) - 1}: {actual} columns where the header has {expected}; "
            'a text with a comma, a quote or a line break stands in "quotes", which must be closed'
        )
    return RawSplit(table, where)


def _read_jsonl(path: Path, columns: Sequence[str], where: str) -> RawSplit:
    """One JSON object a line. A key that a row lacks reads as null."""
    import pyarrow as pa

    lines = _text(path, where).removesuffix("\n").split("\n")
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:  # also of a number with more digits than Python takes
            raise DataError(f"{where}, line {number}: not JSON ({error}); write one object a line") from error
        if not isinstance(row, dict):
            raise DataError(f"{where}, line {number}: a JSON {type(row).__name__}; each line must be an object {{...}}")
        rows.append(row)
    check_columns(list(dict.fromkeys(key for row in rows for key in row)), columns, where)
    arrays = {name: _json_column([row.get(name) for row in rows], name, where) for name in columns}
    return RawSplit(pa.table(arrays), where, lambda row: f"line {row + 1}")


def _json_column(values: list[Any], name: str, where: str) -> "pa.Array":
    import pyarrow as pa

    kinds = [float if type(value) is int else type(value) for value in values]
    first = next((kind for kind in kinds if kind is not type(None)), None)
    for number, (kind, value) in enumerate(zip(kinds, values, strict=True), start=1):
        if kind not in (first, type(None)):
            raise DataError(f"{where}, line {number}: {name!r} is {value!r}, and of another type above; use one type")
    try:
        return pa.array(values, pa.large_string() if first is str else None)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeEncodeError) as error:
        raise DataError(
            f"{where}: the column {name!r} cannot be read as one type ({error}); write one type in all rows"
        ) from error


def _read_parquet(path: Path, columns: Sequence[str], where: str) -> RawSplit:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        check_columns(parquet.read_schema(path).names, columns, where)
        table = parquet.read_table(path, columns=list(columns), partitioning=None)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{where}: not a readable parquet file ({error}); write it again") from error
    for place, name in enumerate(table.column_names):
        column = table[name]
        if pa.types.is_dictionary(column.type):  # their order is that of the writer, not of class ids
            table = table.set_column(place, name, column.cast(column.type.value_type))
    return RawSplit(table, where)


def _read_conll(path: Path, columns: Sequence[str], where: str) -> RawSplit:
    """One word a line, what belongs to it behind blanks or a tab, an empty line between sentences. The first column
    asked for holds the words, the second one the last field of each line, which is the tag. -DOCSTART- is left out."""
    import pyarrow as pa

    sentences: list[tuple[int, list[list[str]]]] = []
    is_open = False
    for number, line in enumerate(_text(path, where).split("\n"), start=1):
        fields = line.rstrip("\r").split("\t") if "\t" in line else line.split()
        if not line.strip() or fields[0].startswith("-DOCSTART-"):
            is_open = False
            continue
        if len(fields) < len(columns) or not all((fields[0], fields[-1])):
            raise DataError(f"{where}, line {number}: {line.strip()!r} is not a word and its tag; write `word<TAB>tag`")
        if not is_open:
            sentences.append((number, []))
            is_open = True
        sentences[-1][1].append(fields)
    kind = pa.large_list(pa.large_string())
    places = dict(zip(columns, (0, -1), strict=False))
    table = pa.table(
        {name: pa.array([[own[at] for own in words] for _, words in sentences], kind) for name, at in places.items()}
    )
    return RawSplit(table, where, lambda row: f"line {sentences[row][0]}")


READERS: dict[str, Reader] = {
    ".tsv": _read_tsv,
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
    ".conll": _read_conll,
}
