from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from hpo.data.loading import Splits, digest
from hpo.errors import DataError

Write = Callable[[str, str | bytes], Path]
Load = Callable[..., Splits]

HEADER = "sentence\tlabel\n"
GOOD = HEADER + "fine\t1\nbad\t0\n"
SST2 = {"train": "sst2/train.tsv", "validation": "sst2/validation.tsv"}
STSB = {"train": "stsb/train.tsv", "validation": "stsb/validation.tsv", "test": "stsb/test.tsv"}
PAIR = {"texts": ("sentence1", "sentence2")}


def texts_of(table: pa.Table) -> set[str]:
    return {" ".join(text.lower().split()) for text in table["sentence"].to_pylist()}


def test_published_splits_stay_as_they_are(load_splits: Load, real_data: Path) -> None:
    splits = load_splits({"files": STSB}, base=real_data, label_kind="number", **PAIR)
    assert [len(table) for table in splits.tables.values()] == [5_749, 1_500, 1_379]
    assert splits.train.schema.field("label").type == pa.float64()
    assert [(own.split, own.rows, own.name) for own in splits.records] == [
        ("train", 5_749, "stsb"),
        ("validation", 1_500, "stsb"),
        ("test", 1_379, "stsb"),
    ]
    assert splits.records[0].source == "file stsb/train.tsv"
    assert splits.records[0].columns == {"sentence1": "string", "sentence2": "string", "label": "double"}
    assert any("test rows have a text that is in train" in note for note in splits.notes)


def test_a_cut_is_stratified_disjoint_and_leaks_no_text(load_splits: Load, real_data: Path) -> None:
    splits = load_splits({"files": SST2, "test": {"from": "train", "rows": 2_000}}, base=real_data)
    assert splits.test is not None
    assert len(splits.test) == 2_000
    assert Counter(splits.test["label"].to_pylist()) == {"1": 1_116, "0": 884}  # 55.78 % positive, as in train
    assert len(splits.validation) == 872
    assert not texts_of(splits.test) & texts_of(splits.train)
    dropped = 67_349 - 2_000 - len(splits.train)
    assert 0 < dropped < 100
    assert f"{dropped} rows dropped from train: their text is in the rows cut for test" in splits.notes
    assert "2000 rows cut by data.seed 17" in splits.records[2].source


def test_the_seed_alone_chooses_the_rows(load_splits: Load, real_data: Path) -> None:
    data = {"files": SST2, "test": {"from": "train", "rows": 500}, "limit": {"train": 1_000, "validation": 100}}
    one, same, other = (load_splits(data | {"seed": seed}, base=real_data) for seed in (1, 1, 2))
    assert one.records == same.records
    assert one.digest == same.digest != other.digest
    for name in one.tables:
        assert one.tables[name] != other.tables[name]


def test_a_few_examples_of_each_class_are_chosen_by_the_seed(load_splits: Load, write: Write) -> None:
    write("a.tsv", HEADER + "".join(f"text {i}\t{i % 7 % 3}\n" for i in range(90)) + "rare\t9\n")
    write("b.tsv", HEADER + "other\t0\n")
    data = {"files": {"train": "a.tsv", "validation": "b.tsv"}, "limit": {"per_class": 4}}
    one, same, other = (load_splits(data | {"seed": seed}) for seed in (1, 1, 2))
    assert Counter(one.train["label"].to_pylist()) == {"0": 4, "1": 4, "2": 4, "9": 1}
    assert one.digest == same.digest != other.digest
    assert one.records[0].source.endswith("; at most 4 rows of each class by data.seed 1")


def test_limits_do_not_move_the_cuts(load_splits: Load, real_data: Path) -> None:
    data = {"files": SST2, "test": {"from": "train", "rows": 500}}
    whole, limited = (load_splits(data | more, base=real_data) for more in ({}, {"limit": {"train": 1_001}}))
    assert whole.test == limited.test
    assert len(limited.train) == 1_001
    assert abs(limited.train["label"].to_pylist().count("1") / 1_001 - 0.5578) < 0.002


