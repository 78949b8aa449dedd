"""Rows after tokenisation: ragged columns in one memory-mapped Arrow file, shared by all trials of a machine.

Tasks make it, data stores it, training reads it. Must not know any of them.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]

OWNER = "row"
"""The flat column that says which row a feature belongs to, where a row has several."""


@dataclass(frozen=True, slots=True)
class Ragged:
    """Rows of different lengths, one after the other. values: (total,). offsets: (rows + 1,) int64."""

    values: Array
    offsets: Array

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]], dtype: npt.DTypeLike = np.int32) -> "Ragged":
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum([len(row) for row in rows], out=offsets[1:])
        values = np.fromiter((value for row in rows for value in row), dtype, count=int(offsets[-1]))
        return cls(values, offsets)

    @classmethod
    def of_texts(cls, texts: Sequence[str]) -> "Ragged":
        """UTF-8, as `text` gives it back."""
        parts = [text.encode("utf-8", "surrogatepass") for text in texts]
        offsets = np.cumsum([0, *map(len, parts)], dtype=np.int64)
        return cls(np.frombuffer(b"".join(parts), np.uint8), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> Array:
        """(length of the row,)"""
        part: Array = self.values[self.offsets[row] : self.offsets[row + 1]]
        return part

    def text(self, row: int) -> str:
        return self[row].tobytes().decode("utf-8", "surrogatepass")

    @property
    def lengths(self) -> Array:
        """(rows,) int64"""
        lengths: Array = np.diff(self.offsets)
        return lengths

    def take(self, rows: Array) -> "Ragged":
        """These rows, copied."""
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(self.lengths_of(rows), out=offsets[1:])
        parts = [self[row] for row in rows]
        return Ragged(np.concatenate(parts) if parts else self.values[:0], offsets)

    def padded(self, rows: Array, fill: int) -> Array:
        """(len(rows), longest of them) int64, filled up on the right."""
        block = np.full((len(rows), int(self.lengths_of(rows).max(initial=0))), fill, np.int64)
        for place, row in enumerate(rows):
            part = self[row]
            block[place, : len(part)] = part
        return block

    def lengths_of(self, rows: Array) -> Array:
        """(len(rows),) int64"""
        lengths: Array = self.offsets[rows + 1] - self.offsets[rows]
        return lengths


@dataclass(frozen=True, slots=True)
class Encoded:
    """One encoded split: features, which are what a model reads. Most tasks make one feature of each row.

    ragged: columns such as input_ids. flat: columns with one value a feature, or equally many: (features,) or
    (features, values). owners: what belongs to rows, where these are fewer than features; then `flat["row"]` says
    which row a feature is a part of.
    """

    ragged: Mapping[str, Ragged]
    flat: Mapping[str, Array]
    owners: "Encoded | None" = None

    def __len__(self) -> int:
        return len(next(iter(self.ragged.values())))

    @property
    def rows(self) -> int:
        return len(self if self.owners is None else self.owners)

    @property
    def labels(self) -> Array:
        """As a loss takes them beside outputs without padding: (features, ...); where each token has a label,
        (tokens,), in the order of `ragged["input_ids"].values`."""
        return self.flat["labels"] if "labels" in self.flat else self.ragged["labels"].values

    @property
    def row_labels(self) -> Array:
        """(rows, ...): of those tasks whose features have the label of their row."""
        return self.labels if self.owners is None else self.owners.flat["labels"]

    def labelled(self, labels: Array) -> "Encoded":
        """With one label a row, which is that of all its features. labels: (rows, ...)."""
        if self.owners is None:
            return replace(self, flat={**self.flat, "labels": labels})
        owners = replace(self.owners, flat={**self.owners.flat, "labels": labels})
        return replace(self, flat={**self.flat, "labels": labels[self.flat[OWNER]]}, owners=owners)

    @property
    def terms(self) -> Array:
        """(features,) int64: how many terms of the mean loss a feature gives, one if nothing else is said."""
        return self.flat["terms"] if "terms" in self.flat else np.ones(len(self), np.int64)

    def take(self, features: Array) -> "Encoded":
        """These features, copied, and the rows that they are of."""
        ragged = {name: column.take(features) for name, column in self.ragged.items()}
        flat = {name: column[features] for name, column in self.flat.items()}
        if self.owners is None:
            return Encoded(ragged, flat)
        rows, flat[OWNER] = np.unique(flat[OWNER], return_inverse=True)
        return Encoded(ragged, flat, self.owners.take(rows))

    def save(self, path: Path) -> None:
        """Write an Arrow IPC file whose buffers `load` can map: temporary name, fsync, rename. Owners lie beside it."""
        import pyarrow as pa

        if self.owners is not None:
            self.owners.save(_beside(path))
        columns: dict[str, pa.Array] = {
            name: pa.LargeListArray.from_arrays(column.offsets, column.values) for name, column in self.ragged.items()
        }
        for name, column in self.flat.items():
            values = pa.array(np.ascontiguousarray(column).reshape(-1))
            columns[name] = values if column.ndim == 1 else pa.FixedSizeListArray.from_arrays(values, column.shape[1])
        table = pa.table(columns)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        with open(temporary, "wb") as stream:
            with pa.ipc.new_file(stream, table.schema) as writer:
                writer.write_table(table)  # one batch: `load` reads no more than the first
            stream.flush()
            os.fsync(stream.fileno())
        temporary.rename(path)

    @classmethod
    def load(cls, path: Path) -> "Encoded":
        """Map the file; no row is copied."""
        import pyarrow as pa

        with pa.memory_map(str(path)) as source:
            batch = pa.ipc.open_file(source).get_batch(0)
        ragged, flat = {}, {}
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            if pa.types.is_large_list(column.type):
                ragged[name] = Ragged(column.values.to_numpy(), column.offsets.to_numpy())
            elif pa.types.is_fixed_size_list(column.type):
                flat[name] = column.flatten().to_numpy().reshape(-1, column.type.list_size)
            else:
                flat[name] = column.to_numpy()
        return cls(ragged, flat, cls.load(_beside(path)) if _beside(path).exists() else None)


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.stem}.rows{path.suffix}")
