"""Which part of a GPU a trial gets where the file leaves that open."""

import json
import sys
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from hpo.config import load
from hpo.config.sections import ResourcesConfig
from hpo.errors import DeadParameterError, OutOfMemoryError, TrialError
from hpo.report.screen import open_screen
from hpo.study.devices import MOST, Needs, Obstacle, beside_each_other, settle, why
from hpo.study.prepare import prepare

GIB = 2**30


def test_gpus_are_left_open_unless_the_file_says_otherwise() -> None:
    assert ResourcesConfig().gpus is None
    assert ResourcesConfig.model_validate({"gpus": "auto"}) == ResourcesConfig()
    assert ResourcesConfig.model_validate({"gpus": 0.5}).gpus == 0.5


def test_what_was_left_open_is_written_as_it_is_written_by_hand() -> None:
    written = ResourcesConfig().model_dump_json()
    assert json.loads(written)["gpus"] == "auto"
    assert ResourcesConfig.model_validate_json(written) == ResourcesConfig()


def test_what_runs_alone_takes_a_gpu_unless_none_is_wanted() -> None:
    assert ResourcesConfig().at_hand == 1.0
    assert ResourcesConfig(gpus=0.25).at_hand == 0.25
    assert ResourcesConfig(gpus=0.0).at_hand == 0.0


def test_where_there_is_no_gpu_trials_get_none(monkeypatch: pytest.MonkeyPatch, films: Path) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    said: list[str] = []
    config = load(films)
    with open_screen(sys.stderr) as screen:
        settled = settle(config, prepare(config, screen), said.append)
    assert (settled.cpus, settled.gpus, said) == (1, 0.0, [])


@pytest.mark.parametrize(
    ("needs", "count"),
    [
        (Needs(10 * GIB, 80 * GIB), MOST),
        (Needs(12 * GIB, 30 * GIB), 2),  # 25.5 GiB are given away
        (Needs(13 * GIB, 30 * GIB), 1),
        (Needs(29 * GIB, 30 * GIB), 1),
        (OutOfMemoryError("2 GiB asked"), 1),
        (BrokenProcessPool(), 1),
        (TrialError("no layer 13"), 1),
    ],
)
def test_as_many_trials_share_a_gpu_as_its_memory_bears(needs: Needs | Obstacle, count: int) -> None:
    assert beside_each_other(needs) == count


def test_one_trial_to_a_gpu_has_its_true_reason() -> None:
    assert why(Needs(12 * GIB, 30 * GIB)) == "one takes 12.0 GiB"
    assert "does not fit as it is" in why(OutOfMemoryError("CUDA out of memory"))
    assert "was killed, most often for lack of memory" in why(BrokenProcessPool("abruptly"))
    assert why(DeadParameterError("frozen_layers: 13 of 12\nmore")) == (
        "how many more fit could not be measured (frozen_layers: 13 of 12)"
    )