def test_test_and_validation_can_both_be_cut(load_splits: Load, write: Write) -> None:
    write("a.tsv", HEADER + "".join(f"text {i % 190}\t{i % 3}\n" for i in range(200)))
    splits = load_splits(
        {
            "files": {"train": "a.tsv"},
            "test": {"from": "train", "rows": 30},
            "validation": {"from": "train", "rows": 31},
        }
    )
    assert splits.test is not None
    assert (len(splits.test), len(splits.validation)) == (30, 31)
    parts = [texts_of(table) for table in splits.tables.values()]
    assert sum(map(len, parts)) == len(set.union(*parts))
    assert set(Counter(splits.test["label"].to_pylist()).values()) == {10}


def test_a_test_cut_from_validation_is_dropped_from_train_too(load_splits: Load, write: Write) -> None:
    write("a.tsv", HEADER + "".join(f"Text  {i}\t{i % 2}\n" for i in range(20)))
    write("b.tsv", HEADER + "".join(f"text {i}\t{i % 2}\n" for i in range(10, 30)))
    splits = load_splits(
        {"files": {"train": "a.tsv", "validation": "b.tsv"}, "test": {"from": "validation", "rows": 10}}
    )
    assert splits.test is not None
    assert not texts_of(splits.test) & (texts_of(splits.train) | texts_of(splits.validation))
    assert len(splits.validation) == 10
    assert any(note.endswith("validation rows have a text that is in train, too") for note in splits.notes)


def test_numbers_are_cut_without_strata(load_splits: Load, real_data: Path) -> None:
    data = {"files": {"train": "stsb/train.tsv"}, "validation": {"from": "train", "rows": 700}}
    splits = load_splits(data, base=real_data, label_kind="number", **PAIR)
    assert len(splits.validation) == 700
    assert abs(sum(splits.validation["label"].to_pylist()) / 700 - 2.70) < 0.2


def test_rare_classes_are_in_every_cut(load_splits: Load, write: Write) -> None:
    labels = ["a"] * 500 + ["b"] * 3 + ["c"] * 2
    write("a.tsv", HEADER + "".join(f"text {i}\t{label}\n" for i, label in enumerate(labels)))
    splits = load_splits({"files": {"train": "a.tsv"}, "validation": {"from": "train", "rows": 20}})
    assert Counter(splits.validation["label"].to_pylist()) == {"a": 18, "b": 1, "c": 1}


@pytest.mark.parametrize("label", ["-1", ""])
def test_hidden_test_labels_mean_no_test_split_and_a_word_on_it(load_splits: Load, tmp_path: Path, label: str) -> None:
    rows = {"sentence": ["fine", "bad"], "label": [1, 0]}
    parquet.write_table(pa.table(rows), tmp_path / "a.parquet")
    hidden = pa.array([None, None] if label == "" else [-1, -1], pa.int64())
    parquet.write_table(pa.table({"sentence": ["x", "y"], "label": hidden}), tmp_path / "t.parquet")
    files = {"train": "a.parquet", "validation": "a.parquet", "test": "t.parquet"}
    splits = load_splits({"files": files})
    assert splits.test is None
    assert any("hidden" in note and "data.test: {from: train" in note for note in splits.notes)


def test_hidden_validation_labels_are_an_error(load_splits: Load, write: Write) -> None:
    write("a.tsv", GOOD)
    write("b.tsv", HEADER + "x\t-1\n")
    with pytest.raises(DataError, match=r"no labelled validation.*cut it with data\.validation"):
        load_splits({"files": {"train": "a.tsv", "validation": "b.tsv"}})


def test_labels_of_one_class_look_the_same_in_all_formats(load_splits: Load, write: Write, tmp_path: Path) -> None:
    write("a.tsv", GOOD)
    write("b.jsonl", '{"sentence": "x", "label": 1}\n{"sentence": "y", "label": 0.0}\n')
    parquet.write_table(pa.table({"sentence": ["z"], "label": [1.0]}), tmp_path / "c.parquet")
    splits = load_splits({"files": {"train": "a.tsv", "validation": "b.jsonl", "test": "c.parquet"}})
    assert [table["label"].to_pylist() for table in splits.tables.values()] == [["1", "0"], ["1", "0"], ["1"]]


