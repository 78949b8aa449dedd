"""Places where a process can be killed: where they are asked for, once, and nowhere else."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hpo import crash
from hpo.errors import ConfigError

HPO = Path(crash.__file__).parent

PROGRAM = """
from hpo import crash
for turn in range(4):
    crash.at("after-ask")
    print(turn, flush=True)
"""


def run(**asked: str) -> tuple[int, list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env={**os.environ, **asked}, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout.split()


def test_it_is_killed_where_and_when_it_was_asked_for() -> None:
    assert run(HPO_CRASH="after-ask") == (-signal.SIGKILL, [])
    assert run(HPO_CRASH="after-ask:3") == (-signal.SIGKILL, ["0", "1"])


def test_it_lives_where_nothing_or_another_place_was_asked_for() -> None:
    assert run(HPO_CRASH="") == run(HPO_CRASH="at-rung") == run(HPO_CRASH="after-ask:9") == (0, ["0", "1", "2", "3"])


def test_only_the_first_process_is_killed_where_it_is_to_be_once(tmp_path: Path) -> None:
    asked = {"HPO_CRASH": "after-ask:2", "HPO_CRASH_ONCE": str(tmp_path / "once")}
    assert [run(**asked)[0] for _ in range(3)] == [-signal.SIGKILL, 0, 0]


@pytest.mark.parametrize("asked", ["nowhere", "after-ask:", "after-ask:x", "after-ask:-1"])
def test_a_place_that_there_is_not_is_refused(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPO_CRASH", asked)
    with pytest.raises(ConfigError, match="is no place; write PLACE or PLACE:N, of resume, after-ask"):
        crash.at("at-rung")


def test_every_place_is_somewhere_in_the_program() -> None:
    texts = [path.read_text("utf-8") for path in HPO.rglob("*.py") if path.name != "crash.py"]
    assert sorted(re.findall(r'crash\.at\("([\w-]+)"\)', "".join(texts))) == sorted(crash.PLACES)
