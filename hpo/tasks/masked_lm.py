"""Masked words of plain texts: what a model is pretrained with (Devlin et al. 2019, 3.1), here on texts of one's own.

Whole words are masked. With `next_sentence` a model is also asked whether the second half of a text is its own: off by
default, as it did not help where it was left out (Liu et al. 2019, RoBERTa, 4.2). Must not know models: they are asked
for the masked places only, and answer a row with sums.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, model_validator

from hpo.columns import IGNORED, Column, Layout, Target
from hpo.errors import DataError
from hpo.tasks import reading
from hpo.tasks.contract import LABELLED, Answers, Score, Tokenize
from hpo.tasks.next_sentence import UNKNOWN, joined, pairs
from hpo.tasks.reading import Length, Name
from hpo.tasks.whole_words import Read, read

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from hpo.encoded import Array, Encoded
    from hpo.records import Breakdown, Usage

METRICS = ("perplexity", "accuracy")
NEXT = "next_sentence_accuracy"

SHARE = 0.15
"""Of the tokens of a row, masked where rows are compared: the same whatever a trial trains with."""

_MOST = 50.0
"""Nats a token; beyond, a perplexity has no meaning, and soon no number."""


class MaskedLm(BaseModel):
    """`task: {type: masked-lm, text: text}`.

    text: a column of texts, which need no labels. max_length: tokens, [CLS] and [SEP] included; what is behind them is
    cut off. Training rows are masked anew at every step, by the seed of the trial, in the share `mlm_probability`, a
    hyperparameter. All others are masked once, 15 % of their tokens. next_sentence: half of the texts are read with the
    second half of another one, and the model says which; for models that were pretrained with such a head.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pipeline: ClassVar[str | None] = None
    tuned: ClassVar[tuple[str, ...]] = ()
    for_training: ClassVar[tuple[str, ...]] = ("next_sentence",)
    markers: ClassVar[tuple[str, ...]] = ()

    type: Literal["masked-lm"] = "masked-lm"
    text: Name = "text"
    max_length: Length = 128
    next_sentence: bool = False

    @model_validator(mode="after")
    def _has_room_for_two(self) -> Self:
        if self.next_sentence and self.max_length < 8:
            raise ValueError(f"max_length={self.max_length} has no room for two sentences; raise it to 8 at least")
        return self

    @property
    def head(self) -> str:
        return "AutoModelForPreTraining" if self.next_sentence else "AutoModelForMaskedLM"

    @property
    def noun(self) -> str:
        return "a masked language model" + (" with a next sentence" if self.next_sentence else "")

    @property
    def inert(self) -> frozenset[str]:
        return LABELLED | frozenset({"loss", "focal_gamma", "label_smoothing_factor", "classifier_dropout"})

    @property
    def learns(self) -> Target:
        return "masked"

    @property
    def asked(self) -> tuple[Column, ...]:
        return (Column(self.text, "text"),)

    @property
    def layout(self) -> Layout:
        """A text is its own label."""
        return Layout(self.asked, Column(self.text, "text"))

    @property
    def metric_names(self) -> tuple[str, ...]:
        return (*METRICS, NEXT) if self.next_sentence else METRICS

    @property
    def default_metric(self) -> str:
        return "perplexity"

    def check_metric(self, metric: str, labels: Sequence[str]) -> None:
        """There are no labels."""

    def label_names(self, train: "pa.Table") -> tuple[str, ...]:
        return ()

    def head_config(self, labels: Sequence[str]) -> dict[str, Any]:
        return {}

    def encode(self, table: "pa.Table", labels: Sequence[str], tokenize: Tokenize) -> "Encoded":
        """Ragged input_ids; in their order `words`, the word of each token, -1 for special ones; `masked`, the ids as
        they are fed where rows are compared; labels, -100 where no answer counts. Flat `special`, (rows, 2): the id of
        the mask, the size of the vocabulary; `cut`, whether the text goes on; terms: masked tokens. Of pairs ragged
        token_type_ids, flat `next`: the class of what stands second."""
        import numpy as np

        from hpo.encoded import Encoded, Ragged

        texts: list[str] = table[self.text].to_pylist()
        rows, follows = self._read(texts, tokenize)
        tokens = Ragged.of([row.ids for row in rows])
        offsets = tokens.offsets
        numbered = np.concatenate([row.words for row in rows]) if rows else np.zeros(0, np.int32)
        special = np.tile(np.array([tokenize.mask_id, tokenize.size], np.int64), (len(rows), 1))
        ragged = {"input_ids": tokens, "words": Ragged(numbered, offsets)}
        flat = {"special": special, "cut": np.array([row.goes_on for row in rows], np.int64)}
        if follows is not None:
            types = [np.zeros(len(row.ids), np.int32) if row.types is None else row.types for row in rows]
            ragged["token_type_ids"] = Ragged(np.concatenate(types).astype(np.int32), offsets)
            flat["next"] = follows
        plain = Encoded(ragged, flat)
        drawn = [draw(plain, row, SHARE, zlib.crc32(tokens[row].tobytes())) for row in range(len(plain))]
        masked = Ragged(np.concatenate([own for own, _ in drawn]).astype(np.int32), offsets)
        truth = Ragged(np.concatenate([own for _, own in drawn]), offsets)
        terms = np.array([(own >= 0).sum() for _, own in drawn], np.int64)
        return Encoded({**ragged, "masked": masked, "labels": truth}, {**plain.flat, "terms": terms})

    def notes(self, encoded: "Encoded") -> tuple[str, ...]:
        found, of = [], f"of {len(encoded):,} texts are"
        if cut := int(encoded.flat["cut"].sum()):
            found.append(f"{cut:,} {of} longer than {self.max_length} tokens, and cut (task.max_length)")
        if alone := int((encoded.flat.get("next", encoded.flat["cut"][:0]) == UNKNOWN).sum()):
            found.append(f"{alone:,} {of} one sentence, behind which nothing can stand")
        return tuple(found)

    def collate(self, encoded: "Encoded", features: "Array", pad_id: int) -> "dict[str, Array]":
        """One batch, masked as the file has it: input_ids, attention_mask, labels (len(features), longest of them),
        int64; `places` (masked tokens,): where they are among all of the block, row by row. Of pairs token_type_ids as
        well, and in the first place of a row's labels -1 - the class of what stands second."""
        ids = encoded.ragged["masked"].padded(features, pad_id)
        return _batch(ids, encoded.ragged["labels"].padded(features, IGNORED), encoded, features)

    def fed(self, encoded: "Encoded", pad_id: int, share: float, seed: int) -> "Drawn":
        return Drawn.of(self, encoded, pad_id, share, seed)

    def compute_metrics(self, outputs: "Array", encoded: "Encoded", labels: Sequence[str]) -> dict[str, float]:
        """outputs: (rows, 3): nats, how many tokens were masked, how many of them came first; of pairs (rows, 6), with
        nats, 0 or 1 for asked, 0 or 1 for right, of what stands second."""
        import numpy as np

        if not np.isfinite(outputs).all():
            return dict.fromkeys(self.metric_names, float("nan"))
        return {name: self.plain(name)(outputs, outputs) for name in self.metric_names}

    def evidence(
        self, outputs: "Array", encoded: "Encoded", labels: Sequence[str], metric: str
    ) -> "tuple[Array, Array]":
        """Outputs as they are; (rows, 2): how many tokens were masked, and the sum of their ids: models with other
        vocabularies are asked for something else, and can't be compared."""
        import numpy as np

        truth = encoded.ragged["labels"]
        counted = [(row >= 0, row) for row in map(truth.__getitem__, range(len(truth)))]
        return outputs.astype(np.float64), np.array([(own.sum(), row[own].sum()) for own, row in counted], np.float64)

    def plain(self, metric: str) -> Score:
        def score(predictions: "Array", references: "Array") -> float:
            import numpy as np

            sums = predictions.astype(np.float64).sum(axis=0)
            if metric == NEXT:
                return float(sums[5] / max(1.0, sums[4]))
            nats, count, first = sums[:3]
            if metric == "accuracy":
                return float(first / max(1.0, count))
            return float(np.exp(min(nats / max(1.0, count), _MOST)))

        return score

    def breakdown(self, outputs: "Array", encoded: "Encoded", labels: Sequence[str]) -> "Breakdown | None":
        return None

    def _read(self, texts: Sequence[str], tokenize: Tokenize) -> "tuple[list[Read], Array | None]":
        """Each text as it is masked; of pairs (rows,), what stands second. DataError where there are no pairs."""
        if not self.next_sentence:
            return read(texts, self.max_length, tokenize), None
        firsts, seconds, follows = pairs(texts)
        if len(texts) and (follows == UNKNOWN).all():
            raise DataError(
                f"the column {self.text!r} has no text of two sentences, so nothing stands second; "
                "remove next_sentence, or give longer texts"
            )
        both = zip(*(read(own, self.max_length, tokenize) for own in (firsts, seconds)), follows, strict=True)
        rows = [first if one == UNKNOWN else joined(first, second, self.max_length) for first, second, one in both]
        return rows, follows

    def usage(self, labels: Sequence[str]) -> "Usage":
        from hpo.records import Usage

        return Usage(
            what=f"masked words of texts (column `{self.text}`, at most {self.max_length} tokens)",
            answer="how strange a text is to it: nats a masked token",
            row='"one text"',
            reply='{"prediction": 2.7, "masked": 4}',
        )

    def predict(self, outputs: "Array", encoded: "Encoded", labels: Sequence[str], *, all_scores: bool) -> Answers:
        """prediction: nats a masked token; masked: how many there were. Both of the one draw that the text gives."""
        counts = outputs[:, 1].clip(min=1.0)
        return {
            "prediction": reading.rounded(outputs[:, 0] / counts),
            "masked": [int(count) for count in outputs[:, 1]],
        }


