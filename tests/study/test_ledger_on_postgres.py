"""The ledger in a database server, through whole studies: run, go on, verify, warm start, and what is refused."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import postgres
import pytest

pytestmark = pytest.mark.service


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[postgres.Postgres]:
    with postgres.running() as own:
        monkeypatch.setenv("PGPASSWORD", own.password)
        own.create("ledger", "other")
        yield own


def states(server: postgres.Postgres, study: str) -> list[str]:
    import optuna

    storage = optuna.storages.RDBStorage(server.uri("ledger"))
    return [trial.state.name for trial in optuna.load_study(study_name=study, storage=storage).get_trials()]


def test_a_study_goes_on_in_a_database_server(server: postgres.Postgres, films: Path, inline: Any) -> None:
    folder = films.parent / "studies" / "films"
    arguments = ["--space", films, "--set", f"ledger={server.uri('ledger')}"]
    first = inline("run", *arguments, "--set", "budget.trials=2")
    assert first.returncode == 0, first.stdout + first.stderr
    assert not (folder / "ledger.db").exists()
    server.stop()  # as a crash: what was told is there
    server.start()
    again = inline("run", *arguments, "--resume", "--set", "confirm={top: 1, seeds: 1}")
    assert again.returncode == 0, again.stdout + again.stderr
    assert len(states(server, "films")) == 4
    assert re.search(r"films: 4 trials in", again.stdout)
    verified = inline("verify", "--study", folder, "--tracking-uri", f"sqlite:///{films.parent}/mlflow.db")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    for file in folder.rglob("*"):
        assert not file.is_file() or server.password.encode() not in file.read_bytes()

    other = ["--space", films, "--set", f"ledger={server.uri('ledger')}", "--set", "study=films-2"]
    warm = inline("run", *other, "--set", "search.warm_start=['films*']", "--set", "budget.trials=1")
    assert warm.returncode == 0, warm.stdout + warm.stderr
    assert re.search(r"warm start from films: [34] trials taken over as evidence", warm.stdout)

    elsewhere = inline("run", *arguments, "--storage", films.parent / "elsewhere")
    assert elsewhere.returncode == 2
    assert "has films already, and" in elsewhere.stderr
    lost = inline("run", "--space", films, "--resume", "--set", f"ledger={server.uri('other')}")
    assert lost.returncode == 4
    assert "films is not in the ledger" in lost.stderr


def test_a_database_server_that_is_away_or_another_programs_is_named(
    server: postgres.Postgres, films: Path, inline: Any, store: str
) -> None:
    from hpo.mlflow_client import open_client

    open_client(f"{server.uri('other')}").search_experiments(max_results=1)  # makes the tables of MLflow
    taken = inline("run", "--space", films, "--set", f"ledger={server.uri('other')}")
    assert taken.returncode == 4
    assert "check that the server is up, that the database is the ledger's alone" in taken.stderr
    shutil.rmtree(films.parent / "studies", ignore_errors=True)
    server.stop()
    away = inline("run", "--space", films, "--set", f"ledger={server.uri('ledger')}")
    server.start()
    assert away.returncode == 4
    assert f"ledger: {server.uri('ledger')} can't be opened" in away.stderr
