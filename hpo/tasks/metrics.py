"""Metrics, as `evaluate.Metric` classes: scikit-learn and scipy do the arithmetic, nothing comes from the network.

Importing this module is light; `evaluate` (six seconds of a core) is imported when the first metric is computed, once a
process, and not where trials compute them (`plainly`): there are many such processes, and the functions are the same.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import numpy as np

from hpo.encoded import Array

if TYPE_CHECKING:
    import evaluate

_is_plain = ContextVar("is_plain", default=False)


@contextmanager
def plainly() -> Iterator[None]:
    """Within it, the same functions are called with the same values, without `evaluate` in between."""
    token = _is_plain.set(True)
    try:
        yield
    finally:
        _is_plain.reset(token)


def compute(name: str, predictions: Array, references: Array) -> float:
    """One metric over all rows. predictions, references: (rows,), class ids or numbers."""
    value = "int64" if name in _CLASSIFICATION else "float64"
    return together(_named(name), value, predictions, references)[name]


def together(
    function: Callable[..., Mapping[str, float]],
    value: str,
    predictions: Array | Sequence[Any],
    references: Array | Sequence[Any],
    **options: Any,
) -> dict[str, float]:
    """All that `function(predictions, references, **options)` says, through `evaluate` or `plainly`.

    value: the type of a prediction and of a reference: `int64` for one a row, `[int64]` for a list a row, and so on.
    Texts are lists of Python's own.
    """
    if _is_plain.get():
        found = function(_typed(predictions, value), _typed(references, value), **options)
    else:
        found = _metric(function, value).compute(predictions=predictions, references=references, **options)
    return {name: float(figure) for name, figure in found.items()}


def plain(name: str) -> Callable[[Array, Array], float]:
    """What `compute` says, for thousands of resamples: without `evaluate`, and where scikit-learn takes its time over
    a few counts (1.6 ms for the F1 of 1,000 rows, 90 times as long as from the counts), without that."""
    return {**_CLASSIFICATION, **_REGRESSION, **_COUNTED}[name]


def accuracy(predictions: Array, references: Array) -> float:
    """Share of rows that are right."""
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(references, predictions))


def f1(predictions: Array, references: Array) -> float:
    """F1 of class 1, as GLUE has it for MRPC and QQP. 0.0 where that class is neither there nor predicted."""
    from sklearn.metrics import f1_score

    return float(f1_score(references, predictions, pos_label=1, zero_division=0.0))


def f1_macro(predictions: Array, references: Array) -> float:
    """Mean of the F1 of all classes that are there or predicted."""
    from sklearn.metrics import f1_score

    return float(f1_score(references, predictions, average="macro", zero_division=0.0))


def matthews_correlation(predictions: Array, references: Array) -> float:
    """Matthews correlation (CoLA), of any number of classes. 0.0 where one side is constant."""
    from sklearn.metrics import matthews_corrcoef

    if len(np.union1d(predictions, references)) < 2:
        return 0.0  # scikit-learn's answer as well, but with a warning
    return float(matthews_corrcoef(references, predictions))


def pearson(predictions: Array, references: Array) -> float:
    """Pearson correlation (STS-B). 0.0 where one side is constant: it is not defined there, and NaN would be taken
    for a training that diverged."""
    from scipy.stats import pearsonr

    return 0.0 if _is_constant(predictions, references) else float(pearsonr(predictions, references).statistic)


def spearmanr(predictions: Array, references: Array) -> float:
    """Spearman rank correlation (STS-B). 0.0 where one side is constant, as for `pearson`."""
    from scipy import stats

    return 0.0 if _is_constant(predictions, references) else float(stats.spearmanr(predictions, references).statistic)


def mse(predictions: Array, references: Array) -> float:
    """Mean squared error."""
    from sklearn.metrics import mean_squared_error

    return float(mean_squared_error(references, predictions))


def _is_constant(*columns: Array) -> bool:
    """Whether a column has one value only, or varies by no more than rounding (scipy's own threshold)."""
    for column in columns:
        values = column.astype(np.float64)
        if np.linalg.norm(values - values.mean()) <= 1e-13 * abs(values.mean()) or len(values) < 2:
            return True
    return False


_CLASSIFICATION: Mapping[str, Callable[[Array, Array], float]] = {
    "accuracy": accuracy,
    "f1": f1,
    "f1_macro": f1_macro,
    "matthews_correlation": matthews_correlation,
}
_REGRESSION: Mapping[str, Callable[[Array, Array], float]] = {"pearson": pearson, "spearmanr": spearmanr, "mse": mse}


CLASSIFICATION = tuple(_CLASSIFICATION)
REGRESSION = tuple(_REGRESSION)


def _confusion(predictions: Array, references: Array) -> Array:
    """(classes, classes): rows by what they are, columns by what was answered. For class ids, from 0 on."""
    predictions, references = predictions.astype(np.int64), references.astype(np.int64)
    classes = 1 + int(max(predictions.max(), references.max()))
    counts = np.bincount(classes * references + predictions, minlength=classes * classes)
    return counts.reshape(classes, classes).astype(np.float64)


def _f1_each(predictions: Array, references: Array) -> tuple[Array, Array]:
    """(F1, whether it is there or predicted) of each class, (classes,) both; 0.0 where it is not."""
    confusion = _confusion(predictions, references)
    both = confusion.sum(0) + confusion.sum(1)
    return 2.0 * confusion.diagonal() / np.maximum(both, 1.0), both > 0


def _counted_f1(predictions: Array, references: Array) -> float:
    each, _ = _f1_each(predictions, references)
    return float(each[1]) if len(each) > 1 else 0.0


def _counted_f1_macro(predictions: Array, references: Array) -> float:
    each, is_there = _f1_each(predictions, references)
    return float(each[is_there].mean())


def _counted_matthews(predictions: Array, references: Array) -> float:
    """Gorodkin 2004, as scikit-learn has it."""
    confusion = _confusion(predictions, references)
    answered, true, rows = confusion.sum(0), confusion.sum(1), confusion.sum()
    spread = (rows**2 - (answered**2).sum()) * (rows**2 - (true**2).sum())
    return float((confusion.trace() * rows - (answered * true).sum()) / np.sqrt(spread)) if spread > 0 else 0.0


_COUNTED: Mapping[str, Callable[[Array, Array], float]] = {
    "f1": _counted_f1,
    "f1_macro": _counted_f1_macro,
    "matthews_correlation": _counted_matthews,
}


@functools.cache
def _named(name: str) -> Callable[[Any, Any], Mapping[str, float]]:
    function = {**_CLASSIFICATION, **_REGRESSION}[name]

    def named(predictions: Any, references: Any) -> Mapping[str, float]:
        return {name: function(np.asarray(predictions), np.asarray(references))}

    named.__doc__ = function.__doc__
    return named


def _typed(column: Any, value: str) -> Any:
    """As `evaluate` hands it on."""
    return column if "string" in value else np.asarray(column, value.strip("[]"))


@functools.cache
def _metric(function: Callable[..., Mapping[str, float]], value: str) -> "evaluate.Metric":
    """`function` as a metric of `evaluate`; one a process."""
    import datasets
    import evaluate

    one = datasets.Value(value.strip("[]"))
    kind = datasets.Sequence(one) if value.startswith("[") else one

    class OwnMetric(evaluate.Metric):  # type: ignore[misc]
        def _info(self) -> "evaluate.MetricInfo":
            return evaluate.MetricInfo(
                description=function.__doc__ or function.__name__,
                citation="",
                inputs_description="predictions, references: one value or one list of them a row",
                features=datasets.Features({"predictions": kind, "references": kind}),
            )

        def _compute(self, predictions: Any, references: Any, **options: Any) -> Mapping[str, float]:
            return function(predictions, references, **options)

    OwnMetric.__name__ = function.__name__
    return OwnMetric(keep_in_memory=True)
