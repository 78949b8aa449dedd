"""The GPU benchmark goes its whole way on a CPU, in a process that finds only what training needs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))  # benchmarks are not installed with the package

from benchmarks.gpu import main
from benchmarks.gpu_table import flops_per_token, table

ROOT = Path(__file__).parent.parent

HIDDEN = """
import importlib.machinery, sys

class Finder(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] in {"ray", "optuna", "mlflow", "datasets", "evaluate", "sqlalchemy"}:
            return None
        return super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = Finder
"""


def test_training_is_measured_where_nothing_but_torch_and_transformers_is_installed(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(HIDDEN)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]), "OMP_NUM_THREADS": "1"}
    environment["HPO_DATA"] = str(tmp_path / "none")
    arms = "ours,eager,graphs,shadow,trainer"
    command = [sys.executable, "-m", "benchmarks.gpu", "--tiny", "--arms", arms, "--json", str(tmp_path / "gpu.json")]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert {one["what"] for one in found["errors"]} <= {"trainer, batch 4, preparing"}, done.stdout  # no accelerate
    assert {one["arm"] for one in found["measured"]} >= {"ours", "eager", "graphs", "shadow"}
    assert [one["count"] for one in found["processes"]] == [one["count"] for one in found["streams"]] == [1, 2]
    assert [one["arm"] for one in found["fine_tuned"]] == ["eager", "ours"] * 2
    assert found["evaluated"]
    assert len(found["trials"]) == 2
    steps = len(found["curves"]["eager"])
    assert found["curves"]["graphs"] == pytest.approx(found["curves"]["eager"], abs=0.01)
    assert found["curves"]["shadow"] == pytest.approx(found["curves"]["eager"], abs=0.02)
    assert steps == len(found["curves"]["eager float32"]) > 1
    assert "| shadow |" in done.stdout


def test_a_table_has_least_median_and_most_and_the_ratio_to_trainer() -> None:
    shape = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
    measured = [
        {"arm": arm, "batch": 16, "seconds": seconds, "steps": 10, "sentences": 160, "tokens": 2_000}
        for arm, seconds in (("ours", 0.1), ("ours", 0.2), ("ours", 0.4), ("trainer", 0.8))
    ]
    rows = table({"measured": measured, "prepared": [], "peak_flops": 1e15}, shape, 16).splitlines()
    assert flops_per_token(shape) == pytest.approx(509.6e6, rel=1e-3)
    assert "| 400 / 800 / 1,600 | 10.00 / 20.00 / 40.00 |" in rows[2]
    assert rows[2].endswith("| 43 | 4.00 |")
    assert rows[3].endswith("| 1.00 |")


def test_an_arm_that_is_not_there_is_refused() -> None:
    with pytest.raises(SystemExit, match="--arms: theirs is unknown"):
        main(["--tiny", "--arms", "theirs"])
