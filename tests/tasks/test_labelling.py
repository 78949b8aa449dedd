import numpy as np
import pytest
from sklearn import metrics as sk

from hpo.tasks import MultiLabel, labelling

DRAW = np.random.default_rng(2)
SHARES = DRAW.random((200, 6)).round(2)
TRUTH = (DRAW.random((200, 6)) < 0.3).astype(np.float64)
TRUTH[:, 5] = 0.0
DECIDED = (SHARES >= 0.6).astype(np.float64)


def test_metrics_are_those_of_scikit_learn() -> None:
    found = labelling.figures(SHARES, TRUTH, threshold=0.6)
    there = TRUTH[:, :5], SHARES[:, :5]
    assert found == pytest.approx(
        {
            "f1_micro": sk.f1_score(TRUTH, DECIDED, average="micro"),
            "f1_macro": sk.f1_score(TRUTH, DECIDED, average="macro", zero_division=0.0),
            "f1_samples": sk.f1_score(TRUTH, DECIDED, average="samples", zero_division=0.0),
            "average_precision_micro": sk.average_precision_score(TRUTH, SHARES, average="micro"),
            "average_precision_macro": sk.average_precision_score(*there, average="macro"),
            "accuracy": sk.accuracy_score(TRUTH, DECIDED),
        }
    )
    precision, recall, f1, rows = sk.precision_recall_fscore_support(TRUTH, DECIDED, zero_division=0.0)
    assert np.array(labelling.by_label(DECIDED, TRUTH)) == pytest.approx(
        np.stack([precision, recall, f1, rows], axis=1)
    )


def test_nothing_there_and_nothing_said_is_no_reason_to_fail() -> None:
    nothing = np.zeros((3, 2))
    found = labelling.figures(nothing, nothing, threshold=0.5)
    assert found.pop("accuracy") == 1.0
    assert set(found.values()) == {0.0}


@pytest.mark.parametrize("average", ["micro", "macro"])
def test_the_threshold_is_the_best_of_all_that_are_tried(average: str) -> None:
    truth = (SHARES + DRAW.normal(scale=0.2, size=SHARES.shape) > 0.7).astype(np.float64)
    score = {"micro": labelling.f1_micro, "macro": labelling.f1_macro}[average]
    best = labelling.best_threshold(SHARES, truth, average)
    reached = score((best <= SHARES).astype(np.float64), truth)
    assert all(reached >= score((one <= SHARES).astype(np.float64), truth) for one in labelling.CANDIDATES)
    assert 0.4 < best < 0.9


def test_where_any_threshold_serves_the_middle_one_is_taken() -> None:
    assert labelling.best_threshold(np.array([[0.0, 1.0]]), np.array([[0.0, 1.0]]), "micro") == 0.5


def test_a_threshold_of_the_file_is_kept_and_a_tuned_one_goes_with_the_model() -> None:
    fixed = MultiLabel(text="text", label="labels", threshold=0.3)
    from hpo.tasks import settled

    assert settled(fixed, {"threshold": 0.7}).threshold == 0.3
    assert settled(MultiLabel(text="text", label="labels"), {"threshold": 0.7, "f1_micro": 0.1}).threshold == 0.7
