"""What the benchmark of whole searches makes of its notes; the searches themselves, which take minutes, are not run."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))  # benchmarks are not installed with the package

from benchmarks import searches
from benchmarks.rivals import arguments_of
from hpo import config

NOTES = [
    {"time": 110.0, "value": 0.80, "spent": 3.0},
    {"time": 140.0, "value": 0.85, "spent": 6.5},
    {"time": 150.0, "value": 0.84, "spent": 9.0},
]


def test_a_search_arrives_with_its_first_complete_trial_that_is_good_enough() -> None:
    assert searches.reached(NOTES, 0.84, began=100.0) == {
        "target": 0.84,
        "until_epochs": 6.5,
        "until_seconds": 40.0,
    }
    assert searches.reached(NOTES, 0.9, began=100.0)["until_seconds"] is None


def test_epochs_of_trials_that_still_run_are_spent() -> None:
    def event(kind: str, number: int, time: float, replicate: int = 0, **metrics: float) -> dict[str, object]:
        shared = {"kind": kind, "number": number, "time": time, "replicate": replicate, "metrics": metrics}
        return {**shared, "state": "complete"} if kind == "trial_finished" else shared

    found = searches.told(
        [
            event("trial_reported", 1, 1.0, epoch=0.5),
            event("trial_reported", 0, 2.0, epoch=1.0),
            event("trial_reported", 1, 3.0, epoch=1.5),
            event("trial_finished", 0, 4.0, epochs=2.0, best_accuracy=0.8),
            event("trial_finished", 1, 5.0, epochs=3.0, best_accuracy=0.9),
            event("trial_finished", 0, 6.0, replicate=1, epochs=2.0, best_accuracy=0.7),
            event("study_finished", 0, 7.0, test_accuracy=0.85),
        ]
    )
    assert found == {
        "complete": [{"time": 4.0, "value": 0.8, "spent": 3.5}, {"time": 5.0, "value": 0.9, "spent": 5.0}],
        "epochs": 5.0,
        "ended": 5.0,
        "test": 0.85,
    }


def test_ratios_are_paired_by_seed_and_searches_that_never_came_are_counted() -> None:
    def line(arm: str, seed: int, seconds: float | None) -> dict[str, object]:
        shared = {"until_epochs": seconds and 5.0, "seconds": 300.0, "whole": 400.0, "rate": 99.6, "test": 0.88}
        return {"arm": arm, "seed": seed, "until_seconds": seconds, **shared}

    lines = [line("ours", 0, 10.0), line("ours", 1, 20.0), line("hf-optuna", 0, 50.0), line("hf-optuna", 1, None)]
    row = next(one for one in searches.table(lines).splitlines() if "hyperparameter_search" in one)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[2] == "100 / 100 / 100"
    assert cells[4:6] == ["50 / 50 / 50, 1 never", "5.0 / 5.0 / 5.0"]


def test_trainer_gets_warm_up_under_its_own_name() -> None:
    params = {"learning_rate": 1e-4, "warmup_ratio": 0.1, "hidden_dropout_prob": 0.2}
    assert arguments_of(params) == {"learning_rate": 1e-4, "warmup_steps": 0.1}


def test_an_arm_that_does_not_exist_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        searches.main(["--arms", "ludwig"])
    assert "there is no arm 'ludwig'" in capsys.readouterr().err


def test_the_space_that_all_arms_draw_from_has_what_trainer_can_take(tmp_path: Path) -> None:
    (tmp_path / "rows.tsv").write_text("sentence\tlabel\n", encoding="utf-8")
    files = [f"data.files.{split}={tmp_path / 'rows.tsv'}" for split in ("train", "validation")]
    space = config.load(searches.CURVES / "sst2.yaml", files, tmp_path).space
    assert {*arguments_of(space.project(dict.fromkeys(space.parameters, 0.1)))} == {
        "learning_rate",
        "per_device_train_batch_size",
        "num_train_epochs",
        "warmup_steps",
    }
