"""The relation of two entities of a text, which are marked in it: `[E1] Ada [/E1] wrote to [E2] Charles [/E2]`.

The markers become tokens of the model's own (Baldini Soares et al. 2019, ACL, entity markers), and the head reads [CLS]
(their variant d), since that is a head which `transformers` can load, serve and export; the states of [E1] and [E2]
joined (their f) were 1 to 2 points better there. Must not know models: `tokenize` is passed in.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hpo.columns import Column, Fault, Layout, Target
from hpo.errors import DataError
from hpo.tasks import reading
from hpo.tasks.contract import WHOLE_TEXTS, Answers, Score, Tokenize
from hpo.tasks.reading import Length, Name
from hpo.tasks.sequence_classification import SequenceClassification

if TYPE_CHECKING:
    import pyarrow as pa

    from hpo.encoded import Array, Encoded
    from hpo.records import Breakdown, Mistakes, Usage

MARKERS = ("[E1]", "[/E1]", "[E2]", "[/E2]")
"""Tokens of the model."""

POSITIVE = ("f1_micro_positive", "f1_macro_positive")
"""Metrics of what is not `negative`, see `relations`."""

WRITTEN = ("<e1>", "</e1>", "<e2>", "</e2>")
"""In a user's text, as SemEval-2010 task 8 has them."""


