"""Rows from the Hugging Face Hub, by `datasets`, which keeps them in its own cache (HF_HOME).

The only place that knows `datasets`' ways: hidden labels, class names, and how its failures are to be read. Only the
driver comes here; trials read encoded rows.
"""

import logging
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hpo.data.config import DataConfig
from hpo.data.source import SPLITS, RawSplit, Source, SplitName, check_columns
from hpo.errors import DataError, HpoError, ServiceError

if TYPE_CHECKING:
    import pyarrow as pa

COMMIT = re.compile(r"[/\\]([0-9a-f]{40})[/\\]")


def read_hub(config: DataConfig, *, columns: Sequence[str], label: str, announce: Callable[[str], None]) -> Source:
    """The needed columns of the splits that are there. Online once; from the cache afterwards, or where offline.

    A class label becomes a dictionary column of its names, in the order of its ids; a class id of -1 becomes null. In a
    list of class labels ids become names; one that holds a -1 becomes null.
    Rows without a label are dropped with a note, unless a whole split has none.
    Errors: DataError (no such data set, configuration, revision, split, column; no access; files that don't fit
    together), ServiceError (no network, no disk).
    """
    name = " ".join(part for part in (config.hub, config.config) if part)
    announce(f"loading {name} from the Hub")
    found = _load(config, name)
    splits: dict[SplitName, RawSplit] = {}
    origins: dict[SplitName, str] = {}
    notes = []
    for split in SPLITS:
        own = getattr(config.splits, split)
        if own not in found:
            if split == "train" or own != split:
                raise DataError(
                    f"{name}: there is no split {own!r}; there are {', '.join(found)}; correct data.splits.{split}"
                )
            continue
        where = f"{name}, split {own}"
        check_columns(found[own].column_names, columns, where)
        table, unlabelled = _labelled(_table(found[own], columns, label), label)
        if unlabelled:
            notes.append(f"{unlabelled} rows of {split} dropped: they have no label")
        splits[split] = RawSplit(table, where)
        origins[split] = f"Hub {name}, revision {_revision(found[own], config)}, split {own}"
    return Source("/".join(part for part in (config.hub, config.config) if part), splits, origins, tuple(notes))


def _load(config: DataConfig, name: str) -> Any:
    """A DatasetDict. Foreign failures are translated here; a missing network is known after 23 s of retries."""
    import datasets
    from datasets.exceptions import DatasetGenerationError, DatasetsError
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # that of its HTTP client

    try:
        with _quiet():
            return datasets.load_dataset(config.hub, config.config, revision=config.revision)
    except DatasetGenerationError as error:
        raise _unmade(name, error) from error
    except (HTTPError, ConnectionError) as error:
        raise _unreachable(name, error) from error
    except (DatasetsError, ValueError, FileNotFoundError, RuntimeError) as error:
        raise _wrong(name, error) from error
    except OSError as error:
        raise _not_kept(name, error) from error


def _unmade(name: str, error: Exception) -> HpoError:
    """What it is that kept rows from being made of the files: the network, the disk, or the files."""
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # that of its HTTP client

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, HTTPError | ConnectionError):
            return _unreachable(name, cause)
        if isinstance(cause, OSError) and cause.errno and not isinstance(cause, FileNotFoundError):
            return _not_kept(name, cause)
        cause = cause.__cause__ or cause.__context__
    said = " ".join(str(error.__cause__ or error).split())[:400]
    return DataError(
        f"{name}: datasets makes no rows of its files ({said}); name files that belong together (data.config), "
        "another data.revision, or local rows (data.files)"
    )


def _not_kept(name: str, error: OSError) -> HpoError:
    return ServiceError(f"{name}: cannot be kept on this disk ({error}); free space, or set HF_HOME")


def _unreachable(name: str, error: Exception) -> HpoError:
    first = _words(error.__cause__ or error)
    if "OfflineMode" in first or _offline():
        return ServiceError(
            f"{name}: not in the local cache, and offline mode is on; unset HF_HUB_OFFLINE and HF_DATASETS_OFFLINE "
            "once, or load it on a machine that is online and set HF_HOME to its cache"
        )
    return ServiceError(
        f"{name}: the Hub at {_endpoint()} did not deliver it ({first}); check the network and HF_ENDPOINT, "
        "or use local rows (data.files)"
    )


def _wrong(name: str, error: Exception) -> HpoError:
    first = _words(error)
    if "gated" in first:
        return DataError(
            f"{name}: its owner grants access by request ({first}); ask for it on the Hub, then set HF_TOKEN"
        )
    if "doesn't exist" in first and "evision" in first:
        return DataError(f"{name}: {first}; correct data.revision")
    if "Config name is missing" in first or "BuilderConfig" in first:
        return DataError(f"{name}: {first}; name one in data.config")
    if "scripts are no longer supported" in first:
        return DataError(
            f"{name}: it is a loading script, and these are no longer run; use a revision with parquet files"
        )
    return DataError(f"{name}: {first}; correct data.hub, or set HF_TOKEN where it is private")


def _words(error: BaseException) -> str:
    """The first two lines: the second one names the configurations that there are."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return " ".join(lines[:2]).rstrip(". ")


def _offline() -> bool:
    from huggingface_hub import is_offline_mode

    return bool(is_offline_mode())


def _endpoint() -> str:
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


def _table(rows: Any, columns: Sequence[str], label: str) -> "pa.Table":
    """The needed columns of a `datasets.Dataset`."""
    import datasets
    import numpy as np
    import pyarrow as pa

    feature = rows.features[label]
    table: pa.Table = rows.select_columns(list(columns)).with_format("arrow")[:]
    place = table.column_names.index(label)
    if isinstance(inner := getattr(feature, "feature", None), datasets.ClassLabel):
        rows_of_ids = [None if row is None or {-1, None} & {*row} else row for row in table[label].to_pylist()]
        named = [None if row is None else [inner.names[own] for own in row] for row in rows_of_ids]
        return table.set_column(place, label, pa.chunked_array([pa.array(named, pa.large_list(pa.large_string()))]))
    if not isinstance(feature, datasets.ClassLabel):
        return table
    ids = table[label].to_numpy(zero_copy_only=False)
    ids = np.where(np.isnan(ids), -1, ids).astype(np.int32)
    names = pa.array(feature.names, pa.large_string())
    column = pa.DictionaryArray.from_arrays(pa.array(ids, mask=ids < 0), names)
    return table.set_column(place, label, pa.chunked_array([column]))


def _labelled(table: "pa.Table", label: str) -> tuple["pa.Table", int]:
    """Without the rows that have no label, and how many these are. A split without any label stays whole."""
    without = table[label].null_count
    if without in (0, len(table)):
        return table, 0
    return table.filter(table[label].is_valid()), without


def _revision(rows: Any, config: DataConfig) -> str:
    """The commit, as the cache's folders are named by it."""
    for file in rows.cache_files:
        match = COMMIT.search(file["filename"])
        if match:
            return match[1]
    return config.revision or "main"


@contextmanager
def _quiet() -> Iterator[None]:
    """Progress bars for a terminal only; no warnings that the user can do nothing about."""
    import datasets
    from huggingface_hub.utils import logging as hub_logging

    levels = datasets.logging.get_verbosity(), hub_logging.get_verbosity()
    bars = datasets.are_progress_bars_disabled()
    datasets.logging.set_verbosity(logging.ERROR)
    hub_logging.set_verbosity(logging.ERROR)
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.logging.set_verbosity(levels[0])
        hub_logging.set_verbosity(levels[1])
        if not bars:
            datasets.enable_progress_bars()
