"""Toy data for every task: sentences of the tiny BERT's words, in which one word tells."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from hpo.tasks import (
    MaskedLm,
    MultiLabel,
    MultipleChoice,
    QuestionAnswering,
    RelationClassification,
    SequenceClassification,
    SequenceToSequence,
    Task,
    TokenClassification,
)

FILLERS = ["film", "plot", "a", "the", "was", "it"]


@dataclass(frozen=True)
class Toy:
    """rows: (draw) -> one row. reachable: what a few epochs of a tiny BERT reach of the default metric at least."""

    task: Task
    row: Callable[[np.random.Generator], Mapping[str, Any]]
    reachable: float = 0.8

    def table(self, rows: int, seed: int = 0) -> pa.Table:
        draw = np.random.default_rng(seed)
        return pa.Table.from_pylist([dict(self.row(draw)) for _ in range(rows)])

    @property
    def asked(self) -> list[str]:
        return [column.name for column in self.task.asked]


def sentence(draw: np.random.Generator, *telling: str) -> list[str]:
    words = [str(word) for word in draw.choice(FILLERS, draw.integers(2, 7))]
    for word in telling:
        words.insert(int(draw.integers(0, len(words) + 1)), word)
    return words


def classified(draw: np.random.Generator) -> Mapping[str, Any]:
    word = str(draw.choice(["good", "bad"]))
    return {"text": " ".join(sentence(draw, word)), "label": word}


def scored(draw: np.random.Generator) -> Mapping[str, Any]:
    good = int(draw.integers(0, 4))
    return {"text": " ".join(sentence(draw, *["good"] * good)), "label": float(good)}


def labelled(draw: np.random.Generator) -> Mapping[str, Any]:
    words = [word for word in ("good", "bad", "very") if draw.random() < 0.5]
    return {"text": " ".join(sentence(draw, *words)), "labels": words}


def tagged(draw: np.random.Generator) -> Mapping[str, Any]:
    words = sentence(draw, *(["good"] if draw.random() < 0.7 else []), *(["bad"] if draw.random() < 0.7 else []))
    tags = {"good": "B-praise", "bad": "B-blame"}
    return {"tokens": words, "tags": [tags.get(word, "O") for word in words]}


def answered(draw: np.random.Generator) -> Mapping[str, Any]:
    word = str(draw.choice(["good", "bad"]))
    context = " ".join(sentence(draw, word))
    return {
        "question": "was it good bad",
        "context": context,
        "answers": {"text": [word], "answer_start": [context.index(word)]},
    }


def perhaps_answered(draw: np.random.Generator) -> Mapping[str, Any]:
    row = dict(answered(draw))
    if draw.random() < 0.4:
        row |= {"context": " ".join(sentence(draw)), "answers": {"text": [], "answer_start": []}}
    return row


def chosen(draw: np.random.Generator) -> Mapping[str, Any]:
    right = int(draw.integers(0, 3))
    choices = [" ".join(sentence(draw, "good" if place == right else "bad")) for place in range(3)]
    return {"context": "it was", "choices": choices, "label": str(right)}


def related(draw: np.random.Generator) -> Mapping[str, Any]:
    """What the first of two entities is, wherever they stand."""
    word = "good" if draw.random() < 0.5 else "bad"
    marked = [f"<e1>{word}</e1>", "<e2>very</e2>"]
    if draw.random() < 0.5:
        marked.reverse()
    fillers = [str(word) for word in draw.choice(FILLERS, 3)]
    text = f"{fillers[0]} {marked[0]} {fillers[1]} {marked[1]} {fillers[2]}"
    return {"text": text, "label": f"{word} for it"}


def placed(draw: np.random.Generator) -> Mapping[str, Any]:
    """The same, with places instead of marks."""
    row = related(draw)
    text = re.sub("<.*?>", "", row["text"])
    ends = [[text.index(own), text.index(own) + len(own)] for own in (row["label"].split()[0], "very")]
    return {"text": text, "from": ends[0], "to": ends[1], "label": row["label"]}


def written(draw: np.random.Generator) -> Mapping[str, Any]:
    """Every word follows from the one before it."""
    start = int(draw.integers(0, len(FILLERS)))
    return {"text": " ".join(FILLERS[(start + place) % len(FILLERS)] for place in range(int(draw.integers(5, 12))))}


def of_two(draw: np.random.Generator) -> Mapping[str, Any]:
    """What is told of in the first sentence is told of in the second one."""
    word = str(draw.choice(["good", "bad", "boring"]))
    return {"text": ". ".join(" ".join(sentence(draw, word)) for _ in range(2))}


def told_again(draw: np.random.Generator) -> Mapping[str, Any]:
    """Of a sentence, what it says of the film."""
    word = str(draw.choice(["good", "bad"]))
    told = "it was a good film" if word == "good" else "the plot was very bad"
    return {"source": " ".join(sentence(draw, word)), "target": told}


def swag(draw: np.random.Generator) -> Mapping[str, Any]:
    row = chosen(draw)
    endings = {f"ending{place}": text for place, text in enumerate(row["choices"])}
    return {"sent1": "it was", "sent2": "the", **endings, "label": row["label"]}


TOYS = {
    "classes": Toy(SequenceClassification(text="text", label="label", max_length=16), classified),
    "classes of windows": Toy(
        SequenceClassification(text="text", label="label", max_length=6, truncation="windows", doc_stride=1), classified
    ),
    "a number": Toy(
        SequenceClassification(text="text", label="label", max_length=16, problem_type="regression"), scored
    ),
    "labels": Toy(MultiLabel(text="text", label="labels", max_length=16), labelled),
    "labels, by macro F1": Toy(MultiLabel(text="text", label="labels", max_length=16, average="macro"), labelled),
    "tags": Toy(TokenClassification(max_length=16), tagged),
    "answers": Toy(QuestionAnswering(max_length=24, doc_stride=2, max_query_length=8, max_answer_length=3), answered),
    "answers or none": Toy(
        QuestionAnswering(max_length=24, doc_stride=2, max_query_length=8, max_answer_length=3, unanswerable=True),
        perhaps_answered,
    ),
    "relations": Toy(RelationClassification(max_length=16), related),
    "relations in columns": Toy(
        RelationClassification(first="from", second="to", max_length=16, negative="bad for it"), placed
    ),
    "masked words": Toy(MaskedLm(max_length=16), written, reachable=6.0),
    "texts from texts": Toy(SequenceToSequence(max_length=16, max_target_length=8), told_again),
    "masked words and a next sentence": Toy(MaskedLm(max_length=20, next_sentence=True), of_two, reachable=10.0),
    "choices": Toy(MultipleChoice(max_length=16), chosen),
    "choices in columns": Toy(
        MultipleChoice(context="sent1", stem="sent2", choices=("ending0", "ending1", "ending2"), max_length=16), swag
    ),
}
