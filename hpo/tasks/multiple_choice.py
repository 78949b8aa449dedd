"""The right one of several choices for a text (SWAG).

Must not know models (`tokenize` is passed in), files or trials.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hpo.columns import Column, Fault, Layout, Target
from hpo.tasks import reading
from hpo.tasks.contract import ONE_CLASS, WHOLE_TEXTS, Answers, Score, Tokenize
from hpo.tasks.reading import Length, Name

if TYPE_CHECKING:
    import pyarrow as pa

    from hpo.encoded import Array, Encoded
    from hpo.records import Breakdown, Mistakes, Usage


class MultipleChoice(BaseModel):
    """`task: {type: multiple-choice, context: sent1, stem: sent2, choices: [ending0, ending1, ending2, ending3]}`.

    Each choice is read as a pair: the context, and the stem with the choice behind it. choices: a column with a list of
    as many texts in every row, or one column for each. stem: a column of beginnings that all choices of a row go on
    from. label: the number of the right choice, from 0 on. max_length: tokens of a pair, [CLS] and [SEP] included.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    head: ClassVar[str] = "AutoModelForMultipleChoice"
    pipeline: ClassVar[str | None] = None
    tuned: ClassVar[tuple[str, ...]] = ()
    markers: ClassVar[tuple[str, ...]] = ()

    type: Literal["multiple-choice"] = "multiple-choice"
    context: Name = "context"
    stem: Name | None = None
    choices: Name | Annotated[tuple[Name, ...], Field(min_length=2)] = "choices"
    label: Name = "label"
    max_length: Length = 128

    @model_validator(mode="after")
    def _columns_differ(self) -> Self:
        names = [*(column.name for column in self.asked), self.label]
        if len(set(names)) < len(names):
            raise ValueError(f"one column is named twice ({', '.join(names)}); name different ones")
        return self

    @property
    def noun(self) -> str:
        return "a multiple choice"

    @property
    def inert(self) -> frozenset[str]:
        """Classes are places among the choices."""
        return reading.NOT_MASKED | ONE_CLASS | WHOLE_TEXTS

    @property
    def learns(self) -> Target:
        return "class"

    @property
    def asked(self) -> tuple[Column, ...]:
        names = [self.context, *([self.stem] if self.stem else [])]
        if isinstance(self.choices, str):
            return (*(Column(name, "text") for name in names), Column(self.choices, "texts"))
        return tuple(Column(name, "text") for name in (*names, *self.choices))

    @property
    def layout(self) -> Layout:
        label = Column(self.label, "class")
        return Layout(self.asked, label, self._asked_fault, self._fault, names=lambda value: (value,))

    @property
    def metric_names(self) -> tuple[str, ...]:
        return ("accuracy",)

    @property
    def default_metric(self) -> str:
        return "accuracy"

    def check_metric(self, metric: str, labels: Sequence[str]) -> None:
        """There is one metric, of any number of choices."""

    def label_names(self, train: "pa.Table") -> tuple[str, ...]:
        """The numbers of the choices."""
        return tuple(str(number) for number in range(len(self._choices(train.slice(0, 1))[0])))

    def head_config(self, labels: Sequence[str]) -> dict[str, Any]:
        return {}

    def encode(self, table: "pa.Table", labels: Sequence[str], tokenize: Tokenize) -> "Encoded":
        """Ragged input_ids and token_type_ids, the choices of a row one after the other, and `lengths`, of each; flat
        labels, int64."""
        import numpy as np

        from hpo.encoded import Encoded, Ragged

        rows: dict[str, list[list[int]]] = {"lengths": []}
        for start in range(0, len(table), reading.BLOCK):
            block = table.slice(start, reading.BLOCK)
            choices = self._choices(block)
            stems = block[self.stem].to_pylist() if self.stem else [""] * len(block)
            texts = block[self.context].to_pylist()
            first = [text for text, own in zip(texts, choices, strict=True) for _ in own]
            second = [f"{stem} {one}".strip() for stem, own in zip(stems, choices, strict=True) for one in own]
            found = tokenize(first, second, self.max_length)
            ends = np.cumsum([len(own) for own in choices])
            for name, values in found.items():
                parts = [values[end - len(own) : end] for end, own in zip(ends, choices, strict=True)]
                rows.setdefault(name, []).extend([[one for part in row for one in part] for row in parts])
                if name == "input_ids":
                    rows["lengths"] += [[len(part) for part in row] for row in parts]
        ragged = {name: Ragged.of(values) for name, values in rows.items()}
        if self.label not in table.column_names:
            return Encoded(ragged, {})
        return Encoded(ragged, {"labels": np.array([int(value) for value in table[self.label].to_pylist()], np.int64)})

    def notes(self, encoded: "Encoded") -> tuple[str, ...]:
        return ()

    def collate(self, encoded: "Encoded", features: "Array", pad_id: int) -> "dict[str, Array]":
        """One batch: input_ids, attention_mask and token_type_ids (len(features), choices, longest of them), labels
        (len(features),), int64."""
        import numpy as np

        lengths = encoded.ragged["lengths"].padded(features, 0)
        longest = int(lengths.max(initial=0))
        mask = np.arange(longest) < lengths[:, :, None]
        batch: dict[str, Array] = {"attention_mask": mask.astype(np.int64)}
        for name, fill in (("input_ids", pad_id), ("token_type_ids", 0)):
            if name in encoded.ragged:
                batch[name] = np.full(mask.shape, fill, np.int64)
                batch[name][mask] = encoded.ragged[name].take(features).values
        return batch | ({"labels": encoded.flat["labels"][features]} if "labels" in encoded.flat else {})

    def fed(self, encoded: "Encoded", pad_id: int, share: float, seed: int) -> None:
        """Rows stay what they are."""

    def compute_metrics(self, outputs: "Array", encoded: "Encoded", labels: Sequence[str]) -> dict[str, float]:
        """accuracy. outputs: (rows, choices)."""
        import numpy as np

        from hpo.tasks import metrics

        if not np.isfinite(outputs).all():
            return {"accuracy": float("nan")}
        return {"accuracy": metrics.compute("accuracy", outputs.argmax(axis=-1), encoded.labels)}

    def evidence(
        self, outputs: "Array", encoded: "Encoded", labels: Sequence[str], metric: str
    ) -> "tuple[Array, Array]":
        """(rows,) each: numbers of choices."""
        return outputs.argmax(axis=-1), encoded.labels

    def plain(self, metric: str) -> Score:
        from hpo.tasks import metrics

        return metrics.plain(metric)

    def breakdown(self, outputs: "Array", encoded: "Encoded", labels: Sequence[str]) -> "Breakdown | None":
        return None

    def mistakes(self, outputs: "Array", encoded: "Encoded", labels: Sequence[str], table: "pa.Table") -> "Mistakes":
        from hpo.tasks import mistakes

        return mistakes.of_classes(outputs, encoded.labels, labels, mistakes.texts_of(table))

    def class_outputs(self, outputs: "Array", encoded: "Encoded") -> "Array":
        return outputs

    def usage(self, labels: Sequence[str]) -> "Usage":
        from hpo.records import Usage

        parts = [f'"{one.name}": {"[...]" if one.kind == "texts" else chr(34) + "..." + chr(34)}' for one in self.asked]
        columns = ", ".join(f"`{column.name}`" for column in self.asked)
        return Usage(
            what=f"choosing one of {len(labels)} (columns {columns}, at most {self.max_length} tokens a choice)",
            answer="the number of the best choice, from 0 on, and its probability",
            row=f"{{{', '.join(parts)}}}",
            reply='{"prediction": 2, "score": 0.9}',
        )

    def predict(self, outputs: "Array", encoded: "Encoded", labels: Sequence[str], *, all_scores: bool) -> Answers:
        """prediction: the number of the choice; score: its probability; with `all_scores` choice_scores, of all."""
        shares = reading.softmax(outputs)
        answers: Answers = {
            "prediction": [int(number) for number in shares.argmax(axis=-1)],
            "score": reading.rounded(shares.max(axis=-1)),
        }
        return answers | ({"choice_scores": [reading.rounded(row) for row in shares]} if all_scores else {})

    def _choices(self, table: "pa.Table") -> list[list[str]]:
        if isinstance(self.choices, str):
            listed: list[list[str]] = table[self.choices].to_pylist()
            return listed
        return [list(row) for row in zip(*(table[name].to_pylist() for name in self.choices), strict=True)]

    def _asked_fault(self, table: "pa.Table") -> Fault | None:
        """A batch is as wide as its widest row: in others, choices that are not there could be the best."""
        choices = self._choices(table)
        count = len(choices[0])
        for row, own in enumerate(choices):
            if len(own) != count or count < 2:
                return row, f"{len(own)} choices, where the first row has {count}; give all rows as many, two at least"
        return None

    def _fault(self, table: "pa.Table") -> Fault | None:
        for row, (own, label) in enumerate(zip(self._choices(table), table[self.label].to_pylist(), strict=True)):
            if label not in map(str, range(len(own))):
                return row, f"the label {label!r} is no number of a choice; write 0 to {len(own) - 1}"
        return None
