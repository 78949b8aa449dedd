"""What earlier drivers told: here, how long they worked."""

from hpo.records import AnyEvent, DatasetRecord, StudyFinished, StudyStarted, StudyStopped, TrialReported
from hpo.study.told import _worked


def begun(time: float) -> StudyStarted:
    rows: tuple[DatasetRecord, ...] = ()
    return StudyStarted(time=time, study="s", metric="m", mode="max", document="", params={}, tags={}, datasets=rows)


def reported(time: float) -> TrialReported:
    return TrialReported(time=time, number=0, step=1, metrics={"m": 0.5})


def test_pauses_between_drivers_and_looks_at_a_finished_study_are_no_work() -> None:
    events: list[AnyEvent] = [
        begun(100.0),
        reported(130.0),
        StudyStopped(time=140.0, reason="SIGTERM"),
        begun(1_000.0),
        reported(1_005.0),
        StudyFinished(time=1_020.0, metrics={}, tags={}),
        begun(5_000.0),
        StudyFinished(time=5_013.0, metrics={}, tags={}),
    ]
    assert _worked(events) == 60.0
    assert _worked(events[:2]) == 30.0
    assert _worked([]) == 0.0
