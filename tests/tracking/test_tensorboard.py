"""What TensorBoard reads of a study, by its own reader: every step once, the hyperparameters, and nothing twice."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from hpo.records import AnyEvent, StudyFinished, TrialFinished, TrialReported, TrialStarted, TrialState
from hpo.tracking import TrackingConfig
from hpo.tracking.tensorboard import board

ASKED = TrackingConfig(tensorboard=True)


def of_a_trial(number: int, replicate: int = 0) -> list[AnyEvent]:
    own: dict[str, Any] = {"number": number, "replicate": replicate}
    return [
        TrialStarted(time=1.0, origin="tpe", params={"learning_rate": 1e-4, "loss": "focal"}, **own),
        TrialReported(time=2.0, step=10, metrics={"accuracy": 0.5, "loss": 0.7}, **own),
        TrialReported(time=3.0, step=20, metrics={"accuracy": 0.75, "loss": 0.6}, **own),
        TrialFinished(time=4.0, state=TrialState.COMPLETE, metrics={"best_accuracy": 0.75}, step=20, **own),
    ]


def scalars(folder: Path, run: str) -> dict[str, list[tuple[int, float]]]:
    """Read by the library that this program writes with: records of a length, a checksum, an event, a checksum."""
    from tensorboardX.proto.event_pb2 import Event

    found: dict[str, list[tuple[int, float]]] = {}
    for path in sorted((folder / "tensorboard" / run).glob("events.*")):
        for record in records(path.read_bytes()):
            event = Event.FromString(record)
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    found.setdefault(value.tag, []).append((event.step, round(value.simple_value, 4)))
    return found


def records(data: bytes) -> Iterator[bytes]:
    place = 0
    while place < len(data):
        length = int.from_bytes(data[place : place + 8], "little")
        yield data[place + 12 : place + 12 + length]
        place += 16 + length


def test_every_step_is_there_once_also_after_a_second_driver(tmp_path: Path) -> None:
    events = [*of_a_trial(0), *of_a_trial(3, replicate=2)[:2]]
    with board(ASKED, tmp_path, []) as own:
        for event in events:
            own.apply(event)
    with board(ASKED, tmp_path, events) as own:  # the driver was killed, and another one goes on
        for event in of_a_trial(3, replicate=2)[2:]:
            own.apply(event)
        own.apply(StudyFinished(time=9.0, metrics={"best_accuracy": 0.75}, tags={}))
        assert own.trouble is None
    assert scalars(tmp_path, "trial-0000") == {
        "accuracy": [(10, 0.5), (20, 0.75)],
        "loss": [(10, 0.7), (20, 0.6)],
        "best_accuracy": [(20, 0.75)],
    }
    assert scalars(tmp_path, "trial-0003-seed-2") == scalars(tmp_path, "trial-0000")
    assert scalars(tmp_path, "study") == {"best_accuracy": [(0, 0.75)]}


def test_tensorboard_itself_reads_curves_and_hyperparameters(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    from tensorboard.plugins.hparams import metadata

    with board(ASKED, tmp_path, of_a_trial(0)):
        pass
    read = accumulator.EventAccumulator(str(tmp_path / "tensorboard" / "trial-0000"))
    read.Reload()
    assert [(one.step, one.value, one.wall_time) for one in read.Scalars("accuracy")] == [
        (10, 0.5, 2.0),
        (20, 0.75, 3.0),
    ]
    kept = read.summary_metadata[metadata.SESSION_START_INFO_TAG].plugin_data.content
    values = metadata.parse_session_start_info_plugin_data(kept).hparams
    assert values["learning_rate"].number_value == 1e-4
    assert values["loss"].string_value == "focal"


def test_nothing_is_written_unless_it_is_asked_for(tmp_path: Path) -> None:
    with board(TrackingConfig(), tmp_path, of_a_trial(0)) as own:
        own.apply(of_a_trial(1)[0])
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_can_not_be_written_does_not_stop_the_study(tmp_path: Path) -> None:
    (tmp_path / "tensorboard").write_text("in the way")
    with board(ASKED, tmp_path, of_a_trial(0)) as own:
        assert own.trouble


def test_what_is_not_installed_is_refused_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpo.tracking.find_spec", lambda name: None)
    with pytest.raises(ValidationError, match="install the extra `tensorboard`"):
        TrackingConfig(tensorboard=True)
