"""The report of a study in which nothing finished."""

from pathlib import Path

from hpo.records import Seeds, TrialRecord, TrialState
from hpo.report.pages import write_failures


def failed(number: int, reason: str | None) -> TrialRecord:
    state = TrialState.FAILED if reason else TrialState.PRUNED
    return TrialRecord(number=number, state=state, origin="tpe", params={}, reason=reason, seeds=Seeds(1, 1))


def test_each_failure_is_told_by_its_kind_and_no_earlier_winner_is_left(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("an earlier winner, whose trials the space has no room for any more")
    trials = [failed(0, "no | driver"), failed(1, "loss is nan at step 7"), failed(2, "loss is nan at step 9")]
    page = write_failures(tmp_path, "films", [*trials, failed(3, None)])
    assert [path.name for path in tmp_path.iterdir()] == ["report.md"]
    text = page.read_text()
    assert "**No trial finished, so there is no winner** (1 pruned, 3 failed)." in text
    assert "| 2 | loss is nan at step 7 | 1, 2 |" in text
    assert "| 1 | no \\| driver | 0 |" in text
    assert "(none began)" in write_failures(tmp_path, "films", []).read_text()
