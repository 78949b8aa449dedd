"""A search over two Ray nodes, one of which is lost in the middle: it goes on with the other one."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from films import write_films

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


def trials(folder: Path) -> list[dict[str, Any]]:
    """Their ends, by number."""
    events = [json.loads(line) for line in (folder / "studies" / "films" / "events.jsonl").read_text().splitlines()]
    found = [own for own in events if own["kind"] == "trial_finished" and not own["replicate"]]
    return sorted(found, key=lambda own: int(own["number"]))
