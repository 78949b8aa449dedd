import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk

from hpo.tasks import metrics

RANDOM = np.random.default_rng(3)
CLASSES = {classes: (RANDOM.integers(0, classes, 500), RANDOM.integers(0, classes, 500)) for classes in (2, 5)}
NUMBERS = RANDOM.normal(size=500).astype(np.float32), RANDOM.normal(size=500).astype(np.float32)


@pytest.mark.parametrize("classes", [2, 5])
def test_classification_metrics_are_those_of_scikit_learn(classes: int) -> None:
    predictions, references = CLASSES[classes]
    found = {name: metrics.compute(name, predictions, references) for name in metrics.CLASSIFICATION if name != "f1"}
    assert found == {
        "accuracy": sk.accuracy_score(references, predictions),
        "f1_macro": sk.f1_score(references, predictions, average="macro"),
        "matthews_correlation": sk.matthews_corrcoef(references, predictions),
    }


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=12))
def test_what_resamples_are_scored_by_says_the_same(rows: list[tuple[int, int]]) -> None:
    predictions, references = np.array(rows).T
    for name in metrics.CLASSIFICATION:
        if name != "f1" or max(predictions.max(), references.max()) < 2:  # which is one of two classes
            whole = metrics.compute(name, predictions, references)
            for numbers in ("int64", "float64"):
                found = metrics.plain(name)(predictions.astype(numbers), references.astype(numbers))
                assert found == pytest.approx(whole, abs=1e-12), name


def test_f1_is_that_of_class_one() -> None:
    predictions, references = CLASSES[2]
    hits = int(((predictions == 1) & (references == 1)).sum())
    assert metrics.compute("f1", predictions, references) == pytest.approx(
        2 * hits / ((predictions == 1).sum() + (references == 1).sum())
    )


def test_regression_metrics_are_those_of_scipy_and_scikit_learn() -> None:
    predictions, references = NUMBERS
    assert {name: metrics.compute(name, *NUMBERS) for name in metrics.REGRESSION} == pytest.approx(
        {
            "pearson": stats.pearsonr(predictions, references).statistic,
            "spearmanr": stats.spearmanr(predictions, references).statistic,
            "mse": sk.mean_squared_error(references, predictions),
        },
        rel=1e-5,
    )


@pytest.mark.parametrize("value", [0.0, 2.5, 1e-30, 0.1])
def test_constant_predictions_correlate_with_nothing_and_warn_of_nothing(value: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for constant in (np.full(500, value), np.full(500, value, np.float32)):
            assert metrics.compute("pearson", constant, NUMBERS[1]) == 0.0
            assert metrics.compute("spearmanr", constant, NUMBERS[1]) == 0.0
        for name in metrics.CLASSIFICATION:
            assert np.isfinite(metrics.compute(name, np.zeros(500, np.int64), CLASSES[2][1]))


def test_one_row_is_no_reason_to_fail() -> None:
    for name in metrics.CLASSIFICATION:
        assert np.isfinite(metrics.compute(name, np.array([1]), np.array([1])))
    for name in metrics.REGRESSION:
        assert np.isfinite(metrics.compute(name, np.array([1.0]), np.array([2.0])))
