"""The CPU benchmarks go their whole way with a BERT of two layers."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))  # benchmarks are not installed with the package

from benchmarks import cpu, gpu_rows, parity
from benchmarks.gpu import TINY


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from transformers import BertConfig, BertForSequenceClassification

    monkeypatch.setenv("HPO_DATA", str(tmp_path / "none"))
    folder = tmp_path / "model"
    BertForSequenceClassification(BertConfig(**TINY, vocab_size=30_522, num_labels=2)).save_pretrained(folder)
    return folder


def test_arms_are_measured_by_turns(model: Path, tmp_path: Path) -> None:
    file = tmp_path / "cpu.json"
    few = ["--rows", "64", "--seconds", "0.1", "--repetitions", "2", "--batch", "8"]
    assert cpu.main(["--model", str(model), "--arms", "lean,eager", "--json", str(file), *few]) == 0
    found = json.loads(file.read_text())
    assert [(one["arm"], one["repetition"]) for one in found["measured"]] == [
        ("lean", 0),
        ("eager", 0),
        ("lean", 1),
        ("eager", 1),
    ]


def test_the_table_compares_turn_by_turn() -> None:
    measured = [
        {"arm": arm, "batch": 16, "repetition": place, "sentences": 100, "seconds": seconds}
        for place, (ours, theirs) in enumerate([(1.0, 2.0), (2.0, 6.0)])
        for arm, seconds in (("lean", ours), ("trainer", theirs))
    ]
    assert cpu.table(measured).splitlines()[-1].endswith("| 17 / 33 / 50 | 2.00 / 2.50 / 3.00 |")


def test_accuracies_are_compared_seed_by_seed(model: Path, tmp_path: Path) -> None:
    file = tmp_path / "parity.json"
    few = ["--rows", "64", "--epochs", "1", "--model", str(model), "--json", str(file)]
    assert parity.main([*few, "--seeds", "1"]) == parity.main([*few, "--seeds", "1", "--first-seed", "1"]) == 0
    found = json.loads(file.read_text())["sst2"]
    assert {own["seeds"] for own in found["arms"].values()} == {2}
    assert found["arms"]["eager float32"]["difference"] == 0.0
    mean, width = parity.interval([0.0, 1.0, 2.0])
    assert (mean, width) == pytest.approx((1.0, 2.484), abs=1e-3)


def test_rows_are_those_of_the_data_beside_the_checkout_where_none_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, checkout = tmp_path / "shared" / "data", tmp_path / "checkout"
    for folder in (data / "sst2", data / "bert-base-uncased", checkout):
        folder.mkdir(parents=True)
    (data / "bert-base-uncased" / "vocab.txt").write_text("\n".join([*gpu_rows.SPECIAL, "good", "bad"]))
    for split in ("train", "validation"):
        (data / "sst2" / f"{split}.tsv").write_text("sentence\tlabel\ngood\t1\nbad bad\t0\n")
    monkeypatch.delenv("HPO_DATA", raising=False)
    monkeypatch.chdir(checkout)
    assert gpu_rows.vocabulary_size() == 7
    said = gpu_rows.write_rows(tmp_path / "rows", None, 1, 7)
    assert said == "SST-2: 2 rows of 3.50 wordpieces, 4 at most"