@pytest.mark.parametrize(
    ("train", "changes", "words"),
    [
        (HEADER, {}, "no rows; give at least one below the header"),
        (HEADER + "a\t1\nb\t1\n", {}, "all 2 train rows have the label '1'"),
        (HEADER + "a\t1\nb\t\n", {}, "line 3: the label 'label' is empty"),
        (HEADER + "a\tx\nb\ty\n", {"label_kind": "number"}, "line 2: the label 'x' is not a finite number"),
        (HEADER + "a\t1\nb\tnan\n", {"label_kind": "number"}, "line 3: the label 'nan' is not a finite number"),
        (HEADER + "a\t1\nb\t1e999\n", {"label_kind": "number"}, "'1e999' is not a finite number"),
        (HEADER + "a\tgood\nb\tworse\n", {}, r"validation has the label '0' \(b.tsv, line 3\), which no train row has"),
    ],
)
def test_rows_that_cannot_be_learned_are_refused(
    load_splits: Load, write: Write, train: str, changes: dict[str, str], words: str
) -> None:
    write("a.tsv", train)
    write("b.tsv", GOOD)
    with pytest.raises(DataError, match=words):
        load_splits({"files": {"train": "a.tsv", "validation": "b.tsv"}}, **changes)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"label": 1}', "line 2: 'sentence' is null, not a text"),
        ('{"sentence": "b", "label": null}', "line 2: 'label' is null, not a label"),
    ],
)
def test_nulls_are_refused_with_their_line(load_splits: Load, write: Write, line: str, words: str) -> None:
    write("a.jsonl", '{"sentence": "a", "label": 1}\n' + line + "\n")
    with pytest.raises(DataError, match=words):
        load_splits({"files": {"train": "a.jsonl", "validation": "a.jsonl"}})


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ('{"sentence": 3, "label": 1}', "is int64, not text"),
        ('{"sentence": "a", "label": [1, 2]}', "one class a row"),
    ],
)
def test_columns_of_another_kind_are_refused(load_splits: Load, write: Write, row: str, words: str) -> None:
    write("a.jsonl", row + "\n")
    with pytest.raises(DataError, match=words):
        load_splits({"files": {"train": "a.jsonl", "validation": "a.jsonl"}})


@pytest.mark.parametrize(
    ("rows", "labels", "words"),
    [
        (10, "0101010101", "10 rows cut from train, which has 10"),
        (4, "0000000001", "the class '1' has 1 row in train"),
        (2, "0011223344", "2 rows are fewer than the 5 classes"),
    ],
)
def test_cuts_that_cannot_be_made_are_refused(
    load_splits: Load, write: Write, rows: int, labels: str, words: str
) -> None:
    write("a.tsv", HEADER + "".join(f"text {i}\t{label}\n" for i, label in enumerate(labels)))
    with pytest.raises(DataError, match=words):
        load_splits({"files": {"train": "a.tsv"}, "validation": {"from": "train", "rows": rows}})


def test_a_digest_tells_rows_and_their_order() -> None:
    one = pa.table({"sentence": ["ab", "c"], "label": ["0", "1"]})
    assert digest(one) == digest(pa.table({"sentence": ["ab", "c"], "label": ["0", "1"]}))
    for sentences, labels in ((["a", "bc"], ["0", "1"]), (["c", "ab"], ["1", "0"]), (["ab", "c"], ["1", "0"])):
        assert digest(one) != digest(pa.table({"sentence": sentences, "label": labels}))


def test_a_cut_replaces_the_published_split_with_a_word_on_it(load_splits: Load) -> None:
    data = {
        "builtin": "docstrings",
        "test": {"from": "train", "rows": 600},
        "limit": {"train": 300, "validation": 60},
    }
    splits = load_splits(data, texts=("sentence",), label="library")
    assert [len(table) for table in splits.tables.values()] == [300, 60, 600]
    assert set(Counter(splits.test["library"].to_pylist()).values()) == {100}
    assert "the published test split is not used: test is cut from train" in splits.notes
    assert splits.records[0].source.endswith("; at most 300 rows by data.seed 17")


def test_a_cut_that_leaves_little_of_a_class_still_has_its_rows(load_splits: Load, write: Write) -> None:
    write("a.tsv", HEADER + "".join(f"text {i}\t{i % 2}\n" for i in range(10)))
    with pytest.raises(DataError, match="all 1 train rows have the label"):
        load_splits({"files": {"train": "a.tsv"}, "validation": {"from": "train", "rows": 9}})


def test_a_cut_that_takes_every_text_of_train_is_refused(load_splits: Load, write: Write) -> None:
    write("a.tsv", HEADER + "".join(f"same\t{i % 2}\n" for i in range(10)))
    with pytest.raises(DataError, match="no rows are left in train"):
        load_splits({"files": {"train": "a.tsv"}, "validation": {"from": "train", "rows": 4}})


