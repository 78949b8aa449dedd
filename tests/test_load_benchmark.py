"""The load figures, with small numbers: the counts have to be exact whatever their size."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))  # benchmarks are not installed with the package

from benchmarks.load import SHORT


@pytest.mark.service
@pytest.mark.parametrize("name", list(SHORT))
def test_counts_are_exact_under_load(name: str) -> None:
    for measure in SHORT[name]:
        assert measure()["seconds"] > 0
