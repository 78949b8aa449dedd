"""One tag for each word of a sentence: named entities, parts of speech.

The first piece of a word carries its tag; the other pieces count for nothing. Must not know models (`tokenize` is
passed in), files or trials.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hpo.columns import IGNORED, Column, Fault, Layout, Target
from hpo.errors import DataError
from hpo.tasks import reading
from hpo.tasks.contract import ONE_CLASS, WHOLE_TEXTS, Answers, Score, Tokenize
from hpo.tasks.entities import OUTSIDE, Counts, as_iob2, by_type, count, entities, figures, is_prefixed, type_of
from hpo.tasks.reading import Length, Name

if TYPE_CHECKING:
    import pyarrow as pa

    from hpo.encoded import Array, Encoded
    from hpo.records import Breakdown, Mistakes, Usage

METRICS = ("f1", "precision", "recall", "accuracy")

_WORD = re.compile(r"\w+|[^\w\s]")


class TokenClassification(BaseModel):
    """`task: {type: token-classification, tokens: tokens, tags: ner_tags}`.

    tokens: a column with a list of words in each row; tags: one with as many tags, in IOB1, IOB2, IOBES or BILOU, which
    are told apart word by word, or without prefixes. Models learn IOB2. labels: the types of entities; by default those
    of the training rows. max_length: tokens of the model, [CLS] and [SEP] included; what is behind them is cut off, and
    counts as if no entity had been found there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    head: ClassVar[str] = "AutoModelForTokenClassification"
    pipeline: ClassVar[str | None] = None
    tuned: ClassVar[tuple[str, ...]] = ()
    markers: ClassVar[tuple[str, ...]] = ()

    type: Literal["token-classification"] = "token-classification"
    tokens: Name = "tokens"
    tags: Name = "tags"
    max_length: Length = 128
    labels: Annotated[tuple[str, ...], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _columns_differ(self) -> Self:
        if self.tokens == self.tags:
            raise ValueError(f"tokens and tags name one column ({self.tokens}); name different ones")
        return self

    @property
    def noun(self) -> str:
        return "a token classification"

    @property
    def inert(self) -> frozenset[str]:
        """A row has tokens of many classes."""
        return reading.NOT_MASKED | (ONE_CLASS - {"class_weights"}) | WHOLE_TEXTS

    @property
    def learns(self) -> Target:
        return "class"

    @property
    def asked(self) -> tuple[Column, ...]:
        """A list of words; or one text, which is split at blanks and around marks."""
        return (Column(self.tokens, "words"),)

    @property
    def layout(self) -> Layout:
        allowed = tuple({type_of(label): None for label in self.labels or () if label != OUTSIDE})
        inputs = (Column(self.tokens, "texts"),)
        return Layout(inputs, Column(self.tags, "texts"), fault=self._fault, names=_types, allowed=allowed)

    @property
    def metric_names(self) -> tuple[str, ...]:
        return METRICS

    @property
    def default_metric(self) -> str:
        return "f1"

    def check_metric(self, metric: str, labels: Sequence[str]) -> None:
        """All metrics are of any number of types."""

    def label_names(self, train: "pa.Table") -> tuple[str, ...]:
        """O, then B- and I- of each type; or the tags as they are, where they have no prefixes. DataError where all
        words of train are O."""
        used = {tag for tags in train[self.tags].to_pylist() for tag in tags}
        types = list(dict.fromkeys(map(type_of, self.labels or reading.sorted_names({*map(type_of, used)}))))
        types = [kind for kind in types if kind != OUTSIDE]
        if not used - {OUTSIDE}:
            raise DataError(f"all tags in the column {self.tags!r} of train are O; name the column of tags (task.tags)")
        if any(map(is_prefixed, used)):
            return (OUTSIDE, *(f"{prefix}-{kind}" for kind in types for prefix in "BI"))
        return (*([OUTSIDE] if OUTSIDE in used else []), *types)

    def head_config(self, labels: Sequence[str]) -> dict[str, Any]:
        return reading.named(labels)

    def encode(self, table: "pa.Table", labels: Sequence[str], tokenize: Tokenize) -> "Encoded":
        """Ragged input_ids, and in their order `words`: the word that a token begins, or -1; flat `count`, of words.

        With tags: ragged labels in the order of input_ids, -100 where no word begins; ragged tags, one a word, those
        that were cut off among them; flat terms. Without: ragged texts in UTF-8, and `from` and `to`, the characters
        of each word.
        """
        import numpy as np

        from hpo.encoded import Encoded, Ragged

        ids: list[list[int]] = []
        begun: list[Array] = []
        texts: list[str] = []
        spans: list[list[tuple[int, int]]] = []
        for start in range(0, len(table), reading.BLOCK):
            split = [_split(value) for value in table[self.tokens].slice(start, reading.BLOCK).to_pylist()]
            found = tokenize.aligned([text for text, _ in split], self.max_length)
            ids += found["input_ids"]
            begun += [_begun(words, ends) for (_, words), ends in zip(split, found["ends"], strict=True)]
            texts += [text for text, _ in split]
            spans += [words for _, words in split]
        count_ = np.array([len(words) for words in spans], np.int64)
        words = Ragged(np.concatenate(begun), Ragged.of(ids).offsets)
        ragged = {"input_ids": Ragged.of(ids), "words": words}
        if self.tags not in table.column_names:
            ends = {
                "from": [[own[0] for own in row] for row in spans],
                "to": [[own[1] for own in row] for row in spans],
            }
            ragged |= {name: Ragged.of(own) for name, own in ends.items()} | {"texts": Ragged.of_texts(texts)}
            return Encoded(ragged, {"count": count_})
        written = [as_iob2(tags) for tags in table[self.tags].to_pylist()]
        ids_of = {name: number for number, name in enumerate(labels)}
        reading.refuse_strangers(self.tags, {tag for tags in written for tag in tags}, labels)
        tags = Ragged.of([[ids_of[tag] for tag in row] for row in written])
        place = words.values + np.repeat(tags.offsets[:-1], words.lengths)
        own = np.where(words.values < 0, IGNORED, tags.values[np.where(words.values < 0, 0, place)]).astype(np.int64)
        terms = np.array([int((row >= 0).sum()) for row in begun], np.int64)
        ragged |= {"labels": Ragged(own, words.offsets), "tags": tags}
        return Encoded(ragged, {"count": count_, "terms": terms})

    def notes(self, encoded: "Encoded") -> tuple[str, ...]:
        import numpy as np

        words = encoded.ragged["words"]
        reached = np.array([row.max(initial=-1) + 1 for row in map(words.__getitem__, range(len(words)))])
        lost = np.where(words.lengths >= self.max_length, encoded.flat["count"] - reached, 0)
        if not lost.any():
            return ()
        return (
            f"{int((lost > 0).sum()):,} of {len(encoded):,} sentences are longer than {self.max_length} tokens: "
            f"{int(lost.sum()):,} words are cut off, and count as {OUTSIDE} (task.max_length)",
        )

    def collate(self, encoded: "Encoded", features: "Array", pad_id: int) -> "dict[str, Array]":
        """One batch: input_ids, attention_mask, labels (len(features), longest of them), int64; labels are -100 where
        no word begins."""
        batch = reading.padded(encoded, features, pad_id)
        labels = encoded.ragged.get("labels")
        return batch | ({"labels": labels.padded(features, IGNORED)} if labels is not None else {})

    def fed(self, encoded: "Encoded", pad_id: int, share: float, seed: int) -> None:
        """Rows stay what they are."""

    def compute_metrics(self, outputs: "Array", encoded: "Encoded", labels: Sequence[str]) -> dict[str, float]:
        """Of entities f1, precision and recall; of tags accuracy. outputs: (tokens, classes)."""
        import numpy as np

        from hpo.tasks import metrics

        if not np.isfinite(outputs).all():
            return dict.fromkeys(METRICS, float("nan"))
        said, true = self._said(outputs, encoded, labels), self._true(encoded, labels)
        return metrics.together(figures, "[string]", said, true)

    def evidence(
        self, outputs: "Array", encoded: "Encoded", labels: Sequence[str], metric: str
    ) -> "tuple[Array, Array]":
        """(rows, 3): entities found right, entities found, words tagged right; (rows, 2): true entities, words."""
        import numpy as np

        said, true = self._said(outputs, encoded, labels), self._true(encoded, labels)
        counts = [count(entities(own), entities(tags)) for own, tags in zip(said, true, strict=True)]
        right = [sum(one == other for one, other in zip(*pair, strict=True)) for pair in zip(said, true, strict=True)]
        predictions = np.array([(own.hits, own.said, hits) for own, hits in zip(counts, right, strict=True)])
        return predictions, np.array([(own.there, len(tags)) for own, tags in zip(counts, true, strict=True)])

    def plain(self, metric: str) -> Score:
        def score(predictions: "Array", references: "Array") -> float:
            hits, said, right = predictions.sum(axis=0)
            there, words = references.sum(axis=0)
            counts = Counts(int(hits), int(said), int(there))
            return float(right) / max(1, int(words)) if metric == "accuracy" else float(getattr(counts, metric))

        return score

    def breakdown(self, outputs: "Array", encoded: "Encoded", labels: Sequence[str]) -> "Breakdown | None":
        from hpo.records import Breakdown

        parts = by_type(self._said(outputs, encoded, labels), self._true(encoded, labels))
        rows = tuple((kind, own.precision, own.recall, own.f1, own.there) for kind, own in parts.items())
        return Breakdown(title="By type of entity", heads=("type", "precision", "recall", "f1", "entities"), rows=rows)

    def mistakes(self, outputs: "Array", encoded: "Encoded", labels: Sequence[str], table: "pa.Table") -> "Mistakes":
        from hpo.tasks import mistakes

        said, true = self._said(outputs, encoded, labels), self._true(encoded, labels)
        return mistakes.of_entities(said, true, table)

    def usage(self, labels: Sequence[str]) -> "Usage":
        from hpo.records import Usage

        types = [*dict.fromkeys(type_of(label) for label in labels if label != OUTSIDE)]
        return Usage(
            what=f"tags of words (column `{self.tokens}`, words or a text, at most {self.max_length} tokens)",
            answer=f"the entities of {reading.some(types).replace('labels', 'types')}, with their places",
            row='"one text"',
            reply='{"prediction": [{"type": "...", "text": "...", "start": 0, "end": 3, "score": 0.9}, ...], '
            '"predicted_tags": ["...", ...]}',
        )

    def predict(self, outputs: "Array", encoded: "Encoded", labels: Sequence[str], *, all_scores: bool) -> Answers:
        """prediction: entities as {type, text, start, end, score}, with the first character and the one behind the
        last, of the text or of the words with blanks between; the score is the mean probability of the tags.
        predicted_tags: one a word, in IOB2; with `all_scores` tag_scores: their probabilities, 0 for words that were
        cut off."""
        tags = self._said(outputs, encoded, labels)
        scores = self._by_word(reading.softmax(outputs).max(axis=-1), encoded, 0.0)
        found: list[list[dict[str, Any]]] = []
        for row, own in enumerate(tags):
            text = encoded.ragged["texts"].text(row)
            starts, ends = encoded.ragged["from"][row], encoded.ragged["to"][row]
            found.append([])
            for one in entities(own):
                start, end = int(starts[one.start]), int(ends[one.end - 1])
                score = round(float(scores[row][one.start : one.end].mean()), 6)
                found[-1].append(
                    {"type": one.type, "text": text[start:end], "start": start, "end": end, "score": score}
                )
        answers: Answers = {"prediction": found, "predicted_tags": tags}
        return answers | ({"tag_scores": [reading.rounded(own) for own in scores]} if all_scores else {})

    def _said(self, outputs: "Array", encoded: "Encoded", labels: Sequence[str]) -> list[list[str]]:
        """The tag of each word; O for those that were cut off."""
        outside = list(labels).index(OUTSIDE) if OUTSIDE in labels else len(labels)
        names = [*labels, OUTSIDE]
        rows = self._by_word(outputs.argmax(axis=-1), encoded, outside)
        return [[names[number] for number in row] for row in rows]

    def _true(self, encoded: "Encoded", labels: Sequence[str]) -> list[list[str]]:
        tags = encoded.ragged["tags"]
        return [[labels[number] for number in tags[row]] for row in range(len(tags))]

    def _by_word(self, values: "Array", encoded: "Encoded", fill: float) -> "list[Array]":
        """values: (tokens,). For each row (words,), taken from the tokens that begin them."""
        import numpy as np

        words = encoded.ragged["words"]
        starts = np.concatenate([[0], np.cumsum(encoded.flat["count"])])
        spread = np.full(int(starts[-1]), fill, values.dtype)
        begins = words.values >= 0
        spread[(words.values + np.repeat(starts[:-1], words.lengths))[begins]] = values[begins]
        return np.split(spread, starts[1:-1])

    def _fault(self, table: "pa.Table") -> Fault | None:
        for row, (words, tags) in enumerate(
            zip(table[self.tokens].to_pylist(), table[self.tags].to_pylist(), strict=True)
        ):
            if len(words) != len(tags):
                return row, f"{len(tags)} tags in {self.tags!r} for {len(words)} tokens; give each token one tag"
            if not words:
                return row, f"{self.tokens!r} is an empty list; remove the row"
        bare = {tag for tags in table[self.tags].to_pylist() for tag in tags if not is_prefixed(tag)} - {OUTSIDE}
        for row, tags in enumerate(table[self.tags].to_pylist() if bare else ()):
            if any(map(is_prefixed, tags)):
                return row, (
                    f"{next(filter(is_prefixed, tags))!r} has a prefix, and {min(bare)!r} elsewhere has none; "
                    "write B- and I- before all types, or before none"
                )
        return None


def _types(tags: Sequence[str]) -> set[str]:
    return {type_of(tag) for tag in tags} - {OUTSIDE}


def _split(value: str | Sequence[str]) -> tuple[str, list[tuple[int, int]]]:
    """A text, and the first character and the end of each word in it."""
    if isinstance(value, str):
        return value, [found.span() for found in _WORD.finditer(value)]
    spans, place = [], 0
    for word in value:
        spans.append((place, place + len(word)))
        place += len(word) + 1
    return " ".join(value), spans


def _begun(words: Sequence[tuple[int, int]], ends: Sequence[int]) -> "Array":
    """For each token the word that it begins, else -1. ends: of the characters of each token, -1 for special ones. A
    token may begin with the blank before its word (SentencePiece), so its last character says whose it is."""
    import numpy as np

    last = np.asarray(ends, np.int64) - 1
    starts = np.array([start for start, _ in words], np.int64)
    stops = np.array([stop for _, stop in words], np.int64)
    own = np.searchsorted(starts, last, side="right") - 1
    inside = (last >= 0) & (own >= 0)
    inside[inside] &= last[inside] < stops[own[inside]]
    own = np.where(inside, own, -1)
    first = np.ones(len(own), bool)
    first[1:] = own[1:] != own[:-1]
    found: Array = np.where(inside & first, own, -1).astype(np.int32)
    return found
