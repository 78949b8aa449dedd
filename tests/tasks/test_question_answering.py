from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from hpo.tasks import QuestionAnswering
from hpo.training.pretrained import Tokenizer

TEXT = "Ann went to Rome in 1999 and came back from Rome in 2001 with a golden ring and a dog ."


@pytest.fixture(scope="module")
def tokenizer(real_data: Path) -> Tokenizer:
    from transformers import BertTokenizerFast

    return Tokenizer(BertTokenizerFast(str(real_data / "bert-base-uncased" / "vocab.txt")))


def rows(*answers: str, question: str = "When?") -> pa.Table:
    spans = {"text": list(answers), "answer_start": [TEXT.index(text) for text in answers]}
    return pa.Table.from_pylist([{"question": question, "context": TEXT, "answers": spans}])


TASK = QuestionAnswering(max_length=18, doc_stride=4, max_query_length=4)


def test_a_long_text_is_read_in_windows_that_overlap(tokenizer: Tokenizer) -> None:
    encoded = TASK.encode(rows("a golden ring"), (), tokenizer)
    assert len(encoded) == 2
    assert encoded.rows == 1
    assert encoded.flat["row"].tolist() == [0, 0]
    first, second = (encoded.ragged["starts"][window] for window in range(2))
    assert len(set(first[first >= 0]) & set(second[second >= 0])) == 4
    assert encoded.ragged["ends"][1].max() == len(TEXT)
    assert "1 questions make 2 windows of at most 18 tokens" in TASK.notes(encoded)


def test_the_answer_is_marked_where_it_is_whole_and_elsewhere_the_first_token(tokenizer: Tokenizer) -> None:
    encoded = TASK.encode(rows("a golden ring"), (), tokenizer)
    (one_first, one_last, one_length), (first, last, length) = encoded.labels.tolist()
    assert (one_first, one_last) == (0, 0)
    assert [one_length, length] == encoded.ragged["input_ids"].lengths.tolist()
    starts, ends = encoded.ragged["starts"][1], encoded.ragged["ends"][1]
    assert TEXT[starts[first] : ends[last]] == "a golden ring"


def test_an_answer_longer_than_what_windows_share_is_told(tokenizer: Tokenizer) -> None:
    encoded = TASK.encode(rows(TEXT[: TEXT.index("ring")].strip()), (), tokenizer)
    assert any("1 answers are in no window as a whole" in note for note in TASK.notes(encoded))


def test_a_long_question_is_cut_and_a_blank_before_it_is_dropped(tokenizer: Tokenizer) -> None:
    short = TASK.encode(rows("1999", question="one two three four"), (), tokenizer)
    long = TASK.encode(rows("1999", question="  one two three four five six"), (), tokenizer)
    assert short.ragged["input_ids"].values.tolist() == long.ragged["input_ids"].values.tolist()


def test_windows_are_those_of_transformers(tokenizer: Tokenizer) -> None:
    encoded = TASK.encode(rows("1999"), (), tokenizer)
    expected: Any = tokenizer.inner(
        "When?", TEXT, truncation="only_second", max_length=18, stride=4, return_overflowing_tokens=True, padding=True
    )
    batch = TASK.collate(encoded, np.arange(len(encoded)), 0)
    for name in ("input_ids", "token_type_ids", "attention_mask"):
        assert batch[name].tolist() == expected[name]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"doc_stride": 400}, "doc_stride is 400, but a question may leave 316 tokens"),
        ({"max_query_length": 380}, "may leave 0 tokens"),
        ({"null_threshold": 1.0}, "set unanswerable: true"),
        ({"context": "question"}, "one column twice"),
    ],
)
def test_a_task_that_cannot_work_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        QuestionAnswering.model_validate(changes)


def test_no_answer_is_given_where_its_score_is_above_the_threshold(tokenizer: Tokenizer) -> None:
    table = rows("1999").select(["question", "context"])
    for threshold, expected in ((-1.0, ""), (5.0, "1999")):
        task = QuestionAnswering(max_length=64, doc_stride=8, max_query_length=8, unanswerable=True)
        task = task.model_copy(update={"null_threshold": threshold})
        encoded = task.encode(table, (), tokenizer)
        place = encoded.ragged["starts"][0].tolist().index(TEXT.index("1999"))
        outputs = np.full((len(encoded.ragged["input_ids"].values), 2), -9.0)
        outputs[place] = outputs[0] = 2.0
        found = task.predict(outputs, encoded, (), all_scores=True)
        assert found["prediction"] == [expected]
        assert found["start"] == [None if not expected else TEXT.index("1999")]
        assert found["score"][0] == pytest.approx(0.5, abs=1e-3)
        assert found["null_score"][0] == pytest.approx(0.5, abs=1e-3)
