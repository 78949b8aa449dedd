"""Whoever only looks at a study, or is refused, leaves its ledger as it was; also where the space has changed."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from hpo import config
from hpo.errors import ConfigError
from hpo.ledger import Ledger
from hpo.records import TrialState
from hpo.report.screen import open_screen
from hpo.study import driver, history
from hpo.study import folder as study_folder
from hpo.study.plan import make_plan

CHANGED = ["space.hidden_dropout_prob={low: 0.0, high: 0.3}", "space.num_train_epochs=[2, 3, 4]"]


def opened(loaded: config.StudyConfig) -> Ledger:
    return Ledger(
        loaded.folder,
        study=loaded.study,
        mode=loaded.mode,
        space=loaded.space,
        sampler=loaded.search.sampler,
        seed=loaded.seed,
        defaults=history.TRAINED_WITHOUT,
    )


def contents(file: Path) -> list[str]:
    with closing(sqlite3.connect(file)) as connection:
        return list(connection.iterdump())


@pytest.fixture
def begun(films: Path) -> Path:
    """The space file of a study with three trials."""
    loaded = config.load(films)
    ledger = opened(loaded)
    for _ in range(3):
        asked = ledger.ask()
        assert asked is not None
        ledger.tell(asked.number, TrialState.COMPLETE, value=0.5, metrics={"epochs": 2.0}, seconds=3.0)
    ledger.spend(12.5)
    study_folder.save(loaded.folder, loaded, {})
    return films


def test_a_dry_run_with_another_space_changes_no_ledger(begun: Path) -> None:
    loaded = config.load(begun, CHANGED)
    before = contents(loaded.folder / "ledger.db")
    with open_screen() as screen:
        plan = make_plan(loaded, screen, timed=False)
    assert plan.finished == 3
    assert contents(loaded.folder / "ledger.db") == before
    assert opened(loaded).history == ("the space changed: 3 of 3 trials fit the new one and count",)


def test_a_dry_run_beside_a_driver_takes_nothing_from_it(begun: Path) -> None:
    running = opened(config.load(begun))
    loaded = config.load(begun, CHANGED)
    with open_screen() as screen:
        make_plan(loaded, screen, timed=False)
    asked = running.ask()
    assert asked is not None
    running.tell(asked.number, TrialState.COMPLETE, value=0.6)
    assert [record.number for record in opened(loaded).records()] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        ("search.warm_start=[nowhere]", "nowhere has no ledger"),
        ("search.scheduler.rungs=8", "the lowest of 8 rungs"),
    ],
)
def test_a_run_that_is_refused_changes_no_ledger(refused: str, message: str, begun: Path) -> None:
    loaded = config.load(begun, [*CHANGED, refused])
    before = contents(loaded.folder / "ledger.db")
    with pytest.raises(ConfigError, match=message):
        driver.run(loaded, resume=True)
    assert contents(loaded.folder / "ledger.db") == before


def test_a_first_run_that_is_refused_leaves_no_ledger(films: Path) -> None:
    loaded = config.load(films, ["search.warm_start=[nowhere]", "confirm={seeds: 3}"])
    with pytest.raises(ConfigError, match="nowhere has no ledger"):
        driver.run(loaded)
    assert not (loaded.folder / "ledger.db").exists()
