"""The piece of a text that answers a question (SQuAD 1.1), or that there is none (SQuAD 2.0).

A text that does not fit is read in windows that overlap; the best answer of all of them counts. Must not know models
(`tokenize` is passed in), files or trials.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hpo.columns import Column, Fault, Layout, Target
from hpo.tasks import reading
from hpo.tasks.contract import ONE_CLASS, WHOLE_TEXTS, Answers, Score, Tokenize
from hpo.tasks.reading import Name

if TYPE_CHECKING:
    import pyarrow as pa

    from hpo.encoded import Array, Encoded
    from hpo.records import Breakdown, Mistakes, Usage
    from hpo.tasks.squad import Found

METRICS = ("f1", "exact_match")
_SPECIAL = 4
"""Tokens that are not of question or text, at most (RoBERTa)."""


class QuestionAnswering(BaseModel):
    """`task: {type: question-answering}`, for the columns of SQuAD.

    answers: a column of {text: [...], answer_start: [...]}, in characters of the context. max_length: tokens of a
    window, question and special ones included. doc_stride: tokens that two windows of a text share, as in the scripts
    of transformers. max_query_length: tokens of a question; what is behind them is cut off. max_answer_length: tokens
    of an answer. unanswerable: whether a row may have no answer, as in SQuAD 2.0. null_threshold: by how much no answer
    must score above the best one; where it is not given, each evaluation finds the best value on the validation rows,
    and the model keeps it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    head: ClassVar[str] = "AutoModelForQuestionAnswering"
    pipeline: ClassVar[str | None] = None
    tuned: ClassVar[tuple[str, ...]] = ("null_threshold",)
    markers: ClassVar[tuple[str, ...]] = ()

    type: Literal["question-answering"] = "question-answering"
    question: Name = "question"
    context: Name = "context"
    answers: Name = "answers"
    max_length: Annotated[int, Field(ge=8, le=8192)] = 384
    doc_stride: Annotated[int, Field(ge=0)] = 128
    max_query_length: Annotated[int, Field(ge=1)] = 64
    max_answer_length: Annotated[int, Field(ge=1)] = 30
    unanswerable: bool = False
    null_threshold: Annotated[float, Field(allow_inf_nan=False)] | None = None

    @model_validator(mode="after")
    def _columns_differ(self) -> Self:
        if len({self.question, self.context, self.answers}) < 3:
            raise ValueError("question, context and answers name one column twice; name different ones")
        return self

    @model_validator(mode="after")
    def _windows_move_on(self) -> Self:
        left = self.max_length - self.max_query_length - _SPECIAL
        if self.doc_stride >= left:
            raise ValueError(
                f"doc_stride is {self.doc_stride}, but a question may leave {max(left, 0)} tokens of a window for the "
                "text; lower doc_stride or max_query_length, or raise max_length"
            )
        if self.null_threshold is not None and not self.unanswerable:
            raise ValueError("null_threshold is given, but every row has an answer; set unanswerable: true")
        return self

    @property
    def noun(self) -> str:
        return "question answering"

    @property
    def inert(self) -> frozenset[str]:
        """There are two outputs and no dropout in this head; its loss is the cross entropy of two tokens."""
        of_classes = frozenset({"loss", "focal_gamma", "label_smoothing_factor", "classifier_dropout"})
        return reading.NOT_MASKED | of_classes | ONE_CLASS | WHOLE_TEXTS

    @property
    def learns(self) -> Target:
        return "span"

    @property
    def asked(self) -> tuple[Column, ...]:
        return (Column(self.question, "text"), Column(self.context, "text"))

    @property
    def layout(self) -> Layout:
        return Layout(self.asked, Column(self.answers, "spans"), fault=self._fault)

    @property
    def metric_names(self) -> tuple[str, ...]:
        return METRICS

    @property
    def default_metric(self) -> str:
        return "f1"

    def check_metric(self, metric: str, labels: Sequence[str]) -> None:
        """There are no labels."""

    def label_names(self, train: "pa.Table") -> tuple[str, ...]:
        return ()

    def head_config(self, labels: Sequence[str]) -> dict[str, Any]:
        """A score of the first token and one of the last."""
        return {"num_labels": 2}

    def encode(self, table: "pa.Table", labels: Sequence[str], tokenize: Tokenize) -> "Encoded":
        """One feature a window: ragged input_ids, token_type_ids, starts and ends (characters of the context, -1
        elsewhere); flat row, and with answers labels (windows, 3): first token, last token (both 0 where the answer is
        not in the window), number of tokens.

        Owners, one a row: ragged contexts in UTF-8, and with answers spans, the first character and the end of each.
        """
        import numpy as np

        from hpo.encoded import OWNER, Encoded, Ragged
        from hpo.tasks.squad import tokens_of

        found: dict[str, list[list[int]]] = {}
        rows: list[int] = []
        contexts: list[str] = table[self.context].to_pylist()
        for start in range(0, len(table), reading.BLOCK):
            texts = contexts[start : start + reading.BLOCK]
            asked = self._questions(table[self.question].slice(start, reading.BLOCK).to_pylist(), tokenize)
            windows, of = tokenize.windows(asked, texts, self.max_length, self.doc_stride)
            for name, values in windows.items():
                found.setdefault(name, []).extend(values)
            rows += [start + row for row in of]
        ragged = {name: Ragged.of(values) for name, values in found.items()}
        flat: dict[str, Array] = {OWNER: np.array(rows, np.int64)}
        whole = {"contexts": Ragged.of_texts(contexts)}
        if self.answers in table.column_names:
            spans = [_spans(answers) for answers in table[self.answers].to_pylist()]
            whole["spans"] = Ragged.of([[place for span in own for place in span] for own in spans])
            firsts = [own[0] if own else None for own in spans]
            flat["labels"] = np.array(
                [
                    (*tokens_of(firsts[row], starts, ends), len(starts))
                    for row, starts, ends in zip(rows, found["starts"], found["ends"], strict=True)
                ],
                np.int64,
            )
        return Encoded(ragged, flat, Encoded(whole, {}))

    def notes(self, encoded: "Encoded") -> tuple[str, ...]:
        import numpy as np

        notes = [f"{encoded.rows:,} questions make {len(encoded):,} windows of at most {self.max_length} tokens"]
        assert encoded.owners is not None
        answered = encoded.owners.ragged["spans"].lengths > 0
        reached = np.zeros(encoded.rows, bool)
        np.logical_or.at(reached, encoded.flat["row"], encoded.flat["labels"][:, 1] > 0)
        if lost := int((answered & ~reached).sum()):
            notes.append(f"{lost:,} answers are in no window as a whole; raise task.doc_stride or task.max_length")
        return tuple(notes)

    def collate(self, encoded: "Encoded", features: "Array", pad_id: int) -> "dict[str, Array]":
        """One batch: input_ids, attention_mask and token_type_ids (len(features), longest of them), labels
        (len(features), 3), int64."""
        batch = reading.padded(encoded, features, pad_id)
        return batch | ({"labels": encoded.flat["labels"][features]} if "labels" in encoded.flat else {})

    def fed(self, encoded: "Encoded", pad_id: int, share: float, seed: int) -> None:
        """Rows stay what they are."""

    def compute_metrics(self, outputs: "Array", encoded: "Encoded", labels: Sequence[str]) -> dict[str, float]:
        """exact_match and f1 over rows, from 0 to 1; and the threshold, where it was tuned on these rows.

        outputs: (tokens, 2): scores of being the first and the last token of the answer.
        """
        import numpy as np

        from hpo.tasks import metrics, squad

        if not np.isfinite(outputs).all():
            return dict.fromkeys(METRICS, float("nan"))
        said, threshold = self._said(outputs, encoded)
        found = metrics.together(squad.figures, "[string]", [[own] for own in said], _references(encoded))
        is_tuned = self.unanswerable and self.null_threshold is None
        return found | ({"null_threshold": threshold} if is_tuned else {})

    def evidence(
        self, outputs: "Array", encoded: "Encoded", labels: Sequence[str], metric: str
    ) -> "tuple[Array, Array]":
        """(rows,) each: what a row scores; and how many answers are right, of which only the mean is told apart."""
        import numpy as np

        from hpo.tasks import squad

        score = squad.f1 if metric == "f1" else squad.exact_match
        references = _references(encoded)
        said, _ = self._said(outputs, encoded)
        scores = [squad.best_of(score, own, true) for own, true in zip(said, references, strict=True)]
        return np.array(scores), np.array([float(len(true)) for true in references])

    def plain(self, metric: str) -> Score:
        return lambda predictions, references: float(predictions.mean())

    def breakdown(self, outputs: "Array", encoded: "Encoded", labels: Sequence[str]) -> "Breakdown | None":
        if not self.unanswerable:
            return None
        from hpo.records import Breakdown
        from hpo.tasks import squad

        said, _ = self._said(outputs, encoded)
        pairs = list(zip(said, _references(encoded), strict=True))
        parts = {"with an answer": [own for own in pairs if own[1]], "without": [own for own in pairs if not own[1]]}
        rows = []
        for name, part in parts.items():
            if part:
                found = squad.figures([[own] for own, _ in part], [true for _, true in part])
                rows.append((name, found["f1"], found["exact_match"], len(part)))
        return Breakdown(
            title="By kind of question", heads=("questions", "f1", "exact_match", "rows"), rows=tuple(rows)
        )

    def mistakes(self, outputs: "Array", encoded: "Encoded", labels: Sequence[str], table: "pa.Table") -> "Mistakes":
        from hpo.tasks import mistakes

        scores, _ = self.evidence(outputs, encoded, labels, "f1")
        said, _ = self._said(outputs, encoded)
        return mistakes.of_answers(said, _references(encoded), scores, mistakes.texts_of(table))

    def usage(self, labels: Sequence[str]) -> "Usage":
        from hpo.records import Usage

        return Usage(
            what=f"answering questions (columns `{self.question}` and `{self.context}`, "
            f"windows of {self.max_length} tokens)",
            answer="a piece of the context, its first character and its probability"
            + (", or with nothing where there is no answer" if self.unanswerable else ""),
            row=f'{{"{self.question}": "...?", "{self.context}": "..."}}',
            reply='{"prediction": "...", "score": 0.9, "start": 17}',
        )

    def predict(self, outputs: "Array", encoded: "Encoded", labels: Sequence[str], *, all_scores: bool) -> Answers:
        """prediction: the answer, empty where there is none; score: its probability among the best candidates; start:
        its first character in the context, None where there is no answer; with `all_scores` null_score: the probability
        that there is none."""
        found, texts = self._found(outputs, encoded), _contexts(encoded)
        threshold = self.null_threshold or 0.0
        none = [self.unanswerable and own.null - own.score > threshold for own in found]
        pairs = list(zip(found, none, strict=True))
        answers: Answers = {
            "prediction": [
                "" if is_none else text[own.start : own.end] for (own, is_none), text in zip(pairs, texts, strict=True)
            ],
            "score": reading.rounded([own.null_share if is_none else own.share for own, is_none in pairs]),
            "start": [None if is_none else own.start for own, is_none in pairs],
        }
        return answers | ({"null_score": reading.rounded([own.null_share for own in found])} if all_scores else {})

    def _questions(self, texts: list[str], tokenize: Tokenize) -> list[str]:
        """Without blanks before them, and without what is behind the last token that a question may have."""
        stripped = [text.lstrip() for text in texts]
        cut = []
        for text, ends in zip(stripped, tokenize.aligned(stripped, 8192)["ends"], strict=True):
            own = [end for end in ends if end >= 0]
            cut.append(text if len(own) <= self.max_query_length else text[: own[self.max_query_length - 1]])
        return cut

    def _found(self, outputs: "Array", encoded: "Encoded") -> "list[Found]":
        """The best answer of each row."""
        import numpy as np

        from hpo.tasks.squad import best_answer

        ids, starts, ends = (encoded.ragged[name] for name in ("input_ids", "starts", "ends"))
        windows: list[list[tuple[Array, Array, Array]]] = [[] for _ in range(encoded.rows)]
        for feature, row in enumerate(encoded.flat["row"]):
            own = outputs[ids.offsets[feature] : ids.offsets[feature + 1]].astype(np.float64)
            windows[row].append((own, starts[feature], ends[feature]))
        return [best_answer(own, self.max_answer_length, with_null=self.unanswerable) for own in windows]

    def _said(self, outputs: "Array", encoded: "Encoded") -> tuple[list[str], float]:
        """What each row is answered with, and the threshold for none. Tuned on these rows where it is open."""
        import numpy as np

        from hpo.tasks import squad

        found = self._found(outputs, encoded)
        said = [text[own.start : own.end] for own, text in zip(found, _contexts(encoded), strict=True)]
        if not self.unanswerable:
            return said, 0.0
        margins = np.array([own.null - own.score for own in found])
        threshold = self.null_threshold
        if threshold is None:
            references = _references(encoded)
            given = [squad.best_of(squad.f1, own, true) for own, true in zip(said, references, strict=True)]
            none = [squad.best_of(squad.f1, "", true) for true in references]
            threshold = squad.best_threshold(margins, np.array(given), np.array(none))
        return [own if margin <= threshold else "" for own, margin in zip(said, margins, strict=True)], threshold

    def _fault(self, table: "pa.Table") -> Fault | None:
        rows = zip(table[self.context].to_pylist(), table[self.answers].to_pylist(), strict=True)
        for row, (context, answers) in enumerate(rows):
            if not answers["text"] and not self.unanswerable:
                return row, "there is no answer; set task.unanswerable: true (SQuAD 2.0), or remove the row"
            for text, start in zip(answers["text"], answers["answer_start"], strict=True):
                if not text:
                    return row, "an answer is empty; where there is none, write empty lists"
                if not 0 <= start <= len(context) or context[start : start + len(text)] != text:
                    return row, _misplaced(text, start, context)
        return None


def _misplaced(text: str, start: int, context: str) -> str:
    place = context.find(text)
    if place < 0:
        return f"the answer {text[:60]!r} is not in the context; correct it, or remove the row"
    return f"the answer {text[:60]!r} is not at answer_start {start}, but at {place}; correct it (it counts characters)"


def _spans(answers: dict[str, list[Any]]) -> list[tuple[int, int]]:
    return [(start, start + len(text)) for text, start in zip(answers["text"], answers["answer_start"], strict=True)]


def _contexts(encoded: "Encoded") -> list[str]:
    assert encoded.owners is not None
    texts = encoded.owners.ragged["contexts"]
    return [texts.text(row) for row in range(len(texts))]


def _references(encoded: "Encoded") -> list[list[str]]:
    """The right answers of each row; none where there is none."""
    assert encoded.owners is not None
    spans = encoded.owners.ragged["spans"]
    return [
        [text[start:end] for start, end in spans[row].reshape(-1, 2)] for row, text in enumerate(_contexts(encoded))
    ]
