"""The winner's answers on the test rows, looked at closely: where it is wrong, whether its probabilities can be
believed, which words some answers stand on, and what the same model says without any training. Must not judge, or know
how the model was found."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hpo.answering import Model
from hpo.encoded import OWNER, Array, Encoded
from hpo.errors import ModelError
from hpo.records import Answers, Confusion, Explained, Mistakes, Reliability, Review
from hpo.tasks import settled
from hpo.tasks.contract import HasClasses, HasMistakes, HasReasons

if TYPE_CHECKING:
    import pyarrow as pa


EACH = 3
"""Answers that are explained, of the wrong ones and of the right ones."""

LONGEST = 128
"""Tokens of a row that is explained: it costs as much as training on 50 such rows. Six of 9 to 25 tokens took MiniLM
4 s on a busy core."""


@dataclass(frozen=True)
class Asked:
    """A model, the rows that it was asked, its outputs as the task has them, and what became of them."""

    model: Model
    rows: Encoded
    outputs: Array
    answers: Answers


def review(asked: Asked, table: "pa.Table", validation: Path) -> Review:
    """table: the columns that a row is asked by, of the same rows. validation: the encoded rows that a temperature is
    fitted on."""
    mistakes = _mistakes(asked, table)
    confusion, reliability = _of_classes(asked, validation)
    explained, unexplained = _explained(asked, mistakes)
    return Review(
        mistakes=mistakes,
        confusion=confusion,
        reliability=reliability,
        explained=explained,
        unexplained=unexplained,
    )


def untrained(start: Model, rows: Encoded, validation: Path) -> dict[str, float]:
    """Metrics of a model that was not trained, on the same rows; what its task tunes is found on the validation rows,
    as for any other."""
    task, labels = start.task, start.labels
    if task.tuned:
        others = Encoded.load(validation)
        task = settled(task, task.compute_metrics(start.outputs(others), others, labels))
    return task.compute_metrics(start.outputs(rows), rows, labels)


def _mistakes(asked: Asked, table: "pa.Table") -> Mistakes | None:
    task = asked.model.task
    if not isinstance(task, HasMistakes):
        return None
    return task.mistakes(asked.outputs, asked.rows, asked.model.labels, table)


def _of_classes(asked: Asked, validation: Path) -> tuple[Confusion | None, Reliability | None]:
    from hpo.tasks import calibration, mistakes

    task = asked.model.task
    if not isinstance(task, HasClasses):
        return None, None
    outputs = task.class_outputs(asked.outputs, asked.rows)
    if outputs is None:
        return None, None
    others, truth = Encoded.load(validation), asked.rows.row_labels
    fitted_on = task.class_outputs(asked.model.outputs(others), others)
    assert fitted_on is not None
    return (
        mistakes.confusion(outputs, truth, asked.model.labels),
        calibration.reliability(outputs, truth, (fitted_on, others.row_labels)),
    )


def _explained(asked: Asked, mistakes: Mistakes | None) -> tuple[tuple[Explained, ...], str | None]:
    """The worst answers and some right ones, token by token; or why there are none."""
    if mistakes is None or not isinstance(asked.model.task, HasReasons):
        return (), None
    short = _short_features(asked.rows)
    wrong = {own.row: own.truth for own in mistakes.rows if own.row in short}
    worst = [*wrong][:EACH]
    good = _right(asked)
    right = [row for row in good if row in short and row not in worst]
    chosen = [*worst, *right[:: max(1, len(right) // EACH)][:EACH]]
    if not chosen:
        return (), f"no test row has {LONGEST} tokens or fewer, and longer ones take too long"
    try:
        return tuple(
            _explain(asked, row, short[row], wrong[row] if row in worst else good[row], is_right=row not in worst)
            for row in chosen
        ), None
    except ModelError as error:
        return (), str(error)


def _explain(asked: Asked, row: int, feature: int, truth: str | None, *, is_right: bool) -> Explained:
    """truth: None where it is what was said."""
    model, task, labels = asked.model, asked.model.task, asked.model.labels
    assert isinstance(task, HasReasons)
    output = asked.outputs[feature]
    number, name = task.reason(output, labels)
    pieces, logit, baseline = model.explain(asked.rows, feature, number)
    alone = asked.rows.take(np.array([feature]))
    said = _in_words(task.predict(output[None], alone, labels, all_scores=False)["prediction"][0])
    return Explained(
        row=row,
        truth=said if truth is None else truth,
        said=said,
        is_right=is_right,
        output=name,
        logit=logit,
        baseline=baseline,
        pieces=pieces,
    )


def _short_features(rows: Encoded) -> dict[int, int]:
    """By row its feature, where it has one alone and that one is short."""
    owners = np.arange(len(rows)) if rows.owners is None else rows.flat[OWNER]
    alone = np.bincount(owners, minlength=rows.rows)[owners] == 1
    short = rows.ragged["input_ids"].lengths <= LONGEST
    return {int(owners[feature]): int(feature) for feature in np.flatnonzero(alone & short)}


def _right(asked: Asked) -> dict[int, str | None]:
    """Rows that are answered right; of numbers the better half, with what they should be."""
    task, labels = asked.model.task, asked.model.labels
    by = "accuracy" if "accuracy" in task.metric_names else task.default_metric
    said, truth = task.evidence(asked.outputs, asked.rows, labels, by)
    errors = np.abs(said.astype(np.float64) - truth).reshape(len(truth), -1).sum(axis=-1)
    if by == "accuracy":
        return dict.fromkeys(map(int, np.flatnonzero(errors == 0.0)))
    return {int(row): f"{truth[row]:.6g}" for row in np.flatnonzero(errors <= np.median(errors))}


def _in_words(said: Any) -> str:
    if isinstance(said, list):
        return ", ".join(map(str, said)) or "(none)"
    return f"{said:.6g}" if isinstance(said, float) else str(said)