class RelationClassification(BaseModel):
    """`task: {type: relation-classification, text: sentence, label: relation}`.

    text: a column of texts with <e1>, </e1>, <e2> and </e2> in each; or without, and then first and second name columns
    with the first character of an entity and the one behind its last, [0, 3]. labels: the classes in the order of their
    ids. max_length: tokens, markers, [CLS] and [SEP] included. negative: the class that says that there is no relation
    (`Other`, `no_relation`), which f1_micro_positive and f1_macro_positive leave out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    head: ClassVar[str] = "AutoModelForSequenceClassification"
    pipeline: ClassVar[str | None] = None
    tuned: ClassVar[tuple[str, ...]] = ()
    markers: ClassVar[tuple[str, ...]] = MARKERS

    type: Literal["relation-classification"] = "relation-classification"
    text: Name = "text"
    first: Name | None = None
    second: Name | None = None
    label: Name = "label"
    max_length: Length = 128
    labels: Annotated[tuple[str, ...], Field(min_length=2)] | None = None
    negative: Name | None = None

    @model_validator(mode="after")
    def _columns_differ(self) -> Self:
        if (self.first is None) != (self.second is None):
            raise ValueError("first and second go together; name both columns of places, or none")
        names = [*(column.name for column in self.asked), self.label]
        if len(set(names)) < len(names):
            raise ValueError(f"one column is named twice ({', '.join(names)}); name different ones")
        return self

    @property
    def noun(self) -> str:
        return "a relation classification"

    @property
    def inert(self) -> frozenset[str]:
        """Beside what means nothing to classes: what would take marks away, or move them."""
        return self._classes.inert | (WHOLE_TEXTS - {"distillation_weight", "distillation_temperature"})

    @property
    def learns(self) -> Target:
        return "class"

    @property
    def asked(self) -> tuple[Column, ...]:
        places = [Column(name, "places") for name in (self.first, self.second) if name is not None]
        return (Column(self.text, "text"), *places)

    @property
    def layout(self) -> Layout:
        return Layout(self.asked, Column(self.label, "class"), self._asked_fault, names=lambda value: (value,))

    @property
    def metric_names(self) -> tuple[str, ...]:
        return (*self._classes.metric_names, *(POSITIVE if self.negative else ()))

    @property
    def default_metric(self) -> str:
        return "f1_macro_positive" if self.negative else "f1_macro"

    def check_metric(self, metric: str, labels: Sequence[str]) -> None:
        """DataError where `metric` has no meaning for so many classes."""
        self._classes.check_metric(metric, labels)

    def label_names(self, train: "pa.Table") -> tuple[str, ...]:
        labels = self._classes.label_names(train)
        if self.negative is not None and self.negative not in labels:
            raise DataError(
                f"task.negative: {self.negative} is not among the classes {', '.join(labels)}; name one of them"
            )
        return labels

    def head_config(self, labels: Sequence[str]) -> dict[str, Any]:
        return self._classes.head_config(labels)

    def encode(self, table: "pa.Table", labels: Sequence[str], tokenize: Tokenize) -> "Encoded":
        """As a classification of the marked texts; and flat `lost`, markers that are cut off."""
        import numpy as np
        import pyarrow as pa

        from hpo.encoded import Encoded

        marked = [_marked(text, spans) for text, spans in self._read(table)]
        texts = pa.table({self.text: pa.array(marked, pa.large_string())})
        if self.label in table.column_names:
            texts = texts.append_column(self.label, table[self.label])
        found = self._classes.encode(texts, labels, tokenize)
        wanted = tokenize(["".join(MARKERS)], None, self.max_length)["input_ids"][0][1:-1]
        ids = found.ragged["input_ids"]
        there = np.add.reduceat(np.isin(ids.values, wanted).astype(np.int64), ids.offsets[:-1])
        return Encoded(found.ragged, {**found.flat, "lost": len(MARKERS) - there})

    def notes(self, encoded: "Encoded") -> tuple[str, ...]:
        lost = int((encoded.flat["lost"] > 0).sum())
        if not lost:
            return ()
        return (f"{lost:,} of {len(encoded):,} texts lose a marker behind {self.max_length} tokens (task.max_length)",)

    def collate(self, encoded: "Encoded", features: "Array", pad_id: int) -> "dict[str, Array]":
        """One batch: input_ids, attention_mask (len(features), longest of them), labels (len(features),), int64."""
        return self._classes.collate(encoded, features, pad_id)

    def fed(self, encoded: "Encoded", pad_id: int, share: float, seed: int) -> None:
        """Rows stay what they are."""

    def compute_metrics(self, outputs: "Array", encoded: "Encoded", labels: Sequence[str]) -> dict[str, float]:
        """As for a classification, and those of `relations` where a class is `negative`. outputs: (rows, classes)."""
        import numpy as np

        from hpo.tasks import metrics, relations

        found = self._classes.compute_metrics(outputs, encoded, labels)
        if self.negative is None:
            return found
        if not np.isfinite(outputs).all():
            return found | dict.fromkeys(POSITIVE, float("nan"))
        return found | metrics.together(
            relations.figures, "[int64]", *self.evidence(outputs, encoded, labels, POSITIVE[0])
        )

    def evidence(
        self, outputs: "Array", encoded: "Encoded", labels: Sequence[str], metric: str
    ) -> "tuple[Array, Array]":
        """(rows,) each: class ids; or (rows, 2), answers as `relations` has them."""
        said, true = self._classes.evidence(outputs, encoded, labels, metric)
        if metric not in POSITIVE or self.negative is None:
            return said, true
        from hpo.tasks import relations

        return (
            relations.as_answers(said, labels, self.negative),
            relations.as_answers(true, labels, self.negative),
        )

    def plain(self, metric: str) -> Score:
        from hpo.tasks import relations

        return relations.PLAIN[metric] if metric in POSITIVE else self._classes.plain(metric)

    def breakdown(self, outputs: "Array", encoded: "Encoded", labels: Sequence[str]) -> "Breakdown | None":
        return self._classes.breakdown(outputs, encoded, labels)

    def mistakes(self, outputs: "Array", encoded: "Encoded", labels: Sequence[str], table: "pa.Table") -> "Mistakes":
        return self._classes.mistakes(outputs, encoded, labels, table)

    def class_outputs(self, outputs: "Array", encoded: "Encoded") -> "Array | None":
        return self._classes.class_outputs(outputs, encoded)

    def reason(self, output: "Array", labels: Sequence[str]) -> tuple[int, str]:
        return self._classes.reason(output, labels)

    def usage(self, labels: Sequence[str]) -> "Usage":
        from hpo.records import Usage

        row = '"one text with <e1>two</e1> marked <e2>entities</e2>"'
        if self.first is not None:
            row = f'{{"{self.text}": "...", "{self.first}": [0, 3], "{self.second}": [9, 12]}}'
        return Usage(
            what=f"the relation of two entities (column `{self.text}`, at most {self.max_length} tokens)",
            answer=f"one of {reading.some(labels)} and its probability",
            row=row,
            reply='{"prediction": "...", "score": 0.9}',
        )

    def predict(self, outputs: "Array", encoded: "Encoded", labels: Sequence[str], *, all_scores: bool) -> Answers:
        """prediction; score, its probability; with `all_scores` one for each class."""
        return self._classes.predict(outputs, encoded, labels, all_scores=all_scores)

    @property
    def _classes(self) -> SequenceClassification:
        """What is done once texts are marked."""
        return SequenceClassification(text=self.text, label=self.label, max_length=self.max_length, labels=self.labels)

    def _read(self, table: "pa.Table") -> "list[tuple[str, list[tuple[int, int]]]]":
        """Plain texts, and where both entities are; an odd number of places where they are not as they must be."""
        texts = table[self.text].to_pylist()
        if self.first is None or self.second is None:
            return [_parsed(text) for text in texts]
        places = zip(table[self.first].to_pylist(), table[self.second].to_pylist(), strict=True)
        return [(text, [tuple(own) for own in both]) for text, both in zip(texts, places, strict=True)]

    def _asked_fault(self, table: "pa.Table") -> Fault | None:
        for row, (text, spans) in enumerate(self._read(table)):
            if len(spans) != 2:
                return row, (
                    f"{self.text!r} has not each of {', '.join(WRITTEN)} once and in order; mark two entities, "
                    "or name columns of their places (task.first, task.second)"
                )
            for start, end in spans:
                if not 0 <= start < end <= len(text):
                    return row, f"[{start}, {end}] is no piece of a text of {len(text)} characters; correct it"
            (start, end), (other, last) = sorted(spans)
            if end > other:
                return row, f"[{start}, {end}] and [{other}, {last}] overlap; mark two entities"
        return None


def _parsed(text: str) -> "tuple[str, list[tuple[int, int]]]":
    """A text without its marks, and the places of both entities; none where the marks are not in order."""
    spans = []
    plain = text
    for opening, closing in (WRITTEN[:2], WRITTEN[2:]):
        if text.count(opening) != 1 or text.count(closing) != 1:
            return text, []
    found = sorted((text.index(mark), mark) for mark in WRITTEN)
    shift, places = 0, {}
    for place, mark in found:
        places[mark] = place - shift
        shift += len(mark)
        plain = plain.replace(mark, "", 1)
    for opening, closing in (WRITTEN[:2], WRITTEN[2:]):
        spans.append((places[opening], places[closing]))
    return plain, spans


def _marked(text: str, spans: "list[tuple[int, int]]") -> str:
    """With the model's markers around both entities. What looks like one in the text itself is taken out."""
    pairs = zip(spans, (MARKERS[:2], MARKERS[2:]), strict=True)
    marked, end = "", len(text)
    for (start, stop), (opening, closing) in sorted(pairs, reverse=True):
        marked = f"{opening} {_bare(text[start:stop])} {closing}{_bare(text[stop:end])}{marked}"
        end = start
    return _bare(text[:end]) + marked


def _bare(text: str) -> str:
    for marker in MARKERS:
        text = text.replace(marker, "")
    return text
