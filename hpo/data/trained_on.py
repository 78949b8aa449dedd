"""Which texts a model was trained on or chosen by: their hashes, in a file beside it, so that a later study can tell
whether its test rows are new to it. Must not know models, nor who asks."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hpo.columns import Layout
from hpo.data.splits import compared_texts
from hpo.encoded import Array
from hpo.errors import ModelError

if TYPE_CHECKING:
    import pyarrow as pa

FILE = "trained_on.npy"
"""(texts,) uint64, sorted: 8 bytes a text, 3 MB for MNLI."""


def texts_of(tables: "Iterable[pa.Table]", layout: Layout) -> Array:
    """(texts,) the hashes of all rows' inputs, sorted, each once."""
    return np.unique(np.concatenate([_hashes(table, layout) for table in tables]))


def stand_in(table: "pa.Table", layout: Layout, texts: Array) -> Array:
    """(rows,) whether a row's inputs are among `texts`."""
    return np.isin(_hashes(table, layout), texts)


def save(texts: Array, folder: Path) -> None:
    np.save(folder / FILE, texts)


def load(folder: Path) -> Array | None:
    """None where a model has no such file: it was registered without. ModelError where the file is damaged."""
    try:
        found: Array = np.load(folder / FILE, allow_pickle=False)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError) as error:
        raise ModelError(f"{FILE} can't be read ({type(error).__name__}); register the model again") from error
    return found


def _hashes(table: "pa.Table", layout: Layout) -> Array:
    """(rows,) uint64 of each row's texts, as they compare."""
    rows = ("\0".join(texts).encode("utf-8", "surrogatepass") for texts in compared_texts(table, layout))
    return np.fromiter(
        (int.from_bytes(hashlib.blake2b(row, digest_size=8).digest(), "little") for row in rows), np.uint64
    )
