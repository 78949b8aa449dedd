"""Any number of labels for a text: each is decided by itself, by its probability and one threshold for all.

Must not know models (`tokenize` is passed in), files or trials.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hpo.columns import Column, Layout, Target
from hpo.errors import DataError
from hpo.tasks import reading
from hpo.tasks.contract import ONE_CLASS, Answers, Score, Tokenize
from hpo.tasks.reading import Length, Name

if TYPE_CHECKING:
    import pyarrow as pa

    from hpo.encoded import Array, Encoded
    from hpo.records import Breakdown, Mistakes, Usage

METRICS = (
    "f1_micro",
    "f1_macro",
    "f1_samples",
    "average_precision_micro",
    "average_precision_macro",
    "accuracy",
)


class MultiLabel(BaseModel):
    """`task: {type: multi-label-classification, text: text, label: labels}`.

    label: a column with a list of names in each row, or with one text in which `separator` stands between them. labels:
    all names in the order of their ids; by default the sorted ones of the training rows. average: the F1 that leads,
    and that the threshold is tuned for: `micro` counts every decision alike and is steady on few rows, `macro` counts
    every label alike, as the GoEmotions paper does. threshold: the probability from which on a label applies; where it
    is not given, each evaluation finds the best one on the validation rows, and the model keeps it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    head: ClassVar[str] = "AutoModelForSequenceClassification"
    pipeline: ClassVar[str | None] = None
    tuned: ClassVar[tuple[str, ...]] = ("threshold",)
    markers: ClassVar[tuple[str, ...]] = ()

    type: Literal["multi-label-classification"] = "multi-label-classification"
    text: Name
    label: Name
    max_length: Length = 128
    separator: Annotated[str, Field(min_length=1, max_length=8)] = ","
    labels: Annotated[tuple[str, ...], Field(min_length=2)] | None = None
    average: Literal["micro", "macro"] = "micro"
    threshold: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None

    @model_validator(mode="after")
    def _columns_differ(self) -> Self:
        if self.text == self.label:
            raise ValueError(f"text and label name one column ({self.text}); name different ones")
        if self.labels is not None and len(set(self.labels)) < len(self.labels):
            raise ValueError(f"labels has one name twice ({', '.join(self.labels)}); remove one")
        return self

    @property
    def noun(self) -> str:
        return "a multi-label classification"

    @property
    def inert(self) -> frozenset[str]:
        return reading.NOT_MASKED | frozenset({"label_smoothing_factor"}) | ONE_CLASS

    @property
    def learns(self) -> Target:
        return "classes"

    @property
    def asked(self) -> tuple[Column, ...]:
        return (Column(self.text, "text"),)

    @property
    def layout(self) -> Layout:
        label = Column(self.label, "classes", self.separator)
        return Layout(self.asked, label, names=lambda value: value, allowed=self.labels or ())

    @property
    def metric_names(self) -> tuple[str, ...]:
        return METRICS

    @property
    def default_metric(self) -> str:
        return f"f1_{self.average}"

    def check_metric(self, metric: str, labels: Sequence[str]) -> None:
        """All metrics are of any number of labels."""

    def label_names(self, train: "pa.Table") -> tuple[str, ...]:
        """`labels` where given, else the names of the training rows, sorted. DataError where there are fewer than 2."""
        used = {name for names in train[self.label].to_pylist() for name in names}
        if len(used) < 2:
            raise DataError(
                f"the column {self.label!r} has {len(used)} labels in train ({', '.join(used)}); two are the least; "
                f"add rows of another one, or correct task.separator ({self.separator!r} parts labels in a text)"
            )
        return self.labels or tuple(reading.sorted_names(used))

    def head_config(self, labels: Sequence[str]) -> dict[str, Any]:
        return {**reading.named(labels), "problem_type": "multi_label_classification"}

    def encode(self, table: "pa.Table", labels: Sequence[str], tokenize: Tokenize) -> "Encoded":
        """Ragged input_ids; flat labels (rows, labels), float32, 1.0 where a label applies."""
        import numpy as np

        from hpo.encoded import Encoded

        ragged = reading.encode_texts(table, (self.text,), self.max_length, tokenize)
        if self.label not in table.column_names:
            return Encoded(ragged, {})
        ids_of = {name: number for number, name in enumerate(labels)}
        marks = np.zeros((len(table), len(labels)), np.float32)
        for row, names in enumerate(table[self.label].to_pylist()):
            reading.refuse_strangers(self.label, names, labels)
            marks[row, [ids_of[name] for name in names]] = 1.0
        return Encoded(ragged, {"labels": marks})

    def notes(self, encoded: "Encoded") -> tuple[str, ...]:
        return ()

    def collate(self, encoded: "Encoded", features: "Array", pad_id: int) -> "dict[str, Array]":
        """One batch: input_ids, attention_mask (len(features), longest of them), int64; labels (len(features), labels),
        float32."""
        batch = reading.padded(encoded, features, pad_id)
        return batch | ({"labels": encoded.flat["labels"][features]} if "labels" in encoded.flat else {})

    def fed(self, encoded: "Encoded", pad_id: int, share: float, seed: int) -> None:
        """Rows stay what they are."""

    def compute_metrics(self, outputs: "Array", encoded: "Encoded", labels: Sequence[str]) -> dict[str, float]:
        """All metrics; and the threshold, where it was tuned on these rows. outputs: (rows, labels)."""
        import numpy as np

        from hpo.tasks import metrics
        from hpo.tasks.labelling import figures

        if not np.isfinite(outputs).all():
            return dict.fromkeys(METRICS, float("nan"))
        shares, truth = reading.sigmoid(outputs), encoded.labels
        threshold = self._threshold(shares, truth)
        found = metrics.together(figures, "[float64]", shares, truth.astype(np.float64), threshold=threshold)
        return found if self.threshold is not None else found | {"threshold": threshold}

    def evidence(
        self, outputs: "Array", encoded: "Encoded", labels: Sequence[str], metric: str
    ) -> "tuple[Array, Array]":
        """(rows, labels) each: probabilities for an average precision, else decisions 0 and 1; and the truth."""
        import numpy as np

        shares, truth = reading.sigmoid(outputs), encoded.labels
        decided = shares if metric.startswith("average_precision") else shares >= self._threshold(shares, truth)
        return decided.astype(np.float64), truth.astype(np.float64)

    def plain(self, metric: str) -> Score:
        from hpo.tasks import labelling

        return labelling.PLAIN[metric]

    def breakdown(self, outputs: "Array", encoded: "Encoded", labels: Sequence[str]) -> "Breakdown | None":
        from hpo.records import Breakdown
        from hpo.tasks import labelling

        shares, truth = reading.sigmoid(outputs), encoded.labels
        decided = shares >= self._threshold(shares, truth)
        rows = tuple((name, *figures) for name, figures in zip(labels, labelling.by_label(decided, truth), strict=True))
        return Breakdown(title="By label", heads=("label", "precision", "recall", "f1", "rows"), rows=rows)

    def mistakes(self, outputs: "Array", encoded: "Encoded", labels: Sequence[str], table: "pa.Table") -> "Mistakes":
        from hpo.tasks import mistakes

        threshold = self._threshold(reading.sigmoid(outputs), encoded.labels)
        return mistakes.of_labels(outputs, encoded.labels, threshold, labels, mistakes.texts_of(table))

    def reason(self, output: "Array", labels: Sequence[str]) -> tuple[int, str]:
        """The most probable label."""
        best = int(output.argmax())
        return best, labels[best]

    def usage(self, labels: Sequence[str]) -> "Usage":
        from hpo.records import Usage

        return Usage(
            what=f"multi-label classification of texts (column `{self.text}`, at most {self.max_length} tokens)",
            answer=f"those of {reading.some(labels)} that apply, from a probability of {self.threshold or 0.5:g} on",
            row='"one text"',
            reply='{"prediction": ["...", ...], "scores": [0.9, ...]}',
        )

    def predict(self, outputs: "Array", encoded: "Encoded", labels: Sequence[str], *, all_scores: bool) -> Answers:
        """prediction: the labels that apply, the most probable first; scores: their probabilities; with `all_scores`
        one column for each label."""
        import numpy as np

        shares = reading.sigmoid(outputs)
        threshold = 0.5 if self.threshold is None else self.threshold
        order = [[number for number in np.argsort(-row) if row[number] >= threshold] for row in shares]
        answers: Answers = {
            "prediction": [[labels[number] for number in own] for own in order],
            "scores": [reading.rounded(row[own]) for row, own in zip(shares, order, strict=True)],
        }
        if all_scores:
            answers |= {f"score_{name}": reading.rounded(shares[:, number]) for number, name in enumerate(labels)}
        return answers

    def _threshold(self, shares: "Array", truth: "Array") -> float:
        from hpo.tasks import labelling

        return self.threshold if self.threshold is not None else labelling.best_threshold(shares, truth, self.average)
