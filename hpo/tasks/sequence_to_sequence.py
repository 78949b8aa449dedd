"""One text from another: summaries, titles, translations. A BERT reads, a BERT writes (Rothe et al., TACL 2020).

Must not know models (`tokenize` is passed in), files or trials. What a model answers is the text itself, so that models
of different vocabularies can be compared.
"""

import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hpo.columns import IGNORED, Column, Layout, Target
from hpo.tasks import reading
from hpo.tasks.contract import LABELLED, Answers, Score, Tokenize
from hpo.tasks.reading import Length, Name

if TYPE_CHECKING:
    import pyarrow as pa

    from hpo.encoded import Array, Encoded
    from hpo.records import Breakdown, Mistakes, Usage

METRICS = ("rougeL", "rouge1", "rouge2", "sacrebleu")

_WHOLE_TRAINING = frozenset({"averaging", "early_stopping_patience", "ema_decay", "swa_start"})
"""Recipes that ask nothing of a model or of labels."""


class SequenceToSequence(BaseModel):
    """`task: {type: sequence-to-sequence, source: body, target: title}`.

    source, target: columns of texts. max_length, max_target_length: tokens that are read and that are written, [CLS]
    and [SEP] included; what is behind them is cut off, but for scores, which are of the whole target. beams: how many
    beginnings are followed while writing; 1 takes the likeliest token each time. tie_embeddings: whether both halves
    have one word embedding between them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    head: ClassVar[str] = "EncoderDecoderModel"
    pipeline: ClassVar[str | None] = None
    tuned: ClassVar[tuple[str, ...]] = ()
    markers: ClassVar[tuple[str, ...]] = ()

    type: Literal["sequence-to-sequence"] = "sequence-to-sequence"
    source: Name = "source"
    target: Name = "target"
    max_length: Length = 128
    max_target_length: Length = 32
    beams: Annotated[int, Field(ge=1, le=8)] = 1
    tie_embeddings: bool = False

    @model_validator(mode="after")
    def _columns_differ(self) -> Self:
        if self.source == self.target:
            raise ValueError(f"source and target are both {self.source!r}; name different columns")
        return self

    @property
    def noun(self) -> str:
        return "writing a text"

    @property
    def inert(self) -> frozenset[str]:
        """Layers are in both halves, and those of the decoder have parts that are new: none are frozen or set anew."""
        of_heads = {"classifier_dropout", "focal_gamma", "frozen_layers", "layerwise_lr_decay", "loss"}
        return (LABELLED - _WHOLE_TRAINING) | reading.NOT_MASKED | of_heads

    @property
    def learns(self) -> Target:
        return "text"

    @property
    def asked(self) -> tuple[Column, ...]:
        return (Column(self.source, "text"),)

    @property
    def layout(self) -> Layout:
        return Layout(self.asked, Column(self.target, "text"))

    @property
    def metric_names(self) -> tuple[str, ...]:
        return METRICS

    @property
    def default_metric(self) -> str:
        return METRICS[0]

    def check_metric(self, metric: str, labels: Sequence[str]) -> None:
        """There are no labels."""

    def label_names(self, train: "pa.Table") -> tuple[str, ...]:
        return ()

    def head_config(self, labels: Sequence[str]) -> dict[str, Any]:
        return {"tie_embeddings": self.tie_embeddings}

    def encode(self, table: "pa.Table", labels: Sequence[str], tokenize: Tokenize) -> "Encoded":
        """Ragged input_ids; flat `cut`, whether the source goes on. With targets ragged `before` and labels: what each
        token is written after, and the token, both from [CLS] to [SEP]; `right`, the target in UTF-8; flat
        `target_cut`; terms: tokens of the target."""
        import numpy as np

        from hpo.encoded import Encoded, Ragged

        ids, cut = _tokens(table[self.source].to_pylist(), self.max_length, tokenize)
        if self.target not in table.column_names:
            return Encoded({"input_ids": Ragged.of(ids)}, {"cut": cut})
        texts = table[self.target].to_pylist()
        own, target_cut = _tokens(texts, self.max_target_length, tokenize)
        ragged = {
            "input_ids": Ragged.of(ids),
            "before": Ragged.of([row[:-1] for row in own]),
            "labels": Ragged.of([row[1:] for row in own]),
            "right": Ragged.of_texts(texts),
        }
        terms = np.array([len(row) - 1 for row in own], np.int64)
        return Encoded(ragged, {"cut": cut, "target_cut": target_cut, "terms": terms})

    def notes(self, encoded: "Encoded") -> tuple[str, ...]:
        found = []
        fields = {"cut": ("sources", "max_length"), "target_cut": ("targets", "max_target_length")}
        for flag, (what, field) in fields.items():
            if flag in encoded.flat and (count := int(encoded.flat[flag].sum())):
                length = getattr(self, field)
                found.append(
                    f"{count:,} of {len(encoded):,} {what} are longer than {length} tokens, and cut (task.{field})"
                )
        return tuple(found)

    def collate(self, encoded: "Encoded", features: "Array", pad_id: int) -> "dict[str, Array]":
        """One batch: input_ids and attention_mask (len(features), longest of them); with targets decoder_input_ids,
        decoder_attention_mask and labels (len(features), longest target), int64; `writing` (2,): the most tokens, and
        the beams, with which a text is written."""
        import numpy as np

        batch = reading.padded(encoded, features, pad_id)
        if "labels" in encoded.ragged:
            truth = encoded.ragged["labels"].padded(features, IGNORED)
            batch["labels"] = truth
            batch["decoder_input_ids"] = encoded.ragged["before"].padded(features, pad_id)
            batch["decoder_attention_mask"] = (truth != IGNORED).astype(np.int64)
        return batch | {"writing": np.array([self.max_target_length - 1, self.beams], np.int64)}

    def fed(self, encoded: "Encoded", pad_id: int, share: float, seed: int) -> None:
        """Rows stay what they are."""

    def compute_metrics(self, outputs: "Array", encoded: "Encoded", labels: Sequence[str]) -> dict[str, float]:
        """outputs: (rows, 2 + bytes): nats of the right tokens, how many, and the written text in UTF-8, filled up
        with -1."""
        import numpy as np

        from hpo.tasks import metrics, writing

        if not np.isfinite(outputs).all():
            return dict.fromkeys(METRICS, float("nan"))
        return metrics.together(writing.written, "string", _texts(outputs), _right(encoded))

    def evidence(
        self, outputs: "Array", encoded: "Encoded", labels: Sequence[str], metric: str
    ) -> "tuple[Array, Array]":
        """What is counted in each row, (rows,) or (rows, 10); (rows,): checksums of the right texts."""
        import numpy as np

        from hpo.tasks import writing

        right = _right(encoded)
        sums = [zlib.crc32(text.encode("utf-8", "surrogatepass")) for text in right]
        return writing.counts(metric, _texts(outputs), right), np.array(sums, np.int64)

    def plain(self, metric: str) -> Score:
        from hpo.tasks import writing

        return writing.plain(metric)

    def breakdown(self, outputs: "Array", encoded: "Encoded", labels: Sequence[str]) -> "Breakdown | None":
        return None

    def mistakes(self, outputs: "Array", encoded: "Encoded", labels: Sequence[str], table: "pa.Table") -> "Mistakes":
        from hpo.tasks import mistakes, writing

        right = [[text] for text in _right(encoded)]
        scores = writing.counts("rougeL", _texts(outputs), _right(encoded))
        return mistakes.of_answers(_texts(outputs), right, scores, mistakes.texts_of(table), score="ROUGE-L")

    def usage(self, labels: Sequence[str]) -> "Usage":
        from hpo.records import Usage

        return Usage(
            what=f"writing a text of at most {self.max_target_length} tokens (column `{self.source}`, of which "
            f"{self.max_length} are read)",
            answer="the text that it writes",
            row='"one text"',
            reply='{"prediction": "another text"}',
        )

    def predict(self, outputs: "Array", encoded: "Encoded", labels: Sequence[str], *, all_scores: bool) -> Answers:
        """prediction: the written text."""
        return {"prediction": _texts(outputs)}


def _tokens(texts: list[str], most: int, tokenize: Tokenize) -> "tuple[list[list[int]], Array]":
    """The ids of each text, special ones included, and (rows,) int64: whether it goes on behind them."""
    import numpy as np

    ids: list[list[int]] = []
    cut: list[bool] = []
    for start in range(0, len(texts), reading.BLOCK):
        block = texts[start : start + reading.BLOCK]
        found = tokenize.aligned(block, most)
        ids += found["input_ids"]
        cut += [len(text.rstrip()) > max(0, *ends) for text, ends in zip(block, found["ends"], strict=True)]
    return ids, np.array(cut, np.int64)


def _texts(outputs: "Array") -> list[str]:
    import numpy as np

    return [row[row >= 0].astype(np.uint8).tobytes().decode("utf-8", "replace") for row in outputs[:, 2:]]


def _right(encoded: "Encoded") -> list[str]:
    texts = encoded.ragged["right"]
    return [texts.text(row) for row in range(len(texts))]