@dataclass
class Drawn:
    """Training rows, masked anew at every step. A row at a step is masked in one way, whatever stands beside it, so a
    training that is cut off and goes on sees what it would have seen.

    rows: with their terms by `share`: the budgets, as what is masked is known no sooner than a batch is made. seed: of
    the trial. step: set before each one.
    """

    task: MaskedLm
    rows: "Encoded"
    pad_id: int
    share: float
    seed: int
    step: int = 0

    @classmethod
    def of(cls, task: MaskedLm, encoded: "Encoded", pad_id: int, share: float, seed: int) -> "Drawn":
        from hpo.encoded import Encoded

        rows = Encoded(encoded.ragged, {**encoded.flat, "terms": budgets(encoded, share)})
        return cls(task, rows, pad_id, share, seed)

    def at(self, step: int) -> None:
        self.step = step

    def __call__(self, encoded: "Encoded", features: "Array") -> "dict[str, Array]":
        """As `MaskedLm.collate`; for other rows than those of training just that."""
        if encoded is not self.rows:
            return self.task.collate(encoded, features, self.pad_id)
        ids = encoded.ragged["input_ids"].padded(features, self.pad_id)
        truth = encoded.ragged["labels"].padded(features, IGNORED)
        for place, row in enumerate(features):
            fed, wanted = draw(encoded, int(row), self.share, self.seed, self.step, int(row))
            ids[place, : len(fed)], truth[place, : len(fed)] = fed, wanted
        return _batch(ids, truth, encoded, features)


