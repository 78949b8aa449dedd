"""The rules of the house that a machine can check."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LONGEST = 350


def modules() -> list[Path]:
    return sorted((ROOT / "hpo").rglob("*.py"))


def test_no_module_is_longer_than_the_house_allows():
    assert modules()
    lengths = {path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines()) for path in modules()}
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST} == {}


def test_every_module_says_what_it_owns():
    assert [path for path in modules() if not path.read_text().startswith('"""')] == []


def test_there_is_no_drawer_for_odds_and_ends():
    drawers = {"utils", "util", "helpers", "common", "misc"}
    assert [path for path in modules() if path.stem in drawers or path.parent.name in drawers] == []


def test_imports_go_down_only_and_foreign_libraries_keep_their_address():
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-logo"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.xdist_group("together")
def test_tests_of_a_group_are_run_by_one_process(request: pytest.FixtureRequest) -> None:
    """By the name that pytest-xdist gives them; a version of pytest may come that does not take it."""
    if request.config.getoption("loadgroup", default=False):
        assert request.node.nodeid.endswith("@together")
