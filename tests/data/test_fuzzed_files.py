"""Whatever a data file holds: rows that a study can use, or a DataError with words; never anything else."""

import json
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hpo.data.config import DataConfig
from hpo.data.loading import Splits, load
from hpo.errors import DataError
from hpo.tasks import SequenceClassification

SUFFIXES = (".tsv", ".csv", ".jsonl", ".parquet")
fuzz = settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

cells = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("good film")


def outcome(folder: Path, suffix: str, kind: str = "class") -> Splits | DataError:
    """Of one file as train and validation; anything but rows or a refusal fails the test."""
    name = f"rows{suffix}"
    config = DataConfig.model_validate({"files": {"train": name}, "validation": {"from": "train", "rows": 2}})
    problem = "regression" if kind == "number" else "single_label_classification"
    layout = SequenceClassification(text="sentence", label="label", problem_type=problem).layout
    try:
        splits = load(config, layout=layout, base=folder, cache=folder / "cache", announce=lambda words: None)
    except DataError as error:
        return error if len(str(error)) > 10 else pytest.fail(f"wordless: {error!r}")
    assert len(splits.validation) >= 1
    assert splits.train.column_names == ["sentence", "label"]
    assert splits.train["sentence"].null_count == splits.train["label"].null_count == 0
    return splits


def good(suffix: str, folder: Path) -> bytes:
    rows = [{"sentence": f"film {place} é", "label": place % 2} for place in range(12)]
    if suffix == ".jsonl":
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    if suffix == ".parquet":
        import pyarrow as pa
        from pyarrow import parquet

        parquet.write_table(pa.Table.from_pylist(rows), folder / "good.parquet")
        return (folder / "good.parquet").read_bytes()
    mark = "\t" if suffix == ".tsv" else ","
    return "".join([f"sentence{mark}label\n", *(f"{row['sentence']}{mark}{row['label']}\n" for row in rows)]).encode()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_good_file_is_good(suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"rows{suffix}").write_bytes(good(suffix, tmp_path))
    assert isinstance(outcome(tmp_path, suffix), Splits)


@pytest.mark.parametrize("suffix", SUFFIXES)
@fuzz
@given(content=st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_at_all(suffix: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / f"rows{suffix}").write_bytes(content)
    outcome(tmp_path, suffix)


@pytest.mark.parametrize("suffix", SUFFIXES)
@fuzz
@example(seed=372, kind="class")  # a parquet type that pyarrow does not have
@given(seed=st.integers(0, 10**6), kind=st.sampled_from(["class", "number"]))
def test_bytes_lost_doubled_and_changed(suffix: str, seed: int, kind: str, tmp_path: Path) -> None:
    chance, content = random.Random(seed), bytearray(good(suffix, tmp_path))
    for _ in range(chance.randint(1, 6)):
        place = chance.randrange(len(content))
        match chance.randrange(4):
            case 0:
                del content[place]
            case 1:
                content.insert(place, chance.choice(b'\t\n\r",{}[]\\\0\xff0aN'))
            case 2:
                content[place] ^= 1 << chance.randrange(8)
            case _:
                content[place : place + chance.randrange(30)] = b""
        if not content:
            break
    (tmp_path / f"rows{suffix}").write_bytes(bytes(content))
    outcome(tmp_path, suffix, kind)


@fuzz
@given(rows=st.lists(st.dictionaries(st.sampled_from(["sentence", "label", "x"]), cells, max_size=3), max_size=8))
def test_rows_of_any_values(rows: list[dict[str, object]], tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    outcome(tmp_path, ".jsonl")


@pytest.mark.parametrize("suffix", [".tsv", ".csv", ".jsonl"])
def test_a_row_of_a_hundred_thousand_characters_is_a_row(suffix: str, tmp_path: Path) -> None:
    content = good(suffix, tmp_path).replace("film 3 é".encode(), b"very " * 20_000)
    (tmp_path / f"rows{suffix}").write_bytes(content)
    splits = outcome(tmp_path, suffix)
    assert not isinstance(splits, DataError)
    assert max(len(text) for table in splits.tables.values() for text in table["sentence"].to_pylist()) > 99_000
