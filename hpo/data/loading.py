"""From the `data:` section to the splits of a study: read, check, cut, limit, digest.

The driver calls this once; trials get encoded rows only. Must not know tasks or models.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hpo.columns import Layout
from hpo.data.config import Cut, DataConfig
from hpo.data.files import read_files
from hpo.data.source import RawSplit, Source, SplitName, clean, is_hidden, refuse_nulls
from hpo.data.splits import arrange, compared_texts
from hpo.errors import DataError
from hpo.records import DatasetRecord

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Splits:
    """The rows of a study: the needed columns, in order. Texts are large_string.

    Labels are float64 (regression), large_string, a dictionary whose order is that of the class ids (where the
    Hub says it), or what else `hpo.columns` has. notes: what was dropped or left out, and why. test: None where no
    labelled test rows are there.
    """

    train: "pa.Table"
    validation: "pa.Table"
    test: "pa.Table | None"
    records: tuple[DatasetRecord, ...]
    notes: tuple[str, ...]

    @property
    def tables(self) -> "dict[SplitName, pa.Table]":
        tables: dict[SplitName, pa.Table] = {"train": self.train, "validation": self.validation}
        return tables if self.test is None else tables | {"test": self.test}

    @property
    def digest(self) -> str:
        """Of all splits together, in hexadecimal."""
        return hashlib.sha256("".join(f"{own.split}:{own.digest}" for own in self.records).encode()).hexdigest()


def load(
    config: DataConfig,
    *,
    layout: Layout,
    base: Path,
    cache: Path,
    announce: Callable[[str], None],
) -> Splits:
    """Read the splits that `config` describes. The same rows and `config` give the same splits.

    layout: the columns that are needed. base: where relative paths of `data.files` start. cache: a folder for
    what is slow to make. announce: told of each slow step before it begins.
    Errors: DataError (the rows), ServiceError (the Hub, the disk).
    """
    label = layout.label.name
    source = _read(config, layout, base, cache, announce)
    notes = list(source.notes)
    splits = dict(source.splits)
    cuts: dict[SplitName, Cut | None] = {"test": config.test, "validation": config.validation}
    for name, cut in cuts.items():
        published = splits.pop(name, None) if cut is not None else None
        is_other = config.splits.validation == config.splits.test  # published once, and used for the other one
        if cut is not None and published is not None and not is_other and not is_hidden(published, label):
            notes.append(f"the published {name} split is not used: {name} is cut from {cut.from_}")
    if config.test is None and ("test" not in splits or is_hidden(splits["test"], label)):
        why = "the labels of the test split are hidden" if splits.pop("test", None) else "there is no test split"
        notes.append(f"{why}: nothing is tested; cut one with data.test: {{from: train, rows: 2000}}")
    if config.validation is None and ("validation" not in splits or is_hidden(splits["validation"], label)):
        raise DataError(
            f"data: {source.name} has no labelled validation split, and a search needs one; "
            "cut it with data.validation: {from: train, rows: 1000}"
        )
    tables: dict[SplitName, pa.Table] = {name: _clean(split, layout, config.group) for name, split in splits.items()}

    def first_with(name: str) -> str | None:
        """Where a class first stands outside of the training rows."""
        for own, table in tables.items():
            values = table[label].to_pylist() if own != "train" or layout.allowed else []
            for row, value in enumerate(values):
                if name in layout.names(value):
                    return f"{splits[own].where}, {splits[own].place(row)}"
        return None

    arranged, more = arrange(tables, config, layout, first_with)
    records = _records(arranged, source, config)
    return Splits(arranged["train"], arranged["validation"], arranged.get("test"), records, (*notes, *more))


def without_texts(splits: Splits, layout: Layout, held_out: "Sequence[pa.Table]", theirs: Layout) -> tuple[Splits, int]:
    """The splits without the training rows that have a text of `held_out`, and how many those were. DataError where
    none is left."""
    texts = {text for table in held_out for row in compared_texts(table, theirs) for text in row}
    kept = [row for row, own in enumerate(compared_texts(splits.train, layout)) if not texts & {*own}]
    dropped = len(splits.train) - len(kept)
    if not dropped:
        return splits, 0
    if not kept:
        raise DataError("stages.adapt.data: all of its training texts are in held-out rows of the task; give it others")
    train = splits.train.take(kept)
    records = tuple(
        record.model_copy(update={"rows": len(train), "digest": digest(train)}) if record.split == "train" else record
        for record in splits.records
    )
    return replace(splits, train=train, records=records), dropped


def _clean(split: RawSplit, layout: Layout, group: str | None) -> "pa.Table":
    """With the column of groups as it is, where the task reads no such one."""
    table = clean(split, layout)
    if group is None or group in layout.columns:
        return table
    refuse_nulls(split, group, "a group", "give it one, or remove the row")
    return table.append_column(group, split.table[group])


def _read(config: DataConfig, layout: Layout, base: Path, cache: Path, announce: Callable[[str], None]) -> Source:
    columns = tuple(dict.fromkeys((*layout.columns, *([] if config.group is None else [config.group]))))
    if config.files is not None:
        return read_files(config.files, base=base, columns=columns)
    if config.hub is not None:
        from hpo.data.hub import read_hub

        return read_hub(config, columns=columns, label=layout.label.name, announce=announce)
    from hpo.data.docstrings import read_docstrings

    return read_docstrings(columns=columns, cache=cache, announce=announce)


def _records(tables: Mapping[SplitName, "pa.Table"], source: Source, config: DataConfig) -> tuple[DatasetRecord, ...]:
    records = []
    for name in ("train", "validation", "test"):
        if name not in tables:
            continue
        table, cut = tables[name], {"train": None, "validation": config.validation, "test": config.test}[name]
        origin = source.origins[cut.from_ if cut else name]
        if cut:
            origin += f"; {'about ' if config.group else ''}{cut.rows} rows cut by data.seed {config.seed}"
            origin += f", in whole groups of {config.group}" if config.group else ""
        most: int | None = getattr(config.limit, name)
        if most is not None and most == len(table):
            origin += f"; at most {most} rows by data.seed {config.seed}"
        if name == "train" and config.limit.per_class is not None:
            origin += f"; at most {config.limit.per_class} rows of each class by data.seed {config.seed}"
        columns = {field.name: _type(field) for field in table.schema}
        records.append(
            DatasetRecord(
                name=source.name, split=name, rows=len(table), digest=digest(table), source=origin, columns=columns
            )
        )
    return tuple(records)


def _type(field: "pa.Field") -> str:
    return "double" if str(field.type) == "double" else "string"


def digest(table: "pa.Table") -> str:
    """sha256 over all values in order, row after row, each with its length: equal only for equal rows."""
    content = hashlib.sha256("\t".join(table.column_names).encode())
    for row in zip(*(column.to_pylist() for column in table.columns), strict=True):
        for value in row:
            data = (value if isinstance(value, str) else repr(value)).encode("utf-8", "surrogatepass")
            content.update(len(data).to_bytes(8, "little") + data)
    return content.hexdigest()
