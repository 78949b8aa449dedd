import json
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))  # benchmarks are not installed with the package

from benchmarks import adaptation, noise
from benchmarks.overhead import measure, plan, table
from hpo.promotion import PromotionConfig


def test_the_whole_stack_is_measured() -> None:
    result = measure("ours", trials=3, slots=1)
    assert result["trials"] == 3
    assert 0 < result["steady"] < result["total"]
    assert "ours" in table([result])


def test_arms_take_turns_and_the_slow_one_runs_once() -> None:
    arms = [arm for arm, _ in plan(100, 12, 3)]
    assert arms.count("plain") == 1
    assert arms.count("ours") == arms.count("reuse") == 3
    assert arms[:3] == ["ours", "unmirrored", "reuse"]


def test_a_growing_study_is_measured_at_its_marks(tmp_path: Path) -> None:
    file = tmp_path / "growth.json"
    command = [sys.executable, "-m", "benchmarks.growth", "--trials", "110", "--seconds", "0.001", "--json", str(file)]
    done = subprocess.run(command, cwd=Path(__file__).parent.parent, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(file.read_text())
    assert [line["trials"] for line in found["lines"]] == [100]
    line = found["lines"][0]
    assert found["ideal"] < line["wall"] < 10
    assert 0 < line["median"] <= line["p95"]
    assert 50 < line["memory"] < 5_000
    assert f"| 100 | {line['wall']:.4f} |" in done.stdout


def test_what_adaptation_was_worth_is_told_seed_by_seed() -> None:
    plain = [{"arm": "plain", "seed": seed, "accuracy": 0.6} for seed in (1, 2)]
    other = [{"arm": "own texts", "seed": seed, "accuracy": 0.6 + seed / 100, "perplexity": 1_234.5} for seed in (1, 2)]
    rows = adaptation.table([*plain, *other]).splitlines()
    assert rows[2:] == ["| plain |  | 0.6000 |  |", "| own texts | 1,234 | 0.6150 | +1.5 ± 6.4 |"]


def test_equal_models_on_the_rows_of_every_night_are_seldom_promoted() -> None:
    gate = PromotionConfig(model="noise", confidence=None)
    scene = noise.Scene("accuracy", 200, 0.9)
    assert 0 < noise.simulate_year(scene, gate, seed=1, nights=20) < 10  # every second one, were the rows new
