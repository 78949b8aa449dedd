"""A population as a user runs it: real Ray, a tiny real BERT, a real MLflow store; stopped and gone on with."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from hpo import config
from hpo.ledger import Ledger
from hpo.records import TrialState
from hpo.study.population import FOLDER
from hpo.training import checkpoint

PBT = "{sampler: random, scheduler: {type: pbt, quantile: 0.5}}"
TRIALS = 9


def query(folder: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection:
        return connection.execute(sql).fetchall()


def test_a_population_is_stopped_goes_on_and_says_who_went_on_from_whom(films: Path, command: Any) -> None:
    text = re.sub(r"search: .*", f"search: {PBT}", films.read_text())
    text = text.replace("learning_rate: {low: 1e-3, high: 1e-2,", "learning_rate: {low: 1e-6, high: 1e-2,")
    films.write_text(text.replace("num_train_epochs: [2, 3]", "num_train_epochs: 3\n  weight_decay: [0.0, 0.01, 0.1]"))
    folder = films.parent
    study = folder / "studies" / "films"
    arguments = ["--space", films, "--set", f"budget.trials={TRIALS}"]
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "hpo.run", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ},
    ) as process:
        try:
            assert process.stdout is not None
            seen = []
            for line in process.stdout:
                seen.append(line)
                if re.search(r"trial 3 +started", line):
                    break
            process.send_signal(signal.SIGINT)
            rest = process.communicate(timeout=120)[0]
        finally:
            process.kill()
    assert process.returncode == 130, "".join(seen) + rest
    assert list((study / FOLDER).glob("*.state"))
    (study / FOLDER / ".trial-0003-250000.state.1").write_text("half")

    done = command("run", *arguments, "--resume")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (study / FOLDER).exists()

    own = config.load(films)
    ledger = Ledger(study, study="films", mode="max", space=own.space, sampler=own.search.sampler, seed=own.seed)
    records = ledger.records()
    assert [record.state for record in records] == [TrialState.COMPLETE] * TRIALS
    exploiting = [record for record in records if record.exploits]
    assert exploiting
    named = dict(query(folder, "select name, run_uuid from runs"))
    assert len(named) == TRIALS + 1  # one run a trial, whatever it went on from
    for record in records:
        sql = "select key, step, value from metrics where run_uuid = '{}' order by step"
        logged: dict[str, list[float]] = {}
        for key, _, value in query(folder, sql.format(named[f"trial-{record.number:04d}"])):
            logged.setdefault(key, []).append(value)
        sources = [record.number, *(one.source for one in record.exploits)]
        assert list(dict.fromkeys(logged["weights_from"])) == list(dict.fromkeys(map(float, sources)))
        last = {**record.params, **(record.exploits[-1].params if record.exploits else {})}
        assert logged["weight_decay"][-1] == last["weight_decay"]
        assert logged["hidden_dropout_prob"][-1] == last["hidden_dropout_prob"]
        if record.checkpoint is not None and record.checkpoint.is_dir():
            values = record.schedule[-1][1] if record.schedule else {}
            assert checkpoint.verify(record.checkpoint).params == {**record.params, **values}
    assert json.loads((study / "study.json").read_text())["config"]["search"]["scheduler"]["type"] == "pbt"
