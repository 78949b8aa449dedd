import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from hpo.data.cache import encode_splits
from hpo.data.loading import Splits
from hpo.encoded import Encoded, Ragged
from hpo.errors import DataError, ServiceError

ROWS = pa.table({"sentence": ["a", "bcd", "ef"], "label": ["0", "1", "0"]})
KEY = {"data": "1", "tokenizer": "2"}


def encode(table: pa.Table) -> Encoded:
    ids = [[ord(letter) for letter in text] for text in table["sentence"].to_pylist()]
    return Encoded({"input_ids": Ragged.of(ids)}, {"labels": np.array(table["label"].to_pylist(), np.int64)})


@pytest.fixture
def splits() -> Splits:
    return Splits(ROWS, ROWS.slice(0, 2), ROWS.slice(2), (), ())


def test_encoded_splits_are_written_once(splits: Splits, tmp_path: Path) -> None:
    calls: list[int] = []

    def counting(table: pa.Table) -> Encoded:
        calls.append(len(table))
        return encode(table)

    first = encode_splits(splits, counting, cache=tmp_path, key=KEY)
    again = encode_splits(splits, counting, cache=tmp_path, key=dict(reversed(KEY.items())))
    assert (first, calls) == (again, [3, 2, 1])
    assert Encoded.load(first.train).ragged["input_ids"][1].tolist() == [98, 99, 100]
    assert Encoded.load(first.validation).flat["labels"].tolist() == [0, 1]
    assert first.test is not None
    assert len(Encoded.load(first.test)) == 1
    assert encode_splits(splits, counting, cache=tmp_path, key={**KEY, "tokenizer": "3"}) != first


def test_a_cache_is_as_readable_for_others_as_the_umask_has_it(splits: Splits, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        made = encode_splits(splits, encode, cache=tmp_path, key=KEY)
    finally:
        os.umask(before)
    assert [path.stat().st_mode & 0o777 for path in (made.search.parent, made.search, made.train)] == [
        0o750,
        0o750,
        0o640,
    ]


def test_trials_are_given_a_folder_without_test_rows(splits: Splits, tmp_path: Path) -> None:
    files = encode_splits(splits, encode, cache=tmp_path, key=KEY)
    assert sorted(path.name for path in files.search.rglob("*")) == ["train.arrow", "validation.arrow"]


def test_without_a_test_split_there_is_no_test_file(tmp_path: Path) -> None:
    assert encode_splits(Splits(ROWS, ROWS, None, (), ()), encode, cache=tmp_path, key=KEY).test is None


def test_a_failure_leaves_nothing_behind(splits: Splits, tmp_path: Path) -> None:
    def fail(table: pa.Table) -> Encoded:
        if len(table) == 2:
            raise DataError("no")
        return encode(table)

    with pytest.raises(DataError, match="no"):
        encode_splits(splits, fail, cache=tmp_path, key=KEY)
    assert list(tmp_path.iterdir()) == []


def test_several_may_encode_at_a_time(splits: Splits, tmp_path: Path) -> None:
    together = threading.Barrier(4)

    def slow(table: pa.Table) -> Encoded:
        if len(table) == 3:
            together.wait(timeout=60)
        return encode(table)

    threads = [threading.Thread(target=encode_splits, args=(splits, slow), kwargs={"cache": tmp_path, "key": KEY})
               for _ in range(4)]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(tmp_path.iterdir())) == 1
    assert len(Encoded.load(encode_splits(splits, encode, cache=tmp_path, key=KEY).train)) == 3


def test_a_cache_that_cannot_be_written_is_a_service_error(
    splits: Splits, tmp_path: Path, write: Callable[[str, str | bytes], Path]
) -> None:
    write("taken", "a file")
    with pytest.raises(ServiceError, match=f"taken{os.sep}cache: cannot write there"):
        encode_splits(splits, encode, cache=tmp_path / "taken" / "cache", key=KEY)
