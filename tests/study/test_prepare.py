"""What a study has before its first trial."""

import io
from pathlib import Path

import pytest

from hpo.config import load
from hpo.errors import ConfigError
from hpo.report.screen import open_screen
from hpo.study.prepare import Prepared, prepare


def prepared(films: Path, *changes: str) -> Prepared:
    with open_screen(io.StringIO()) as screen:
        return prepare(load(films, list(changes)), screen)


def test_studies_with_other_seeds_train_and_are_judged_on_the_same_rows(films: Path) -> None:
    limited = ("data.limit.train=200", "data.validation={from: train, rows: 40}", "data.files.validation=null")
    one, other = (prepared(films, *limited, f"seed={seed}") for seed in (3, 4))
    assert one.facts == other.facts
    assert prepared(films, *limited, "data.seed=4").splits.digest != one.splits.digest


@pytest.mark.parametrize(("change", "key"), [("task.text=sentense", "task.text"), ("data.group=film", "data.group")])
def test_a_column_that_is_not_there_is_named_by_the_key_that_asks_for_it(films: Path, change: str, key: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{key}: .*there is no column"):
        prepared(films, change)
