"""The short form of the injections: each one is a study that is hurt, goes on, and has to hold everything it held.

All of them together take about ten minutes of two cores, so they run as one test of many rows; `make faults-short`
prints the table, and `make faults` has the long form.
"""

from collections.abc import Iterator

import pytest
from injecting import inject, is_possible, table_of
from injections import Injection
from lab import Bench, bench

SHORT = table_of(long=False)


@pytest.fixture(scope="module")
def own_bench() -> Iterator[Bench]:
    with bench() as own:
        yield own


@pytest.mark.faults
@pytest.mark.service
@pytest.mark.parametrize("injection", SHORT, ids=[own.name for own in SHORT])
def test_a_study_that_is_hurt_goes_on_and_loses_nothing(own_bench: Bench, injection: Injection) -> None:
    if not is_possible(injection):
        pytest.skip(f"{injection.service} and its driver are not on this machine")
    outcome = inject(own_bench, injection)
    assert outcome.violation is None, outcome.violation


def test_the_short_form_is_as_long_as_it_says() -> None:
    assert len(SHORT) == 44
    assert len({own.name for own in SHORT}) == len(SHORT)
