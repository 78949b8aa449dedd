"""One label for a sentence or a pair of sentences: a class, or a number (regression).

Must not know models (`tokenize` is passed in), files or trials.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hpo.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

    from hpo.encoded import Array, Encoded

Name = Annotated[str, Field(min_length=1)]

BLOCK = 2_000
"""Rows that are tokenised at a time."""


class Tokenize(Protocol):
    """`training` gives it: token ids with special tokens, truncated to max_length, not padded.

    Returns input_ids, and token_type_ids where the model has them: a list of ids for each row.
    """

    def __call__(self, texts: list[str], pairs: list[str] | None, max_length: int) -> dict[str, list[list[int]]]: ...


class SequenceClassification(BaseModel):
    """`task: {type: sequence-classification, text: sentence, label: label}`.

    text: one column, or two for sentence pairs. labels: the classes in the order of their ids; by default the order
    that the Hub gives, else the sorted labels of the training rows. max_length: tokens, [CLS] and [SEP] included;
    longer rows are truncated.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    head: ClassVar[str] = "AutoModelForSequenceClassification"
    pipeline: ClassVar[str] = "text-classification"

    type: Literal["sequence-classification"] = "sequence-classification"
    text: Name | tuple[Name, Name]
    label: Name
    max_length: Annotated[int, Field(ge=2, le=8192)] = 128
    problem_type: Literal["single_label_classification", "regression"] = "single_label_classification"
    labels: Annotated[tuple[str, ...], Field(min_length=2)] | None = None

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

    @property
    def texts(self) -> tuple[str, ...]:
        """The columns of text, one or two."""
        return (self.text,) if isinstance(self.text, str) else self.text

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that are needed: texts, then the label."""
        return (*self.texts, self.label)

    @property
    def label_kind(self) -> Literal["class", "number"]:
        return "number" if self.problem_type == "regression" else "class"

    @property
    def metric_names(self) -> tuple[str, ...]:
        """What `compute_metrics` can report. `f1` is of two classes only, see `check_metric`."""
        from hpo.tasks import metrics

        return metrics.REGRESSION if self.problem_type == "regression" else metrics.CLASSIFICATION

    @property
    def default_metric(self) -> str:
        return "pearson" if self.problem_type == "regression" else "accuracy"

    def mode_of(self, metric: str) -> Literal["min", "max"]:
        """`min` for mse and loss, else `max`."""
        from hpo.tasks import metrics

        return metrics.mode_of(metric)

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
                f"the column {self.label!r} has {len(used)} classes in train ({', '.join(used)}); two are the least"
            )
        if self.labels is not None:
            self._refuse_strangers(used, self.labels)
            return self.labels
        dictionary = getattr(column.chunk(0), "dictionary", None)
        if dictionary is not None:
            return tuple(str(name) for name in dictionary.to_pylist())
        return tuple(_sorted(used))

    def encode(self, table: "pa.Table", labels: Sequence[str], tokenize: Tokenize) -> "Encoded":
        """Ragged input_ids (for pairs token_type_ids, too); flat labels, int64 class ids or float32 numbers.

        labels: of `label_names`. Errors: DataError on a class that is not among them.
        """
        import numpy as np

        from hpo.encoded import Encoded, Ragged

        rows: dict[str, list[list[int]]] = {}
        for start in range(0, len(table), BLOCK):
            block = table.slice(start, BLOCK)
            texts, *pairs = (block[name].to_pylist() for name in self.texts)
            for name, ids in tokenize(texts, pairs[0] if pairs else None, self.max_length).items():
                rows.setdefault(name, []).extend(ids)
        kept = ("input_ids", "token_type_ids") if len(self.texts) == 2 else ("input_ids",)
        ragged = {name: Ragged.of(rows[name]) for name in kept if name in rows}
        values = table[self.label].to_pylist()
        if self.problem_type == "regression":
            return Encoded(ragged, {"labels": np.array(values, np.float32)})
        self._refuse_strangers(map(str, values), labels)
        ids_of = {name: number for number, name in enumerate(labels)}
        return Encoded(ragged, {"labels": np.array([ids_of[str(value)] for value in values], np.int64)})

    def collate(self, encoded: "Encoded", rows: "Array", pad_id: int) -> "dict[str, Array]":
        """One batch: input_ids, attention_mask and, for pairs, token_type_ids (len(rows), longest of them), int64;
        labels (len(rows),)."""
        import numpy as np

        ids = encoded.ragged["input_ids"]
        padded = ids.padded(rows, pad_id)
        mask = (np.arange(padded.shape[1]) < ids.lengths_of(rows)[:, None]).astype(np.int64)
        batch = {"input_ids": padded, "attention_mask": mask, "labels": encoded.flat["labels"][rows]}
        if "token_type_ids" in encoded.ragged:
            batch["token_type_ids"] = encoded.ragged["token_type_ids"].padded(rows, 0)
        return batch

    def predict(self, logits: "Array") -> "Array":
        """(rows,) from (rows, classes) or (rows, 1): class ids int64, or numbers."""
        import numpy as np

        if self.problem_type == "regression":
            numbers: Array = logits.reshape(len(logits))
            return numbers
        ids: Array = np.argmax(logits, axis=-1)
        return ids

    def compute_metrics(self, logits: "Array", references: "Array") -> dict[str, float]:
        """All metrics of `metric_names` over all rows; `f1` of two classes only. references: (rows,).

        Where a logit is not finite, so is no metric: the caller sees a training that diverged.
        """
        import numpy as np

        from hpo.tasks import metrics

        names = [name for name in self.metric_names if name != "f1" or logits.shape[-1] == 2]
        if not np.isfinite(logits).all():
            return dict.fromkeys(names, float("nan"))
        predictions = self.predict(logits)
        return {name: metrics.compute(name, predictions, references) for name in names}

    def _refuse_strangers(self, found: Iterable[str], labels: Sequence[str]) -> None:
        strange = sorted(set(found) - set(labels))
        if strange:
            raise DataError(
                f"the column {self.label!r} has the class {strange[0]!r}, which is not among {', '.join(labels)}; "
                "add it to task.labels, or remove its rows"
            )


def _sorted(names: set[str]) -> list[str]:
    """Numbers by size where all are numbers, else by name."""
    try:
        return sorted(names, key=lambda name: (float(name), name))
    except ValueError:
        return sorted(names)
