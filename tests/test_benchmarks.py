import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))  # benchmarks are not installed with the package

from benchmarks import adaptation
from benchmarks.overhead import measure, plan, table


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


def test_what_adaptation_was_worth_is_told_seed_by_seed() -> None:
    plain = [{"arm": "plain", "seed": seed, "accuracy": 0.6} for seed in (1, 2)]
    other = [{"arm": "own texts", "seed": seed, "accuracy": 0.6 + seed / 100, "perplexity": 1_234.5} for seed in (1, 2)]
    rows = adaptation.table([*plain, *other]).splitlines()
    assert rows[2:] == ["| plain |  | 0.6000 |  |", "| own texts | 1,234 | 0.6150 | +1.5 ± 6.4 |"]
