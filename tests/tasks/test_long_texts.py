"""What is read of texts that are too long, and how windows become one answer."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from toys import TOYS, Toy

from hpo.answering import Model
from hpo.encoded import Encoded
from hpo.records import Seeds, TrialConfig
from hpo.tasks import SequenceClassification
from hpo.tasks.long_texts import Truncation, cut, pooled
from hpo.training.pretrained import load_tokenizer
from hpo.trial import TrialObjective

IDS = [2, *range(10, 22), 3]
"""Twelve tokens between [CLS] and [SEP]."""


@pytest.mark.parametrize(
    ("how", "stride", "parts"),
    [
        ("head", 0, [range(10, 18)]),
        ("tail", 0, [range(14, 22)]),
        ("head_tail", 0, [[10, 11, *range(16, 22)]]),
        ("windows", 0, [range(10, 18), range(18, 22)]),
        ("windows", 4, [range(10, 18), range(14, 22)]),
        ("windows", 6, [range(10, 18), range(12, 20), range(14, 22)]),
    ],
)
def test_each_way_reads_its_part(how: Truncation, stride: int, parts: list[range]) -> None:
    assert cut(IDS, 10, how, stride) == [[2, *part, 3] for part in parts]


@pytest.mark.parametrize("how", ["head", "tail", "head_tail", "windows"])
def test_a_text_that_fits_is_read_whole(how: Truncation) -> None:
    assert cut(IDS, 14, how, 2) == [IDS]


@pytest.mark.parametrize("length", range(3, 40))
@pytest.mark.parametrize("stride", [0, 1, 5])
def test_windows_hold_every_token_and_are_never_too_long(length: int, stride: int) -> None:
    ids = [2, *range(10, 10 + length), 3]
    found = cut(ids, 9, "windows", stride)
    assert all(3 <= len(one) <= 9 for one in found)
    assert sorted({token for one in found for token in one[1:-1]}) == ids[1:-1]
    assert len({tuple(one) for one in found}) == len(found)


def task(how: Truncation, **fields: object) -> SequenceClassification:
    return SequenceClassification(text="text", label="label", max_length=6, truncation=how, **fields)  # type: ignore[arg-type]


def rows_of(count: int, seed: int) -> pa.Table:
    """The word that tells stands in the middle, behind what a head of four tokens reads."""
    draw = np.random.default_rng(seed)
    words = draw.choice(["good", "bad"], count)
    filler = ["film", "plot", "a", "the"]
    texts = [" ".join([*draw.choice(filler, 5), word, *draw.choice(filler, draw.integers(1, 6))]) for word in words]
    return pa.table({"text": texts, "label": list(words)})


def test_windows_of_a_row_have_its_label_and_their_mean_is_its_answer(tiny_bert: Path, tmp_path: Path) -> None:
    own = task("windows", doc_stride=1)
    encoded = own.encode(rows_of(5, 0), ("bad", "good"), load_tokenizer(tiny_bert))
    assert encoded.rows == 5
    assert len(encoded) > 10
    assert encoded.labels.tolist() == encoded.row_labels[encoded.flat["row"]].tolist()
    encoded.save(tmp_path / "rows.arrow")
    again = Encoded.load(tmp_path / "rows.arrow")
    outputs = np.random.default_rng(0).normal(size=(len(encoded), 2)).astype(np.float32)
    means = np.stack([outputs[again.flat["row"] == row].mean(0) for row in range(5)])
    np.testing.assert_allclose(pooled(outputs, again), means, rtol=1e-5)
    found = own.compute_metrics(outputs, again, ("bad", "good"))
    assert found["accuracy"] == (means.argmax(1) == encoded.row_labels).mean()
    predictions, references = own.evidence(outputs, again, ("bad", "good"), "accuracy")
    assert len(predictions) == len(references) == 5
    assert len(own.predict(outputs, again, ("bad", "good"), all_scores=True)["prediction"]) == 5
    assert own.notes(again) == (f"5 texts make {len(again)} windows of at most 6 tokens",)
    assert own.pipeline is None
    assert task("head").pipeline == "text-classification"


def test_what_the_head_does_not_read_windows_do(tiny_bert: Path, tmp_path: Path) -> None:
    tokenizer, labels, found = load_tokenizer(tiny_bert), ("bad", "good"), {}
    for own in (task("head"), task("windows")):
        data = tmp_path / own.truncation
        data.mkdir()
        for split, table in (("train", rows_of(160, 0)), ("validation", rows_of(60, 1))):
            own.encode(table, labels, tokenizer).save(data / f"{split}.arrow")
        objective = TrialObjective(
            tiny_bert, own, labels, data, data / "checkpoints", "accuracy", "max", tokenizer.pad_id
        )
        params = {"learning_rate": 2e-3, "num_train_epochs": 8, "per_device_train_batch_size": 8, "bf16": False}
        *_, last = objective(TrialConfig(number=0, params=params, seeds=Seeds(init=1, order=2)))
        assert last.checkpoint is not None
        model = Model.open(last.checkpoint)
        replies = model.reply(rows_of(60, 1).select(["text"]).to_pylist())
        right = [
            reply["prediction"] == label
            for reply, label in zip(replies, rows_of(60, 1)["label"].to_pylist(), strict=True)
        ]
        found[own.truncation] = sum(right) / len(right)
    assert found["windows"] > 0.9 > 0.75 > found["head"]


def test_a_toy_of_windows_is_among_those_that_every_task_is_tried_with() -> None:
    toys: dict[str, Toy] = TOYS
    assert any(getattr(toy.task, "truncation", None) == "windows" for toy in toys.values())
