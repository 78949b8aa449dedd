"""Rows after tokenisation: ragged columns in one memory-mapped Arrow file, shared by all trials of a machine.

Tasks make it, data stores it, training reads it. Must not know any of them.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]


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

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> Array:
        """(length of the row,)"""
        part: Array = self.values[self.offsets[row] : self.offsets[row + 1]]
        return part

    @property
    def lengths(self) -> Array:
        """(rows,) int64"""
        lengths: Array = np.diff(self.offsets)
        return lengths

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
    """One encoded split. ragged: columns such as input_ids. flat: columns with one value a row, such as labels."""

    ragged: Mapping[str, Ragged]
    flat: Mapping[str, Array]

    def __len__(self) -> int:
        return len(next(iter(self.ragged.values())))

    def save(self, path: Path) -> None:
        """Write an Arrow IPC file whose buffers `load` can map: temporary name, fsync, rename."""
        import pyarrow as pa

        columns: dict[str, pa.Array] = {
            name: pa.LargeListArray.from_arrays(column.offsets, column.values) for name, column in self.ragged.items()
        }
        columns |= {name: pa.array(np.ascontiguousarray(column)) for name, column in self.flat.items()}
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
            else:
                flat[name] = column.to_numpy()
        return cls(ragged, flat)
