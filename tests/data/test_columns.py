"""Columns of every kind: words and tags, many labels, answers, choices; and what is said where they are wrong."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from hpo.columns import Column
from hpo.data.files import read_file
from hpo.data.loading import Splits
from hpo.data.source import clean_columns
from hpo.errors import DataError
from hpo.tasks import MultiLabel, MultipleChoice, QuestionAnswering, TokenClassification

Write = Callable[[str, str | bytes], Path]
Load = Callable[..., Splits]

TAGS = TokenClassification()
LABELS = MultiLabel(text="text", label="labels")
ANSWERS = QuestionAnswering()
PERHAPS = QuestionAnswering(unanswerable=True)
CHOICES = MultipleChoice()

GOOD: dict[str, list[dict[str, Any]]] = {
    "tags": [{"tokens": ["Ann", "ran"], "tags": ["B-person", "O"]}],
    "labels": [{"text": "a", "labels": ["joy", "fear"]}, {"text": "b", "labels": []}],
    "answers": [{"question": "who?", "context": "Ann ran.", "answers": {"text": ["Ann"], "answer_start": [0]}}],
    "choices": [
        {"context": "a", "choices": ["b", "c"], "label": 0},
        {"context": "d", "choices": ["e", "f"], "label": 1},
    ],
}


def jsonl(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


FAULTS: dict[str, tuple[Any, str, dict[str, Any], str]] = {
    "fewer tags than tokens": (
        TAGS,
        "tags",
        {"tokens": ["a", "b"], "tags": ["O"]},
        "1 tags in 'tags' for 2 tokens; give",
    ),
    "no tokens": (TAGS, "tags", {"tokens": [], "tags": []}, "'tokens' is an empty list; remove the row"),
    "tokens that are one text": (TAGS, "tags", {"tokens": "a b", "tags": ["O", "O"]}, "of another type above"),
    "a tag that is no text": (TAGS, "tags", {"tokens": ["a"], "tags": [None]}, "'tags' holds None, which is no text"),
    "no tags": (TAGS, "tags", {"tokens": ["a"], "tags": None}, "'tags' is null, not a list of texts; give one"),
    "a tag without a prefix": (
        TAGS,
        "tags",
        {"tokens": ["a"], "tags": ["person"]},
        "has a prefix, and 'person' elsewhere",
    ),
    "an empty label": (LABELS, "labels", {"text": "a", "labels": ["joy", ""]}, "holds '', which names no label"),
    "labels that are null": (LABELS, "labels", {"text": "a", "labels": None}, "'labels' is null"),
    "an answer that is not in its context": (
        ANSWERS,
        "answers",
        {"question": "q", "context": "Ann ran.", "answers": {"text": ["Bob"], "answer_start": [0]}},
        "the answer 'Bob' is not in the context; correct it, or remove the row",
    ),
    "an answer at another place": (
        ANSWERS,
        "answers",
        {"question": "q", "context": "Ann ran.", "answers": {"text": ["ran"], "answer_start": [3]}},
        "the answer 'ran' is not at answer_start 3, but at 4; correct it",
    ),
    "no answer": (
        ANSWERS,
        "answers",
        {"question": "q", "context": "c", "answers": {"text": [], "answer_start": []}},
        "there is no answer; set task.unanswerable: true",
    ),
    "an empty answer": (
        PERHAPS,
        "answers",
        {"question": "q", "context": "c", "answers": {"text": [""], "answer_start": [0]}},
        "an answer is empty",
    ),
    "a text without its place": (
        ANSWERS,
        "answers",
        {"question": "q", "context": "c", "answers": {"text": ["c"], "answer_start": []}},
        "has not one answer_start for each text",
    ),
    "one choice fewer": (
        CHOICES,
        "choices",
        {"context": "a", "choices": ["b"], "label": 0},
        "1 choices, where the first",
    ),
    "a label beyond the choices": (
        CHOICES,
        "choices",
        {"context": "a", "choices": ["b", "c"], "label": 2},
        "write 0 to 1",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_row_that_is_wrong_is_named_with_its_file_and_line_and_a_remedy(
    fault: str, write: Write, load_splits: Load
) -> None:
    task, kind, row, words = FAULTS[fault]
    write("train.jsonl", jsonl([*GOOD[kind] * 2, row]))
    write("dev.jsonl", jsonl(GOOD[kind]))
    with pytest.raises(DataError) as caught:
        load_splits({"files": {"train": "train.jsonl", "validation": "dev.jsonl"}}, layout=task.layout)
    said = str(caught.value)
    place = "line 1" if fault == "a tag without a prefix" else f"line {2 * len(GOOD[kind]) + 1}"
    assert said.startswith(f"train.jsonl, {place}: "), said
    assert words in said


@pytest.mark.parametrize(
    ("task", "kind", "row", "words"),
    [
        (
            TAGS,
            "tags",
            {"tokens": ["Rome"], "tags": ["B-place"]},
            "validation has the label 'place' (dev.jsonl, line 2)",
        ),
        (
            LABELS,
            "labels",
            {"text": "c", "labels": ["joy", "rage"]},
            "validation has the label 'rage' (dev.jsonl, line 3)",
        ),
    ],
)
def test_a_label_that_no_training_row_has_is_named_with_its_place(
    task: Any, kind: str, row: dict[str, Any], words: str, write: Write, load_splits: Load
) -> None:
    write("train.jsonl", jsonl(GOOD[kind]))
    write("dev.jsonl", jsonl([*GOOD[kind], row]))
    files = {"files": {"train": "train.jsonl", "validation": "dev.jsonl"}}
    with pytest.raises(DataError) as caught:
        load_splits(files, layout=task.layout)
    assert words in str(caught.value)
    names = ("person", "place") if kind == "tags" else ("joy", "fear", "rage")
    declared = task.model_copy(update={"labels": names})
    assert len(load_splits(files, layout=declared.layout).train) == len(GOOD[kind])
    with pytest.raises(DataError, match=r"which task\.labels has not"):
        load_splits(files, layout=task.model_copy(update={"labels": names[:-1]}).layout)


@pytest.mark.parametrize("kind", ["tags", "answers", "choices"])
def test_a_table_of_texts_has_no_lists(kind: str, write: Write, load_splits: Load) -> None:
    task = {"tags": TAGS, "answers": ANSWERS, "choices": CHOICES}[kind]
    names = task.layout.columns
    write("a.tsv", "\t".join(names) + "\n" + "\t".join("x" for _ in names) + "\n")
    with pytest.raises(DataError, match=r"a\.tsv: .* (not a list of texts|not answers)"):
        load_splits({"files": {"train": "a.tsv", "validation": "a.tsv"}}, layout=task.layout)


def test_labels_may_stand_in_one_text(write: Write, load_splits: Load) -> None:
    write("a.tsv", "text\tlabels\none\tjoy, fear\ntwo\t\nthree\tfear,fear\n")
    splits = load_splits({"files": {"train": "a.tsv", "validation": "a.tsv"}}, layout=LABELS.layout)
    assert splits.train["labels"].to_pylist() == [["joy", "fear"], [], ["fear"]]
    assert LABELS.label_names(splits.train) == ("fear", "joy")


CONLL = "-DOCSTART- -X- O\n\nAnn\tB-person\nran\tO\n\n\nin\tO\nRome\tB-place\n"


def test_a_conll_file_is_read_sentence_by_sentence(write: Write) -> None:
    expected = [["Ann", "ran"], ["in", "Rome"]], [["B-person", "O"], ["O", "B-place"]]
    for name, text in {
        "tabs.conll": CONLL,
        "blanks.conll": CONLL.replace("\t", " "),
        "more.conll": CONLL.replace("\t", " NNP _ "),
        "windows.conll": CONLL.replace("\n", "\r\n"),
        "end.conll": CONLL.rstrip("\n"),
    }.items():
        split = read_file(write(name, text), ("tokens", "tags"))
        assert (split.table["tokens"].to_pylist(), split.table["tags"].to_pylist()) == expected, name
        assert [split.place(row) for row in range(2)] == ["line 3", "line 7"], name


def test_a_conll_line_without_a_tag_is_named(write: Write) -> None:
    with pytest.raises(DataError, match=r"a\.conll, line 2: 'ran' is not a word and its tag"):
        read_file(write("a.conll", "Ann O\nran\n"), ("tokens", "tags"))
    assert read_file(write("b.conll", "Ann\nran\n"), ("tokens",)).table["tokens"].to_pylist() == [["Ann", "ran"]]


def test_words_of_jsonl_parquet_and_conll_are_the_same_splits(write: Write, load_splits: Load, tmp_path: Path) -> None:
    rows = [{"tokens": ["Ann", "ran"], "tags": ["B-person", "O"]}, {"tokens": ["in", "Rome"], "tags": ["O", "B-place"]}]
    write("a.jsonl", jsonl(rows))
    write("a.conll", CONLL)
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    found = [
        load_splits({"files": {"train": f"a.{suffix}", "validation": f"a.{suffix}"}}, layout=TAGS.layout).digest
        for suffix in ("jsonl", "parquet", "conll")
    ]
    assert len(set(found)) == 1


def test_a_row_that_waits_for_an_answer_may_be_words_or_a_text(write: Write) -> None:
    asked = (Column("tokens", "words"),)
    lists = clean_columns(read_file(write("a.jsonl", jsonl(GOOD["tags"])), ("tokens",)), asked)
    text = clean_columns(read_file(write("a.tsv", "tokens\nAnn ran\n"), ("tokens",)), asked)
    assert (lists["tokens"].to_pylist(), text["tokens"].to_pylist()) == ([["Ann", "ran"]], ["Ann ran"])


def test_a_limit_and_a_cut_leave_training_rows_of_every_label(load_splits: Load, real_data: Path) -> None:
    files = {split: f"go_emotions/{split}.jsonl" for split in ("train", "validation")}
    data = {"files": files, "test": {"from": "train", "rows": 3_000}, "limit": {"train": 60, "validation": 50}}
    splits = load_splits(data, base=real_data, layout=LABELS.layout)
    counts = Counter(name for names in splits.train["labels"].to_pylist() for name in names)
    assert len(counts) == 28
    assert [own.rows for own in splits.records] == [60, 50, 3_000]
    again = load_splits(data, base=real_data, layout=LABELS.layout)
    assert again.digest == splits.digest
    assert load_splits(data | {"seed": 3}, base=real_data, layout=LABELS.layout).digest != splits.digest


@pytest.mark.parametrize(
    ("task", "name", "rows"),
    [
        (TokenClassification(tags="ner_tags"), "wnut17", [3_394, 1_009, 1_287]),
        (MultiLabel(text="text", label="labels"), "go_emotions", [43_410, 5_426, 5_427]),
    ],
)
def test_published_rows_are_all_there(
    task: Any, name: str, rows: list[int], load_splits: Load, real_data: Path
) -> None:
    files = {split: f"{name}/{split}.jsonl" for split in ("train", "validation", "test")}
    splits = load_splits({"files": files}, base=real_data, layout=task.layout)
    assert [own.rows for own in splits.records] == rows
    assert len(task.label_names(splits.train)) == (13 if name == "wnut17" else 28)


def test_lists_of_class_labels_of_the_hub_become_names() -> None:
    import datasets

    from hpo.data.hub import _table

    names = ["O", "B-person"]
    features = {"tokens": datasets.Sequence(datasets.Value("string"))}
    features["ner_tags"] = datasets.Sequence(datasets.ClassLabel(names=names))
    rows = datasets.Dataset.from_dict({"tokens": [["Ann", "ran"]], "ner_tags": [[1, 0]]}, datasets.Features(features))
    assert _table(rows, ("tokens", "ner_tags"), "ner_tags").to_pylist() == [
        {"tokens": ["Ann", "ran"], "ner_tags": ["B-person", "O"]}
    ]
