"""Programs of others that look at a study: they read what it keeps as it is."""

import json
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest

from hpo.ledger import Ledger
from hpo.records import TrialState
from hpo.samplers import RandomConfig
from hpo.space import FloatRange, SearchSpace


def test_the_optuna_dashboard_reads_a_ledger(tmp_path: Path) -> None:
    dashboard: Any = pytest.importorskip("optuna_dashboard", reason="no optuna-dashboard; uv sync --group services")
    import optuna

    space = SearchSpace({"learning_rate": FloatRange(1e-5, 1e-3, log=True)})
    ledger = Ledger(tmp_path, study="films", mode="max", space=space, sampler=RandomConfig(), seed=1)
    trial = ledger.ask()
    assert trial is not None
    ledger.report(trial.number, 1.0, 0.75)
    ledger.tell(trial.number, TrialState.COMPLETE, value=0.75)

    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'ledger.db'}", skip_table_creation=True)
    app = dashboard.wsgi(storage)
    assert [own["study_name"] for own in answer(app, "/api/studies")["study_summaries"]] == ["films"]
    [seen] = answer(app, "/api/studies/1")["trials"]
    assert (seen["state"], seen["values"]) == ("Complete", [0.75])
    assert [own["value"] for own in seen["intermediate_values"]] == [0.75]


def answer(app: Any, path: str) -> Any:
    environment: dict[str, Any] = {"PATH_INFO": path, "REQUEST_METHOD": "GET"}
    setup_testing_defaults(environment)
    status: list[str] = []
    body = b"".join(app(environment, lambda code, headers, problem=None: status.append(code)))
    assert status[0].startswith("200"), body
    return json.loads(body)
