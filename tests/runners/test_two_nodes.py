"""A search over two Ray nodes: one is lost in the middle, or joins there."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from films import write_films
from ray.cluster_utils import Cluster
from test_runners import search

from hpo.config.sections import ResourcesConfig
from hpo.errors import ServiceError
from hpo.records import Failure, Report, TrialConfig, TrialState, Verdict
from hpo.runners import Search
from hpo.runners.ray import RayRunner
from hpo.runners.toy import ToyObjective
from hpo.schedulers import FifoConfig
from hpo.study.plan import count_slots

pytestmark = pytest.mark.service

NODES = Path(__file__).parents[1] / "faults" / "nodes.py"

SPACE = """\
study: films
seed: 3
model: {{name: {model}}}
task: {{type: sequence-classification, text: sentence, label: label, max_length: 16}}
data: {{files: {{train: train.tsv, validation: validation.tsv}}, test: {{from: train, rows: 60}}}}
space:
  learning_rate: {{low: 1e-3, high: 1e-2, log: true}}
  num_train_epochs: 20
search: {{scheduler: fifo}}
budget: {{trials: 3}}
checkpoints: {{every_minutes: 0.01}}
tracking: {{uri: "{store}"}}
storage: {folder}/studies
"""


@contextmanager
def two_nodes(environment: dict[str, str]) -> "Iterator[tuple[str, subprocess.Popen[str]]]":
    """The address of a head that trains nothing and two nodes with a core each; and who loses one when told to."""
    command = [sys.executable, str(NODES), "--nodes", "2", "--for-good"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True) as nodes:
        assert nodes.stdin is not None
        assert nodes.stdout is not None
        yield next(line.strip() for line in nodes.stdout if re.fullmatch(r"[\d.]+:\d+\n", line)), nodes
        nodes.stdin.close()


def test_a_search_over_two_nodes_goes_on_when_one_is_lost(tmp_path: Path, tiny_bert: Path, store: str) -> None:
    write_films(tmp_path, 360, 60)
    space = tmp_path / "films.yaml"
    space.write_text(SPACE.format(model=tiny_bert, folder=tmp_path, store=store))
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "5" * 64}
    environment = {**os.environ, **token, "PYTHONUNBUFFERED": "1"}
    with two_nodes(environment) as (address, nodes):
        command = [sys.executable, "-m", "hpo.run", "--space", str(space), "--address", address]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, text=True
        ) as driver:
            assert driver.stdout is not None
            said = ""
            for line in driver.stdout:
                said += line
                if {"0", "1"} <= set(re.findall(r"trial (\d) +step", said)):  # both are in their middle
                    break
            assert nodes.stdin is not None
            nodes.stdin.write("now\n")
            nodes.stdin.flush()
            said += driver.communicate(timeout=300)[0]
    assert driver.returncode == 0, said
    ended = trials(tmp_path)
    assert [own["state"] for own in ended] == ["complete"] * 3, said
    assert re.search(r"trial [01]: it goes on after step", said), said


@dataclass
class Counting:
    """Implements `runners.Search`: the same search, which sees how many of its trials are under way. begun: called with
    the first report."""

    search: Search
    begun: Callable[[], object]
    running: set[int] = field(default_factory=set)
    most: int = 0

    @property
    def stopping(self) -> bool:
        return self.search.stopping

    @property
    def exhausted(self) -> bool:
        return self.search.exhausted

    def ask(self) -> TrialConfig | None:
        if config := self.search.ask():
            self.running.add(config.number)
            self.most = max(self.most, len(self.running))
        return config

    def report(self, number: int, report: Report) -> Verdict:
        self.begun()
        self.begun = bool
        verdict = self.search.report(number, report)
        if verdict is Verdict.STOP:
            self.running.discard(number)
        return verdict

    def failed(self, number: int, failure: Failure) -> None:
        raise AssertionError(failure)


def test_a_node_that_joins_a_running_search_gets_trials_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpo.runners.ray.JOIN_SECONDS", 1.0)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        assert count_slots(ResourcesConfig(), cluster.address) == 1
        with pytest.raises(ServiceError, match="asks for 1 cpus and 1 gpus, but Ray has 1 cpus and 0 gpus"):
            count_slots(ResourcesConfig(gpus=1), cluster.address)
        loaded = search(tmp_path, 8, FifoConfig())
        watched = Counting(loaded, lambda: cluster.add_node(num_cpus=1))
        RayRunner(ToyObjective(seconds=1.0), address=cluster.address).run(watched)
    finally:
        cluster.shutdown()
    assert watched.most == 2
    assert [record.state for record in loaded.records] == [TrialState.COMPLETE] * 8


def trials(folder: Path) -> list[dict[str, Any]]:
    """Their ends, by number."""
    events = [json.loads(line) for line in (folder / "studies" / "films" / "events.jsonl").read_text().splitlines()]
    found = [own for own in events if own["kind"] == "trial_finished" and not own["replicate"]]
    return sorted(found, key=lambda own: int(own["number"]))
