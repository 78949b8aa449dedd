"""The CPU benchmarks go their whole way with a BERT of two layers."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))  # benchmarks are not installed with the package

from benchmarks import cpu, parity
from benchmarks.gpu import TINY


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from transformers import BertConfig, BertForSequenceClassification

    monkeypatch.delenv("HPO_DATA", raising=False)
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
