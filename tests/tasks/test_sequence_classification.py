import itertools
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError
from transformers import BertTokenizerFast

from hpo.answering import Model
from hpo.encoded import Encoded, Ragged
from hpo.errors import DataError
from hpo.tasks import reading
from hpo.tasks.sequence_classification import SequenceClassification

SINGLE = SequenceClassification(text="sentence", label="label")
PAIR = SequenceClassification(text=("sentence1", "sentence2"), label="label")
NUMBER = SequenceClassification(text=("sentence1", "sentence2"), label="label", problem_type="regression")


def tokenize(texts: list[str], pairs: list[str] | None, max_length: int) -> dict[str, list[list[int]]]:
    """A tokenizer of bytes: [CLS] is 1, [SEP] is 2."""
    rows = []
    for row, text in enumerate(texts):
        first, second = list(text.encode()), [*pairs[row].encode(), 2] if pairs else []
        rows.append(([1, *first, 2][: max_length - len(second)], second))
    ids = {"input_ids": [one + two for one, two in rows]}
    return ids | {"token_type_ids": [[0] * len(one) + [1] * len(two) for one, two in rows]}


def table(*labels: object) -> pa.Table:
    return pa.table({"sentence": [f"row {number}" for number in range(len(labels))], "label": list(labels)})


def truth(*labels: float) -> Encoded:
    return Encoded({"input_ids": Ragged.of([[1]] * len(labels))}, {"labels": np.array(labels)})


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["b", "a", "b"], ("a", "b")),
        (["10", "9", "-1"], ("-1", "9", "10")),
        (["1.5", "x"], ("1.5", "x")),
    ],
)
def test_class_ids_follow_the_sorted_labels_numbers_by_size(labels: list[str], names: tuple[str, ...]) -> None:
    assert SINGLE.label_names(table(*labels)) == names


def test_a_dictionary_column_keeps_its_order() -> None:
    column = pa.DictionaryArray.from_arrays(pa.array([1, 0, 1]), pa.array(["not_equivalent", "equivalent", "other"]))
    rows = table("", "", "").set_column(1, "label", column)
    assert SINGLE.label_names(rows) == ("not_equivalent", "equivalent", "other")
    encoded = SINGLE.encode(rows, SINGLE.label_names(rows), tokenize)
    assert encoded.flat["labels"].tolist() == [1, 0, 1]


def test_given_labels_are_kept_and_others_refused() -> None:
    task = SequenceClassification(text="sentence", label="label", labels=("b", "a", "c"))
    assert task.label_names(table("a", "b")) == ("b", "a", "c")
    with pytest.raises(DataError, match=r"the class 'd', which is not among b, a, c; add it to task\.labels"):
        task.label_names(table("a", "d"))


def test_one_class_is_refused() -> None:
    with pytest.raises(DataError, match="two are the least"):
        SINGLE.label_names(table("a", "a"))


def test_a_regression_has_no_classes() -> None:
    assert NUMBER.label_names(table(1.0, 1.0)) == ()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"text": "label"}, "one column twice"),
        ({"text": ("a", "a")}, "one column twice"),
        ({"labels": ("a", "a")}, "one class twice"),
        ({"labels": ("a",)}, "at least 2 items"),
        ({"labels": ("a", "b"), "problem_type": "regression"}, "no classes; remove them"),
        ({"max_length": 1}, "greater than or equal to 2"),
        ({"max_len": 9}, "Extra inputs"),
    ],
)
def test_a_task_that_cannot_work_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        SequenceClassification.model_validate({"text": "sentence", "label": "label", **changes})


def test_single_sentences_encode_to_ids_and_class_ids() -> None:
    encoded = SINGLE.encode(table("no", "yes", "no"), ("no", "yes"), tokenize)
    assert list(encoded.ragged) == ["input_ids"]
    assert encoded.ragged["input_ids"][2].tolist() == [1, *b"row 2", 2]
    assert encoded.flat["labels"].dtype == np.int64
    assert encoded.flat["labels"].tolist() == [0, 1, 0]


def test_many_rows_encode_in_their_order() -> None:
    encoded = SINGLE.encode(table(*("ab"[row % 2] for row in range(4_500))), ("a", "b"), tokenize)
    assert len(encoded) == 4_500
    assert encoded.ragged["input_ids"][4_321].tolist() == [1, *b"row 4321", 2]


def test_an_unknown_class_is_refused_when_encoding() -> None:
    with pytest.raises(DataError, match="the class 'maybe'"):
        SINGLE.encode(table("no", "maybe"), ("no", "yes"), tokenize)


def test_pairs_and_numbers_encode_and_pad_to_the_longest_of_the_batch() -> None:
    rows = pa.table({"sentence1": ["a", "abcd", "ab"], "sentence2": ["x", "y", "z"], "label": [1.5, 0.0, 5.0]})
    encoded = NUMBER.encode(rows, (), tokenize)
    batch = NUMBER.collate(encoded, np.array([2, 0]), pad_id=99)
    assert batch["input_ids"].tolist() == [[1, 97, 98, 2, 122, 2], [1, 97, 2, 120, 2, 99]]
    assert batch["token_type_ids"].tolist() == [[0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0]]
    assert batch["labels"].tolist() == [5.0, 1.5]
    assert {name: column.dtype for name, column in batch.items()} == {
        "input_ids": np.int64,
        "token_type_ids": np.int64,
        "attention_mask": np.int64,
        "labels": np.float32,
    }


