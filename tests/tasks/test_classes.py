import numpy as np
import pytest

from hpo.tasks import SequenceClassification
from hpo.tasks.classes import HEADS, by_class, calibration_error


def test_every_class_says_how_well_it_is_found_and_what_it_is_taken_for() -> None:
    truth, said = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 1, 1, 1, 1, 0])
    rows = {row[0]: row[1:] for row in by_class(said, truth, ("a", "b", "c"))}
    assert rows["a"] == (0.5, pytest.approx(1 / 3), pytest.approx(0.4), 3, "b (2)")
    assert rows["b"] == (0.5, 1.0, pytest.approx(2 / 3), 2, "-")
    assert rows["c"] == (0.0, 0.0, 0.0, 1, "a (1)")
    assert all(len(row) + 1 == len(HEADS) for row in rows.values())


def test_probabilities_that_are_as_often_right_as_they_say_have_no_calibration_error() -> None:
    shares = np.array([[0.75, 0.25]] * 4)
    assert calibration_error(shares, np.array([0, 0, 0, 1])) == pytest.approx(0.0)
    assert calibration_error(shares, np.array([1, 1, 1, 1])) == pytest.approx(0.75)
    assert calibration_error(np.array([[1.0, 0.0]]), np.array([0])) == 0.0


def test_a_regression_has_no_classes() -> None:
    task = SequenceClassification(text="a", label="b", problem_type="regression")
    assert task.breakdown(np.zeros((2, 1)), None, ()) is None  # type: ignore[arg-type]
