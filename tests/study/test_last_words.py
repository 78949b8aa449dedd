"""What a person reads who runs a study for the first time: a mistake's place, the steps of judging, what is next."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from hpo import predict
from hpo.config import located
from hpo.errors import ConfigError, Problem


def test_a_column_that_is_not_there_is_said_with_the_line_of_the_key_that_names_it(films: Path, inline: Any) -> None:
    films.write_text(films.read_text().replace("text: sentence", "text: sentense"))
    done = inline("run", "--space", films, "--dry-run", "--no-probe")
    assert done.returncode == 2
    assert "task.text: " in done.stderr
    assert "there is no column 'sentense'; there are sentence, label; did you mean sentence?" in done.stderr
    assert f"({films}:4)" in done.stderr
    text = films.read_text()
    films.write_text(text.replace("sampler: {type: tpe, n_startup_trials: 3}", "sampler: tpe"))
    assert films.read_text() != text
    short = "search.sampler.n_startup_trials=4"
    done = inline("run", "--space", films, "--dry-run", "--no-probe", "--set", "task.text=words", "--set", short)
    assert "no column 'words'" in done.stderr
    assert "(--set task.text=words)" in done.stderr


def test_a_late_mistake_has_the_line_of_its_key_and_what_is_no_key_has_none(films: Path) -> None:
    late = ConfigError([Problem("task.text", "a"), Problem("HPO_CRASH", "b"), Problem("search.first[0]", "c")])
    lines = films.read_text().splitlines()
    search = 1 + next(place for place, line in enumerate(lines) if line.startswith("search:"))
    found = located(late, films).problems
    assert [(one.where, one.line) for one in found] == [
        ("task.text", 4),
        ("HPO_CRASH", None),
        ("search.first[0]", search),
    ]


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
    given = shlex.split(command.replace("rows.tsv", str(rows)).replace("answers.tsv", "out.tsv"))
    assert predict.main(given) == 0
    assert "prediction" in Path("out.tsv").read_text()