def draw(encoded: "Encoded", row: int, share: float, *key: int) -> "tuple[Array, Array]":
    """(tokens,) ids to feed, (tokens,) labels. Whole words in random order, as many as fit into the row's budget, at
    least one; of their tokens 80 % become the mask, 10 % any token, 10 % stay."""
    import numpy as np

    random = np.random.default_rng(key)
    ids, words = encoded.ragged["input_ids"][row].astype(np.int64), encoded.ragged["words"][row]
    mask_id, size = encoded.flat["special"][row]
    chosen = np.isin(words, _chosen(words, share, random))
    truth = np.where(chosen, ids, IGNORED)
    fate = random.random(len(ids))
    other = random.integers(0, size, len(ids))
    fed = np.where(chosen & (fate < 0.8), mask_id, np.where(chosen & (fate >= 0.9), other, ids))
    return fed, truth


def budgets(encoded: "Encoded", share: float) -> "Array":
    """(rows,) int64: tokens to mask in each row. A few less are, where no word fits into what is left; more, where none
    fits at all and one is masked nevertheless."""
    import numpy as np

    words = encoded.ragged["words"]
    counts = np.add.reduceat(np.append(words.values >= 0, False).astype(np.int64), words.offsets[:-1])
    counts = np.where(words.lengths > 0, counts, 0)
    found: Array = np.where(counts > 0, np.maximum(1, np.rint(share * counts)), 0).astype(np.int64)
    return found


def _chosen(words: "Array", share: float, random: "np.random.Generator") -> list[int]:
    import numpy as np

    lengths = np.bincount(words[words >= 0])
    left = max(1, round(share * int(lengths.sum())))
    chosen: list[int] = []
    order = random.permutation(len(lengths))
    for word in order:
        if lengths[word] <= left:
            chosen.append(int(word))
            left -= int(lengths[word])
        if left == 0:
            break
    return chosen or [int(word) for word in order[:1]]


def _batch(ids: "Array", truth: "Array", encoded: "Encoded", features: "Array") -> "dict[str, Array]":
    import numpy as np

    lengths = encoded.ragged["input_ids"].lengths_of(features)
    mask = (np.arange(ids.shape[1]) < lengths[:, None]).astype(np.int64)
    batch = {"input_ids": ids, "attention_mask": mask, "labels": truth, "places": np.flatnonzero(truth >= 0)}
    if "next" in encoded.flat:
        batch["token_type_ids"] = encoded.ragged["token_type_ids"].padded(features, 0)
        follows = encoded.flat["next"][features]
        truth[:, 0] = np.where(follows == UNKNOWN, IGNORED, -1 - follows)
    return batch
