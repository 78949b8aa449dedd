"""What a person reads who runs a study for the first time: a mistake's place, the steps of judging, what is next."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from hpo import predict


def test_a_column_that_is_not_there_is_said_with_the_line_of_the_key_that_names_it(films: Path, inline: Any) -> None:
    films.write_text(films.read_text().replace("text: sentence", "text: sentense"))
    done = inline("run", "--space", films, "--dry-run", "--no-probe")
    assert done.returncode == 2
    assert "task.text: " in done.stderr
    assert "there is no column 'sentense'; there are sentence, label; did you mean sentence?" in done.stderr
    assert f"({films}:4)" in done.stderr
    done = inline("run", "--space", films, "--dry-run", "--no-probe", "--set", "task.text=words")
    assert "no column 'words'" in done.stderr
    assert "(--set task.text=words)" in done.stderr


def test_a_study_that_promotes_nothing_ends_with_a_command_that_asks_its_winner(
    films: Path, inline: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(films.parent)
    done = inline(
        *("run", "--space", films, "--set", "promotion=null", "--set", "budget.trials=2"),
        *("--set", "confirm={top: 1, seeds: 2}", "--set", "task.max_length=8"),
    )
    assert done.returncode == 0, done.stderr
    steps = done.stdout.partition("judging the winner\n")[2].partition("\n\n")[0].splitlines()
    assert re.fullmatch(r" {10}the winner, trial \d seed \d, answers the test rows", steps[0])
    assert steps[-1] == "          writing the report"
    weights = r"its weights: trial \d, seed \d, the best of its 2 fresh seeds on the validation rows\n"
    assert re.search(weights, done.stdout)
    command = done.stdout.rstrip().splitlines()[-1].partition("hpo.predict ")[2]
    rows = tmp_path / "rows.tsv"
    rows.write_text("sentence\nthe film was good\n")
    given = shlex.split(command.replace("--input FILE", f"--input {rows}").replace("--output FILE", "--output out.tsv"))
    assert predict.main(given) == 0
    assert "prediction" in Path("out.tsv").read_text()
