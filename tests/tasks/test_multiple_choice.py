import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from hpo.answering import Model
from hpo.data.tables import read_rows
from hpo.errors import DataError
from hpo.tasks import MultipleChoice
from hpo.training.pretrained import Tokenizer

SWAG = MultipleChoice(context="sent1", stem="sent2", choices=("ending0", "ending1", "ending2", "ending3"))
LIST = MultipleChoice()
ROWS = [
    {"sent1": "Members walk down the street.", "sent2": "A drum line", "label": "2"}
    | {
        f"ending{place}": text
        for place, text in enumerate(["passes by.", "has heard it.", "arrives.", "turns the lead"])
    },
    {"sent1": "He sits.", "sent2": "The dog", "label": "0"}
    | {f"ending{place}": text for place, text in enumerate(["barks at him loudly.", "is.", "flies", "sings a song"])},
]


@pytest.fixture(scope="module")
def tokenizer(real_data: Path) -> Tokenizer:
    from transformers import BertTokenizerFast

    return Tokenizer(BertTokenizerFast(str(real_data / "bert-base-uncased" / "vocab.txt")))


def test_a_batch_of_swag_is_that_of_transformers(tokenizer: Tokenizer) -> None:
    encoded = SWAG.encode(pa.Table.from_pylist(ROWS), SWAG.label_names(pa.Table.from_pylist(ROWS)), tokenizer)
    batch = SWAG.collate(encoded, np.array([1, 0]), 0)
    first = [row["sent1"] for row in reversed(ROWS) for _ in range(4)]
    second = [f"{row['sent2']} {row[f'ending{place}']}" for row in reversed(ROWS) for place in range(4)]
    expected = tokenizer.inner(first, second, padding=True, return_tensors="np")
    for name, column in expected.items():
        np.testing.assert_array_equal(batch[name].reshape(8, -1), column)
    assert batch["labels"].tolist() == [0, 2]


def test_choices_in_a_list_are_the_same_as_in_columns(tokenizer: Tokenizer) -> None:
    listed = [
        {
            "context": row["sent1"],
            "choices": [f"{row['sent2']} {row[f'ending{place}']}" for place in range(4)],
            "label": row["label"],
        }
        for row in ROWS
    ]
    one = LIST.encode(pa.Table.from_pylist(listed), (), tokenizer)
    other = SWAG.encode(pa.Table.from_pylist(ROWS), (), tokenizer)
    assert one.ragged["input_ids"].values.tolist() == other.ragged["input_ids"].values.tolist()
    assert LIST.label_names(pa.Table.from_pylist(listed)) == ("0", "1", "2", "3")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"choices": ("a",)}, "at least 2 items"),
        ({"choices": ("a", "label")}, "one column is named twice"),
        ({"stem": "context"}, "one column is named twice"),
    ],
)
def test_a_task_that_cannot_work_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        MultipleChoice.model_validate(changes)


def test_rows_that_are_asked_have_one_number_of_choices(tmp_path: Path) -> None:
    """Else a choice that is not there, which a batch is filled up with, could be the answer."""
    asked = [{"context": "x", "choices": ["a", "b", "c"]}, {"context": "y", "choices": ["a", "b"]}]
    with pytest.raises(DataError, match="inputs, row 2: 2 choices, where the first row has 3"):
        Model(tmp_path, LIST, ("0", "1", "2")).reply(asked)
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": row["context"], "choices": row["choices"]}) + "\n" for row in asked))
    with pytest.raises(DataError, match=r"rows\.jsonl, line 2: 2 choices, where the first row has 3"):
        read_rows(path, LIST.asked, ("text", "choices"), LIST.layout.asked_fault)
    path.write_text(path.read_text().splitlines()[0])
    rows, table = read_rows(path, LIST.asked, ("text", "choices"), LIST.layout.asked_fault)
    assert (list(rows), table.column_names) == (["text", "choices"], ["context", "choices"])
