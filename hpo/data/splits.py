"""Cutting held-out rows out of other splits, limiting rows, and keeping held-out texts out of the training rows.

All choices follow from `data.seed` alone, and from the rows; those that are chosen stay in their order. Must not know
where rows come from.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from hpo.columns import Layout
from hpo.data.config import Cut, DataConfig
from hpo.data.source import SPLITS, SplitName
from hpo.encoded import Array
from hpo.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

Tables: TypeAlias = "dict[SplitName, pa.Table]"

Compared: TypeAlias = "Callable[[pa.Table], Sequence[Hashable]]"
"""What a held-out row must not share with a training row, row by row."""

FirstWith: TypeAlias = Callable[[str], str | None]

_STREAMS = {
    "cut test": 1,
    "cut validation": 2,
    "limit train": 3,
    "limit validation": 4,
    "limit test": 5,
    "per class": 6,
}
"""A random stream for each choice, so that one of them does not change the others."""


def _unknown(name: str) -> str | None:
    return None


def arrange(
    tables: Mapping[SplitName, "pa.Table"],
    config: DataConfig,
    layout: Layout,
    first_with: FirstWith = _unknown,
) -> tuple[Tables, tuple[str, ...]]:
    """The splits that the study uses, and notes on the rows that were dropped. tables: without those that are cut,
    with the column `data.group` where one is named, which goes.

    first_with: where a class stands first in what was read, for messages. The test is cut first, so that nothing else
    changes which rows it holds; then the validation; then come limits.
    Errors: DataError.
    """
    splits = dict(tables)
    notes: list[str] = []
    cuts: dict[SplitName, Cut | None] = {"test": config.test, "validation": config.validation}
    compared: dict[str, Compared] = {"text": lambda table: compared_texts(table, layout)}
    if config.group is not None:
        compared[repr(config.group)] = partial(_groups, column=config.group)
    for name, cut in cuts.items():
        if cut is None:
            continue
        if cut.from_ not in splits:
            raise DataError(f"data.{name}: there is no {cut.from_} split to cut {cut.rows} rows from; cut from train")
        chosen = _choose(splits[cut.from_], cut.rows, layout, config, f"cut {name}", cut.from_)
        if len(chosen) > cut.rows:
            notes.append(f"{len(chosen)} rows are cut for {name}, not {cut.rows}: no group is smaller")
        splits[name] = splits[cut.from_].take(chosen)
        splits[cut.from_] = splits[cut.from_].take(np.setdiff1d(np.arange(len(splits[cut.from_])), chosen))
        for what, shared in compared.items():
            held_out = set(shared(splits[name]))
            for other in dict.fromkeys(("train", cut.from_)):
                kept = np.array([own not in held_out for own in shared(splits[other])], dtype=bool)
                if dropped := int(len(kept) - kept.sum()):
                    splits[other] = splits[other].take(np.flatnonzero(kept))
                    notes.append(f"{dropped} rows dropped from {other}: their {what} is in the rows cut for {name}")
    for what, shared in compared.items():
        notes += _overlaps({name: shared(table) for name, table in splits.items()}, what)
    splits = {name: table.select(list(layout.columns)) for name, table in splits.items()}
    for split in SPLITS:
        most: int | None = getattr(config.limit, split)
        if split in splits and most is not None and most < len(splits[split]):
            splits[split] = splits[split].take(_choose(splits[split], most, layout, config, f"limit {split}", split))
    if (each := config.limit.per_class) is not None:
        splits["train"] = splits["train"].take(_of_each(splits["train"], each, layout, config.seed))
    check(splits, layout, first_with)
    return splits, tuple(notes)


def check(splits: Mapping[SplitName, "pa.Table"], layout: Layout, first_with: FirstWith = _unknown) -> None:
    """DataError where a split has no rows, or where training rows cannot teach the labels of the others."""
    for name, table in splits.items():
        if not len(table):
            raise DataError(f"data: no rows are left in {name}, and one is the least; give it more, or cut fewer")
    found = {name: _names(table, layout) for name, table in splits.items()}
    known = set(layout.allowed) or set(found["train"])
    if layout.label.kind == "class" and len(known) < 2:
        raise DataError(
            f"data: all {len(splits['train'])} train rows have the label {min(known)!r}; two classes are the least; "
            "add rows of another one, or set task.problem_type: regression"
        )
    for name, names in found.items():
        strange = sorted(set(names) - known)
        if strange:
            where = first_with(strange[0])
            place = f" ({where})" if where else ""
            if layout.allowed:
                raise DataError(
                    f"data: {name} has the label {strange[0]!r}{place}, which task.labels has not; "
                    f"add it there, or remove it from {name}"
                )
            raise DataError(
                f"data: {name} has the label {strange[0]!r}{place}, which no train row has; add such rows to train "
                f"or remove them from {name} (labels in train: {', '.join(sorted(known)[:20])})"
            )


def _choose(table: "pa.Table", rows: int, layout: Layout, config: DataConfig, purpose: str, source: str) -> Array:
    """(rows,) sorted row numbers, by label where a row has one class; of a cut in whole groups, about as many. Errors:
    DataError."""
    what = f"data.{purpose.replace('cut ', '').replace('limit ', 'limit.')}"
    cutting = purpose.startswith("cut")
    if cutting and rows >= len(table):
        raise DataError(f"{what}: {rows} rows cut from {source}, which has {len(table)}; cut fewer, some must be left")
    generator = np.random.default_rng([config.seed, _STREAMS[purpose]])
    if cutting and config.group is not None:
        chosen = _whole_groups(_groups(table, config.group), rows, generator)
        if len(chosen) == len(table):
            raise DataError(
                f"{what}: all {len(table)} rows of {source} have the same {config.group!r}, and a cut takes whole "
                "groups; name another column in data.group"
            )
        return chosen
    if layout.label.kind != "class":
        return _choose_some(table, rows, layout, generator, cutting=cutting)
    names, ids, counts = np.unique(table[layout.label.name].to_pylist(), return_inverse=True, return_counts=True)
    if cutting and counts.min() < 2:
        rare = names[counts.argmin()]
        raise DataError(
            f"{what}: the class {str(rare)!r} has 1 row in {source}, and a cut by class needs 2; "
            "add rows of it, or remove or merge the class"
        )
    if rows < len(names):
        raise DataError(f"{what}: {rows} rows are fewer than the {len(names)} classes; use at least {len(names)}")
    quotas = _quotas(counts, rows, keep=int(cutting))
    parts = [generator.permutation(np.flatnonzero(ids == each))[:quota] for each, quota in enumerate(quotas)]
    together: Array = np.sort(np.concatenate(parts))
    return together


def _of_each(table: "pa.Table", each: int, layout: Layout, seed: int) -> Array:
    """Sorted row numbers, at most `each` of a class. Errors: DataError."""
    if layout.label.kind != "class":
        raise DataError(
            f"data.limit.per_class: the column {layout.label.name!r} is not one class a row; use limit.train"
        )
    generator = np.random.default_rng([seed, _STREAMS["per class"]])
    names, ids = np.unique(table[layout.label.name].to_pylist(), return_inverse=True)
    parts = [generator.permutation(np.flatnonzero(ids == number))[:each] for number in range(len(names))]
    chosen: Array = np.sort(np.concatenate(parts))
    return chosen


def _choose_some(
    table: "pa.Table", rows: int, layout: Layout, generator: np.random.Generator, *, cutting: bool
) -> Array:
    """(rows,) sorted row numbers, at random; but for each class one row stays where it is needed, the rarest first: in
    what a limit takes, or in what a cut leaves."""
    order = generator.permutation(len(table))
    counts = Counter(_names(table, layout))
    named = [layout.names(value) for value in table[layout.label.name].to_pylist()] if counts else []
    wanted = set(counts)
    kept: list[int] = []
    for name in sorted(counts, key=lambda name: (counts[name], name)):
        if name in wanted and len(kept) < (len(table) - rows if cutting else rows):
            kept.append(next(int(row) for row in order if name in named[row]))
            wanted.difference_update(named[kept[-1]])
    others = order[~np.isin(order, kept)]
    chosen: Array = np.sort(others[:rows] if cutting else np.concatenate([np.array(kept, np.int64), others])[:rows])
    return chosen


def _whole_groups(groups: Sequence[Hashable], rows: int, generator: np.random.Generator) -> Array:
    """Sorted numbers of the rows of whole groups, taken at random while they fit into `rows`; where none does, those of
    the smallest."""
    known: dict[Hashable, int] = {}
    ids = np.array([known.setdefault(own, len(known)) for own in groups])
    sizes = np.bincount(ids)
    taken, room = [], rows
    for own in generator.permutation(len(sizes)).tolist():
        if sizes[own] <= room:
            taken.append(own)
            room -= int(sizes[own])
    chosen: Array = np.flatnonzero(np.isin(ids, taken or [sizes.argmin()]))
    return chosen


def _quotas(counts: Array, rows: int, keep: int) -> Array:
    """How many rows of each class: in proportion, at least one, at most all but `keep`; together `rows`.

    Largest remainders first. The bounds give way only where they contradict `rows`.
    """
    exact = counts * (rows / counts.sum())
    quotas: Array = np.clip(np.floor(exact).astype(np.int64), 1, counts - keep)
    while (missing := rows - int(quotas.sum())) != 0:
        step = 1 if missing > 0 else -1
        free = quotas < counts - keep if missing > 0 else quotas > 1
        if not free.any():
            free = quotas < counts if missing > 0 else quotas > 0
        gain = np.where(free, (exact - quotas) * step, -np.inf)
        quotas[np.argsort(-gain, kind="stable")[: min(abs(missing), int(free.sum()))]] += step
    return quotas


def compared_texts(table: "pa.Table", layout: Layout) -> list[tuple[str, ...]]:
    """Texts row by row, as they compare: lower case, single blanks."""
    columns = [[_compared(value) for value in table[own.name].to_pylist()] for own in layout.inputs]
    return list(zip(*columns, strict=True))


def _groups(table: "pa.Table", column: str) -> list[str]:
    """What rows have in that column, as texts compare."""
    return [_compared(str(value)) for value in table[column].to_pylist()]


def _compared(value: str | list[str] | list[int]) -> str:
    return " ".join((value if isinstance(value, str) else " ".join(map(str, value))).lower().split())


def _names(table: "pa.Table", layout: Layout) -> list[str]:
    """The classes of all rows, one after the other."""
    return [name for value in table[layout.label.name].to_pylist() for name in layout.names(value)]


def _overlaps(values: Mapping[SplitName, Sequence[Hashable]], what: str) -> list[str]:
    """Notes on what published splits share; these stay as they were published. values: of the rows of each."""
    pairs: list[tuple[SplitName, SplitName]] = [("validation", "train"), ("test", "train"), ("test", "validation")]
    notes = []
    for held_out, other in pairs:
        if held_out not in values or other not in values:
            continue
        known = set(values[other])
        shared = sum(own in known for own in values[held_out])
        if shared:
            notes.append(f"{shared} of {len(values[held_out])} {held_out} rows have a {what} that is in {other}, too")
    return notes
