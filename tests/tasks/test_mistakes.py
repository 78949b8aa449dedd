import numpy as np
import pyarrow as pa
import pytest

from hpo.tasks import mistakes

TEXTS = [f"text {row}" for row in range(5)]


def test_of_wrong_classes_the_surest_comes_first() -> None:
    outputs = np.log([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.3, 0.7], [0.5, 0.5]])
    found = mistakes.of_classes(outputs, np.array([0, 0, 0, 1, 0]), ("no", "yes"), TEXTS.__getitem__)
    assert found.wrong == 2
    assert [(own.row, own.text, own.truth, own.said) for own in found.rows] == [
        (1, "text 1", "no", "yes"),
        (2, "text 2", "no", "yes"),
    ]
    assert [own.score for own in found.rows] == pytest.approx([0.8, 0.6])


def test_of_numbers_the_largest_errors_come_first_whatever_their_sign() -> None:
    found = mistakes.of_numbers(np.array([1.0, 5.0, 2.5]), np.array([3.0, 4.5, 2.5]), TEXTS.__getitem__)
    assert [(own.row, own.score) for own in found.rows] == [(0, -2.0), (1, 0.5), (2, 0.0)]
    assert found.wrong is None


def test_of_labels_a_row_counts_by_its_surest_wrong_decision() -> None:
    outputs = np.log(np.array([[9.0, 1 / 4], [1 / 3, 4.0], [9.0, 1 / 9]]))  # odds
    truth = np.array([[0.0, 1.0], [1.0, 1.0], [1.0, 0.0]])
    found = mistakes.of_labels(outputs, truth, 0.5, ("joy", "fear"), TEXTS.__getitem__)
    assert [(own.row, own.truth, own.said) for own in found.rows] == [(0, "fear", "joy"), (1, "joy, fear", "fear")]
    assert [own.score for own in found.rows] == pytest.approx([0.9, 0.75])


def test_of_entities_the_missed_and_the_invented_count() -> None:
    table = pa.table({"tokens": [["Ada", "wrote", "to", "Charles"], ["a", "film"], ["Ada"]]})
    truth = [["B-person", "O", "O", "B-person"], ["O", "O"], ["B-person"]]
    said = [["O", "O", "O", "B-place"], ["B-place", "I-place"], ["B-person"]]
    found = mistakes.of_entities(said, truth, table)
    assert found.wrong == 2
    assert [(own.row, own.truth, own.said, own.score) for own in found.rows] == [
        (0, "person: Ada; person: Charles", "place: Charles", 3.0),
        (1, mistakes.NOTHING, "place: a film", 1.0),
    ]


def test_of_answers_those_with_the_fewest_shared_words_come_first() -> None:
    wanted = [["in Rome", "Rome"], ["1815"], []]
    found = mistakes.of_answers(["Rome", "in 1815", "never"], wanted, np.array([1.0, 2 / 3, 0.0]), TEXTS.__getitem__)
    assert [(own.row, own.truth, own.said) for own in found.rows] == [
        (2, mistakes.NOTHING, "never"),
        (1, "1815", "in 1815"),
    ]


def test_a_confusion_counts_each_row_once_at_its_place() -> None:
    outputs = np.eye(3)[[0, 0, 1, 2, 2]]
    found = mistakes.confusion(outputs, np.array([0, 1, 1, 2, 0]), ("a", "b", "c"))
    assert found.cells == ((0, 0, 1), (0, 2, 1), (1, 0, 1), (1, 1, 1), (2, 2, 1))


def test_texts_are_one_line_and_cut() -> None:
    table = pa.table({"question": ["who?"], "context": ["a\n b " + "c" * 3_000]})
    text = mistakes.texts_of(table)(0)
    assert text.startswith("question: who? · context: a\n b c")
    assert mistakes.shortened(text, 40) == "question: who? · context: a b " + "c" * 7 + "..."
    assert mistakes.texts_of(pa.table({"choices": [["one", "two"]]}))(0) == "one | two"
