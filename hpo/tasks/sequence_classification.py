"""One label for a sentence or a pair of sentences: a class, or a number (regression).

Must not know models (`tokenize` is passed in), files or trials.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hpo.columns import Column, Layout, Target
from hpo.errors import DataError
from hpo.tasks import long_texts, reading
from hpo.tasks.contract import ONE_CLASS, Answers, Score, Tokenize
from hpo.tasks.long_texts import Truncation
from hpo.tasks.reading import Length, Name

if TYPE_CHECKING:
    import pyarrow as pa

    from hpo.encoded import Array, Encoded
    from hpo.records import Breakdown, Mistakes, Usage


class SequenceClassification(BaseModel):
    """`task: {type: sequence-classification, text: sentence, label: label}`.

    text: one column, or two for sentence pairs. labels: the classes in the order of their ids; by default the order
    that the Hub gives, else the sorted labels of the training rows. max_length: tokens, [CLS] and [SEP] included.
    truncation: what becomes of longer rows (`long_texts`); doc_stride: tokens that two windows share.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    head: ClassVar[str] = "AutoModelForSequenceClassification"
    tuned: ClassVar[tuple[str, ...]] = ()
    markers: ClassVar[tuple[str, ...]] = ()

    type: Literal["sequence-classification"] = "sequence-classification"
    text: Name | tuple[Name, Name]
    label: Name
    max_length: Length = 128
    problem_type: Literal["single_label_classification", "regression"] = "single_label_classification"
    labels: Annotated[tuple[str, ...], Field(min_length=2)] | None = None
    truncation: Annotated[Truncation, Field(exclude_if=lambda value: value == "head")] = "head"
    doc_stride: Annotated[int, Field(ge=0, exclude_if=lambda value: value == 0)] = 0

    @model_validator(mode="after")
    def _columns_differ(self) -> Self:
        if len(set(self.columns)) < len(self.columns):
            raise ValueError(f"text and label name one column twice ({', '.join(self.columns)}); name different ones")
        return self

    @model_validator(mode="after")
    def _labels_are_classes(self) -> Self:
        if self.labels is None:
            return self
        if self.problem_type == "regression":
            raise ValueError("labels given for a regression, which has no classes; remove them")
        if len(set(self.labels)) < len(self.labels):
            raise ValueError(f"labels has one class twice ({', '.join(self.labels)}); remove one")
        return self

    @model_validator(mode="after")
    def _truncation_is_possible(self) -> Self:
        if self.truncation != "head" and not isinstance(self.text, str):
            raise ValueError(f"truncation: {self.truncation} is of one text, and these are pairs; write head")
        if self.doc_stride and self.truncation != "windows":
            raise ValueError(f"doc_stride is of windows, and truncation is {self.truncation}; remove it")
        if self.doc_stride >= self.max_length - 2:
            raise ValueError(
                f"doc_stride={self.doc_stride} leaves no new tokens in windows of {self.max_length}; lower it"
            )
        return self

    @property
    def pipeline(self) -> str | None:
        """That of transformers cuts texts at the end, whatever is asked for."""
        return "text-classification" if self.truncation == "head" else None

    @property
    def texts(self) -> tuple[str, ...]:
        """The columns of text, one or two."""
        return (self.text,) if isinstance(self.text, str) else self.text

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that are needed: texts, then the label."""
        return (*self.texts, self.label)

    @property
    def is_regression(self) -> bool:
        return self.problem_type == "regression"

    @property
    def noun(self) -> str:
        return "a regression" if self.is_regression else "a classification"

    @property
    def inert(self) -> frozenset[str]:
        of_classes = frozenset({"loss", "focal_gamma", "label_smoothing_factor"}) | ONE_CLASS
        return reading.NOT_MASKED | of_classes if self.is_regression else reading.NOT_MASKED

    @property
    def learns(self) -> Target:
        return "number" if self.is_regression else "class"

    @property
    def asked(self) -> tuple[Column, ...]:
        return tuple(Column(name, "text") for name in self.texts)

    @property
    def layout(self) -> Layout:
        if self.is_regression:
            return Layout(self.asked, Column(self.label, "number"))
        return Layout(self.asked, Column(self.label, "class"), names=lambda value: (value,))

    @property
    def metric_names(self) -> tuple[str, ...]:
        """What `compute_metrics` can report. `f1` is of two classes only, see `check_metric`."""
        from hpo.tasks import metrics

        return metrics.REGRESSION if self.problem_type == "regression" else metrics.CLASSIFICATION

    @property
    def default_metric(self) -> str:
        return "pearson" if self.problem_type == "regression" else "accuracy"

    def check_metric(self, metric: str, labels: Sequence[str]) -> None:
        """DataError where `metric` has no meaning for so many classes."""
        if metric == "f1" and len(labels) != 2:
            raise DataError(
                f"search.metric: f1 is of two classes, and the column {self.label!r} has {len(labels)}; use f1_macro"
            )

    def label_names(self, train: "pa.Table") -> tuple[str, ...]:
        """The classes in the order of their ids; () for a regression.

        `labels` where given; else the order of a dictionary column (which is the Hub's); else sorted, numbers by size.
        Errors: DataError where train has a class that `labels` has not, or one class only.
        """
        if self.problem_type == "regression":
            return ()
        column = train[self.label]
        used = {str(value) for value in column.unique().to_pylist()}
        if len(used) < 2:
            raise DataError(
                f"the column {self.label!r} has {len(used)} classes in train ({', '.join(used)}); two are the least; "
                "add rows of another one"
            )
        if self.labels is not None:
            reading.refuse_strangers(self.label, used, self.labels)
            return self.labels
        dictionary = getattr(column.chunk(0), "dictionary", None)
        if dictionary is not None:
            return tuple(str(name) for name in dictionary.to_pylist())
        return tuple(reading.sorted_names(used))

    def head_config(self, labels: Sequence[str]) -> dict[str, Any]:
        if self.is_regression:
            return {"num_labels": 1, "problem_type": "regression"}
        return {**reading.named(labels), "problem_type": "single_label_classification"}

    def encode(self, table: "pa.Table", labels: Sequence[str], tokenize: Tokenize) -> "Encoded":
        """Ragged input_ids (for pairs token_type_ids, too); flat labels, int64 class ids or float32 numbers. A row is
        one feature, or of windows as many as it has.

        labels: of `label_names`. Errors: DataError on a class that is not among them.
        """
        import numpy as np

        from hpo.encoded import Encoded

        if self.truncation == "head":
            encoded = Encoded(reading.encode_texts(table, self.texts, self.max_length, tokenize), {})
        else:
            texts = table[self.texts[0]].to_pylist()
            encoded = long_texts.encode(texts, self.max_length, self.truncation, self.doc_stride, tokenize)
        if self.label not in table.column_names:
            return encoded
        values = table[self.label].to_pylist()
        if self.is_regression:
            return encoded.labelled(np.array(values, np.float32))
        names = [str(value) for value in values]
        reading.refuse_strangers(self.label, names, labels)
        ids_of = {name: number for number, name in enumerate(labels)}
        return encoded.labelled(np.array([ids_of[name] for name in names], np.int64))

    def notes(self, encoded: "Encoded") -> tuple[str, ...]:
        if encoded.owners is None:
            return ()
        return (f"{encoded.rows:,} texts make {len(encoded):,} windows of at most {self.max_length} tokens",)

    def collate(self, encoded: "Encoded", features: "Array", pad_id: int) -> "dict[str, Array]":
        """One batch: input_ids, attention_mask and, for pairs, token_type_ids (len(features), longest of them), int64;
        labels (len(features),)."""
        batch = reading.padded(encoded, features, pad_id)
        return batch | ({"labels": encoded.flat["labels"][features]} if "labels" in encoded.flat else {})

    def fed(self, encoded: "Encoded", pad_id: int, share: float, seed: int) -> None:
        """Rows stay what they are."""

    def compute_metrics(self, outputs: "Array", encoded: "Encoded", labels: Sequence[str]) -> dict[str, float]:
        """All metrics of `metric_names` over all rows; `f1` of two classes only. outputs: (rows, classes) or (rows, 1).

        Where an output is not finite, so is no metric: the caller sees a training that diverged.
        """
        import numpy as np

        from hpo.tasks import metrics

        names = [name for name in self.metric_names if name != "f1" or outputs.shape[-1] == 2]
        if not np.isfinite(outputs).all():
            return dict.fromkeys(names, float("nan"))
        predictions = self._predict(outputs, encoded)
        return {name: metrics.compute(name, predictions, encoded.row_labels) for name in names}

    def evidence(
        self, outputs: "Array", encoded: "Encoded", labels: Sequence[str], metric: str
    ) -> "tuple[Array, Array]":
        """(rows,) each: class ids, or numbers."""
        return self._predict(outputs, encoded), encoded.row_labels

    def plain(self, metric: str) -> Score:
        from hpo.tasks import metrics

        return metrics.plain(metric)

    def breakdown(self, outputs: "Array", encoded: "Encoded", labels: Sequence[str]) -> "Breakdown | None":
        """By class, with what it is most often taken for; and how far the probabilities can be believed."""
        if self.is_regression:
            return None
        from hpo.records import Breakdown
        from hpo.tasks import classes
        from hpo.tasks.long_texts import pooled

        truth = encoded.row_labels
        rows = classes.by_class(self._predict(outputs, encoded), truth, labels)
        error = classes.calibration_error(reading.softmax(pooled(outputs, encoded)), truth)
        title = f"By class (probabilities are off by {100 * error:.1f} points on average: calibration error)"
        return Breakdown(title=title, heads=classes.HEADS, rows=rows)

    def mistakes(self, outputs: "Array", encoded: "Encoded", labels: Sequence[str], table: "pa.Table") -> "Mistakes":
        """The surest wrong answers, or the largest errors."""
        from hpo.tasks import mistakes

        found, text = long_texts.pooled(outputs, encoded), mistakes.texts_of(table)
        if self.is_regression:
            return mistakes.of_numbers(found.reshape(len(found)), encoded.row_labels, text)
        return mistakes.of_classes(found, encoded.row_labels, labels, text)

    def class_outputs(self, outputs: "Array", encoded: "Encoded") -> "Array | None":
        return None if self.is_regression else long_texts.pooled(outputs, encoded)

    def reason(self, output: "Array", labels: Sequence[str]) -> tuple[int, str]:
        return (0, "the number") if self.is_regression else (best := int(output.argmax()), labels[best])

    def usage(self, labels: Sequence[str]) -> "Usage":
        from hpo.records import Usage

        pairs = len(self.texts) == 2
        columns = " and ".join(f"`{column}`" for column in self.texts)
        of = f"{'pairs of texts' if pairs else 'texts'} (columns {columns}, {self._reads})"
        return Usage(
            what=f"sequence classification of {of}",
            answer=f"one of {reading.some(labels)} and its probability" if labels else "a number, as `score`",
            row='{"text": "one", "text_pair": "other"}' if pairs else '"one text"',
            reply='{"label": ..., "score": ...}' if self.pipeline else '{"prediction": ..., "score": ...}',
        )

    def predict(self, outputs: "Array", encoded: "Encoded", labels: Sequence[str], *, all_scores: bool) -> Answers:
        """prediction; for classes also score, its probability, and with `all_scores` one for each class."""
        predictions = self._predict(outputs, encoded)
        if self.is_regression:
            return {"prediction": [float(value) for value in predictions]}
        return reading.class_answers(predictions, long_texts.pooled(outputs, encoded), labels, all_scores=all_scores)

    @property
    def _reads(self) -> str:
        match self.truncation:
            case "head":
                return f"at most {self.max_length} tokens"
            case "tail":
                return f"the last {self.max_length} tokens"
            case "head_tail":
                return f"{self.max_length} tokens, a quarter of them from the beginning"
            case "windows":
                return f"windows of {self.max_length} tokens, the mean of their logits"

    def _predict(self, outputs: "Array", encoded: "Encoded") -> "Array":
        """(rows,) from (features, classes) or (features, 1): class ids int64, or numbers."""
        import numpy as np

        outputs = long_texts.pooled(outputs, encoded)
        if self.is_regression:
            numbers: Array = outputs.reshape(len(outputs))
            return numbers
        ids: Array = np.argmax(outputs, axis=-1)
        return ids
