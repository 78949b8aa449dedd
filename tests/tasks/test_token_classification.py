from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from hpo.errors import DataError
from hpo.tasks import TokenClassification
from hpo.training.pretrained import Tokenizer, load_tokenizer

TASK = TokenClassification()
LABELS = ("O", "B-person", "I-person")


class Bytes:
    """A tokenizer of pieces: two bytes each, no piece over a blank; [CLS] is 1, [SEP] is 2."""

    def aligned(self, texts: list[str], max_length: int) -> dict[str, list[list[int]]]:
        found: dict[str, list[list[int]]] = {"input_ids": [], "starts": [], "ends": []}
        for text in texts:
            spans, place = [], 0
            for word in text.split(" "):
                spans += [(place + at, min(place + at + 2, place + len(word))) for at in range(0, len(word), 2)]
                place += len(word) + 1
            spans = spans[: max_length - 2]
            found["input_ids"].append([1, *(ord(text[start]) for start, _ in spans), 2])
            found["starts"].append([-1, *(start for start, _ in spans), -1])
            found["ends"].append([-1, *(end for _, end in spans), -1])
        return found


def table(words: list[str], tags: list[str]) -> pa.Table:
    return pa.table({"tokens": [words], "tags": [tags]})


def encode(words: list[str], tags: list[str], max_length: int = 64) -> Any:
    task = TASK.model_copy(update={"max_length": max_length})
    return task.encode(table(words, tags), LABELS, Bytes()), task  # type: ignore[arg-type]


def test_the_first_piece_of_a_word_carries_its_tag_and_the_others_nothing() -> None:
    encoded, task = encode(["Annabel", "Lee", "ran"], ["B-person", "I-person", "O"])
    batch = task.collate(encoded, np.array([0]), 0)
    assert batch["input_ids"][0].tolist() == [1, 65, 110, 98, 108, 76, 101, 114, 110, 2]
    assert batch["labels"][0].tolist() == [-100, 1, -100, -100, -100, 2, -100, 0, -100, -100]
    assert encoded.terms.tolist() == [3]


def test_other_schemes_are_learnt_as_iob2() -> None:
    encoded, _ = encode(["Ann", "Lee", "Bob"], ["B-person", "E-person", "S-person"])
    assert encoded.ragged["tags"][0].tolist() == [1, 2, 1]


def test_words_behind_the_end_are_told_and_count_as_not_found() -> None:
    encoded, task = encode(["Ann", "ran", "Bob"], ["B-person", "O", "B-person"], max_length=6)
    assert task.notes(encoded) == (
        "1 of 1 sentences are longer than 6 tokens: 1 words are cut off, and count as O (task.max_length)",
    )
    outputs = np.zeros((6, 3))
    outputs[1, 1] = outputs[3, 0] = 1.0
    found = task.compute_metrics(outputs, encoded, LABELS)
    assert (found["precision"], found["recall"]) == (1.0, 0.5)


def test_a_word_without_a_token_is_outside() -> None:
    encoded, task = encode(["Ann", "", "Lee"], ["B-person", "O", "I-person"])
    outputs = np.zeros((6, 3))
    outputs[:, 1] = 1.0
    assert encoded.terms.tolist() == [2]
    (said,) = task._said(outputs, encoded, LABELS)
    assert said == ["B-person", "O", "B-person"]


@pytest.mark.parametrize(
    ("tags", "labels", "names"),
    [
        (["B-b", "I-b", "U-a"], None, ("O", "B-a", "I-a", "B-b", "I-b")),
        (["B-b", "O"], ("c", "b"), ("O", "B-c", "I-c", "B-b", "I-b")),
        (["B-b", "O"], ("O", "B-b", "I-b", "B-c", "I-c"), ("O", "B-b", "I-b", "B-c", "I-c")),
        (["b", "a"], None, ("a", "b")),
        (["b", "O"], None, ("O", "b")),
    ],
)
def test_class_names_follow_from_the_types(tags: list[str], labels: Any, names: tuple[str, ...]) -> None:
    task = TASK.model_copy(update={"labels": labels})
    assert task.label_names(table(["w"] * len(tags), tags)) == names


def test_train_rows_without_entities_are_refused() -> None:
    with pytest.raises(DataError, match="all tags in the column 'tags' of train are O"):
        TASK.label_names(table(["a"], ["O"]))


def test_an_entity_that_is_found_has_its_place_and_its_probability(tiny_bert: Path) -> None:
    words = pa.table({"tokens": ["the film, it was"]})
    encoded = TASK.encode(words, LABELS, load_tokenizer(tiny_bert))
    outputs = np.zeros((len(encoded.ragged["input_ids"].values), 3))
    outputs[2, 1], outputs[4, 1] = 20.0, 20.0  # film, it
    outputs[5, 2] = 20.0  # was
    answers = TASK.predict(outputs, encoded, LABELS, all_scores=True)
    assert answers["predicted_tags"] == [["O", "B-person", "O", "B-person", "I-person"]]
    assert answers["prediction"] == [
        [
            {"type": "person", "text": "film", "start": 4, "end": 8, "score": 1.0},
            {"type": "person", "text": "it was", "start": 10, "end": 16, "score": 1.0},
        ]
    ]
    assert len(answers["tag_scores"][0]) == 5
    short = TASK.model_copy(update={"max_length": 4})
    cut = short.encode(words, LABELS, load_tokenizer(tiny_bert))
    answers = short.predict(outputs[: len(cut.ragged["input_ids"].values)], cut, LABELS, all_scores=True)
    assert [score == 0.0 for score in answers["tag_scores"][0]] == [False, False, True, True, True]


def test_alignment_is_that_of_transformers(real_data: Path) -> None:
    from transformers import BertTokenizerFast

    inner = BertTokenizerFast(str(real_data / "bert-base-uncased" / "vocab.txt"))
    sentences = [
        ["Don't", "stop", "@user", "\u00fcber-cool", "#ACL2020"],
        ["U.N.", "x" * 40, "\u4e2d\u6587", "\ufeff", "end"],
    ]
    tags = [["O"] * 5, ["B-person", *["O"] * 4]]
    encoded = TASK.encode(pa.table({"tokens": sentences, "tags": tags}), LABELS, Tokenizer(inner))
    for row, words in enumerate(sentences):
        expected = inner(words, is_split_into_words=True)
        assert encoded.ragged["input_ids"][row].tolist() == expected["input_ids"]
        begun = [
            word if word is not None and word not in expected.word_ids()[:place] else -1
            for place, word in enumerate(expected.word_ids())
        ]
        assert encoded.ragged["words"][row].tolist() == begun


def test_two_columns_of_one_name_are_refused() -> None:
    with pytest.raises(ValidationError, match="one column"):
        TokenClassification(tokens="a", tags="a")