def families(rows: int, of_a_family: int) -> str:
    """Sentences with a label and a family, which no task reads."""
    lines = [f"text {i}\t{i % 2}\tFamily {i // of_a_family}" for i in range(rows)]
    return "\n".join(["sentence\tlabel\tfamily", *lines]) + "\n"


def families_of(table: pa.Table, of_a_family: int) -> set[int]:
    return {int(text.split()[1]) // of_a_family for text in table["sentence"].to_pylist()}


def test_rows_of_a_group_stand_on_one_side_of_every_cut(load_splits: Load, write: Write) -> None:
    write("a.tsv", families(300, 3))
    cuts = {"test": {"from": "train", "rows": 50}, "validation": {"from": "train", "rows": 31}}
    data = {"files": {"train": "a.tsv"}, **cuts, "group": "family"}
    splits = load_splits(data)
    assert [len(table) for table in splits.tables.values()] == [300 - 48 - 30, 30, 48]  # whole groups, never more
    parts = [families_of(table, 3) for table in splits.tables.values()]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 100
    assert splits.train.column_names == ["sentence", "label"]
    assert splits.notes == ()
    assert splits.records[2].source.endswith("; about 50 rows cut by data.seed 17, in whole groups of family")
    assert load_splits(data).digest == splits.digest != load_splits(data | {"seed": 1}).digest


def test_a_group_is_the_column_of_a_task_too_and_compares_as_texts_do(load_splits: Load, write: Write) -> None:
    rows = "".join(f"{'The' if i % 2 else 'the '} premise {i // 4}\thypothesis {i}\t{i % 3}\n" for i in range(120))
    write("a.tsv", "premise\thypothesis\tlabel\n" + rows)
    data = {"files": {"train": "a.tsv"}, "validation": {"from": "train", "rows": 40}, "group": "premise"}
    splits = load_splits(data, texts=("premise", "hypothesis"))
    assert len(splits.validation) == 40
    sides = [{" ".join(text.lower().split()) for text in own["premise"].to_pylist()} for own in splits.tables.values()]
    assert (len(sides[0]), len(sides[1]), sides[0] & sides[1]) == (20, 10, set())


def test_groups_that_are_all_too_large_are_cut_by_the_smallest(load_splits: Load, write: Write) -> None:
    write("a.tsv", families(25, 10))
    data = {"files": {"train": "a.tsv"}, "validation": {"from": "train", "rows": 3}, "group": "family"}
    splits = load_splits(data)
    assert len(splits.validation) == 5
    assert splits.notes[-1] == "5 rows are cut for validation, not 3: no group is smaller"


def test_a_cut_from_validation_leaves_its_groups_in_no_other_split_and_published_ones_are_counted(
    load_splits: Load, write: Write
) -> None:
    write("a.tsv", families(60, 3))
    write("b.tsv", families(90, 3).replace("text", "other"))
    data = {"files": {"train": "a.tsv", "validation": "b.tsv"}, "group": "family"}
    published = load_splits(data)
    assert (len(published.train), len(published.validation)) == (60, 90)
    assert "60 of 90 validation rows have a 'family' that is in train, too" in published.notes
    cut = load_splits(data | {"test": {"from": "validation", "rows": 30}})
    assert cut.test is not None
    assert not families_of(cut.test, 3) & (families_of(cut.train, 3) | families_of(cut.validation, 3))
    dropped = 60 - len(cut.train)
    assert f"{dropped} rows dropped from train: their 'family' is in the rows cut for test" in cut.notes


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"group": "famile"}, "there is no column 'famile'.*did you mean family"),
        ({"group": "same"}, "all 30 rows of train have the same 'same', and a cut takes whole groups; name another"),
        ({"group": "some"}, "row 2: 'some' is null, not a group; give it one"),
    ],
)
def test_groups_that_cannot_be_are_refused(load_splits: Load, tmp_path: Path, data: dict[str, Any], words: str) -> None:
    rows = {"sentence": [f"text {i}" for i in range(30)], "label": [0, 1] * 15, "family": [*range(10)] * 3}
    table = pa.table({**rows, "same": ["x"] * 30, "some": ["a", None, "b"] * 10})
    parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match=words):
        load_splits({"files": {"train": "a.parquet"}, "validation": {"from": "train", "rows": 9}, **data})
