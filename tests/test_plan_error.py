import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))  # benchmarks are not installed with the package

from benchmarks.plan_error import error, overrides, table

SECONDS = {"start": 10.0, "search": 80.0, "end": 10.0, "total": 100.0, "epochs": 4.0}
RESULT = {
    "study": "quickstart",
    "measured": SECONDS,
    "predicted": {**SECONDS, "total": 120.0},
    "predicted_from_history": {**SECONDS, "total": 95.0},
}


def test_the_error_of_a_plan_is_relative_and_above_zero_where_too_much_was_predicted() -> None:
    assert error(RESULT) == pytest.approx(0.2)
    assert error(RESULT, "predicted_from_history") == pytest.approx(-0.05)
    assert "+20%" in table([RESULT])
    assert "-5%" in table([RESULT])


def test_data_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HPO_DATA", str(tmp_path))
    with pytest.raises(SystemExit, match="is not there: set HPO_DATA"):
        overrides("sst2", tmp_path)