def test_a_batch_is_that_of_transformers(real_data: Path) -> None:
    tokenizer = BertTokenizerFast(str(real_data / "bert-base-uncased" / "vocab.txt"))

    def of_bert(texts: list[str], pairs: list[str] | None, max_length: int) -> dict[str, list[list[int]]]:
        return dict(tokenizer(texts, pairs, truncation=True, max_length=max_length))

    texts = ["A short one.", "A somewhat longer sentence, which goes on and on.", "Third"]
    rows = pa.table({"sentence1": texts, "sentence2": texts[::-1], "label": ["0", "1", "0"]})
    task = PAIR.model_copy(update={"max_length": 16})
    batch = task.collate(task.encode(rows, ("0", "1"), of_bert), np.arange(3), tokenizer.pad_token_id)
    expected = tokenizer(texts, texts[::-1], truncation=True, max_length=16, padding=True, return_tensors="np")
    for name, column in expected.items():
        np.testing.assert_array_equal(batch[name], column)


def test_encoded_rows_come_back_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "train.arrow"
    encoded = SINGLE.encode(table("no", "yes"), ("no", "yes"), tokenize)
    encoded.save(path)
    batch = SINGLE.collate(Encoded.load(path), np.array([1, 0]), 0)
    assert batch["labels"].tolist() == [1, 0]


def test_metrics_of_two_classes_of_more_and_of_numbers() -> None:
    two = SINGLE.compute_metrics(np.array([[2.0, 1.0], [0.0, 3.0], [0.0, 1.0]]), truth(0, 1, 0), ("a", "b"))
    assert two == pytest.approx(
        {"accuracy": 2 / 3, "f1": 2 / 3, "f1_macro": 2 / 3, "matthews_correlation": 0.5}, abs=1e-9
    )
    three = SINGLE.compute_metrics(np.eye(3), truth(0, 1, 2), ("a", "b", "c"))
    assert three == {"accuracy": 1.0, "f1_macro": 1.0, "matthews_correlation": 1.0}
    numbers = NUMBER.compute_metrics(np.array([[1.0], [2.0], [4.0]]), truth(1.0, 2.0, 3.0), ())
    assert numbers["spearmanr"] == pytest.approx(1.0)
    assert numbers["mse"] == pytest.approx(1 / 3)
    assert set(two) == set(SINGLE.metric_names)
    assert set(numbers) == set(NUMBER.metric_names)


def test_logits_that_are_not_finite_give_no_finite_metric_and_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for bad in (np.nan, np.inf):
            for task, width in ((SINGLE, 2), (SINGLE, 3), (NUMBER, 1)):
                logits = np.ones((4, width))
                logits[1, 0] = bad
                found = task.compute_metrics(logits, truth(0, 1, 0, 1), ())
                assert found
                assert not any(map(np.isfinite, found.values()))


def test_defaults_are_metrics_of_the_task() -> None:
    for task in (SINGLE, NUMBER):
        assert task.default_metric in task.metric_names


def test_f1_of_three_classes_is_refused() -> None:
    SINGLE.check_metric("f1", ("a", "b"))
    with pytest.raises(DataError, match="use f1_macro"):
        SINGLE.check_metric("f1", ("a", "b", "c"))


def test_each_class_has_its_own_figures() -> None:
    logits = np.array([[2.0, 1.0], [2.0, 1.0], [0.0, 1.0], [2.0, 1.0]])
    found = SINGLE.breakdown(logits, truth(0, 0, 1, 1), ("ham", "spam"))
    assert found is not None
    assert found.heads == ("class", "precision", "recall", "f1", "rows", "most often taken for")
    ham, spam = found.rows
    assert ham == ("ham", pytest.approx(2 / 3), 1.0, pytest.approx(0.8), 2, "-")
    assert spam == ("spam", 1.0, 0.5, pytest.approx(2 / 3), 2, "ham (1)")
    assert NUMBER.breakdown(np.ones((2, 1)), truth(1.0, 2.0), ()) is None


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["a", float("nan")], "inputs, row 2: 'text' is null, not a text"),  # pandas writes a missing text so
        (["a", 5, "b", "c"], "inputs, row 2: 'text' is of another kind than before"),
        (["a", "b", "c", ["d"]], "inputs, row 4: 'text' is of another kind than before"),
    ],
)
def test_a_row_that_is_no_text_is_named(rows: list[object], words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=words):
        Model(tmp_path, SequenceClassification(text="text", label="label"), ("a", "b")).reply(rows)


@pytest.mark.parametrize(
    ("names", "ordered"),
    [
        (("10", "9", "-1"), ["-1", "9", "10"]),
        (("b", "10", "9"), ["10", "9", "b"]),
        (("nan", "2", "1", "10"), ["1", "10", "2", "nan"]),
        (("inf", "2", "1", "10"), ["1", "10", "2", "inf"]),
        (("1.0", "1", "01"), ["01", "1", "1.0"]),
    ],
)
def test_names_have_one_order_however_they_come(names: tuple[str, ...], ordered: list[str]) -> None:
    for own in itertools.permutations(names):
        assert reading.sorted_names(own) == ordered
