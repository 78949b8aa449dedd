"""The short form of the injections: each one is a study that is hurt, goes on, and has to hold everything it held.

Two at a time, in about ten minutes of two cores; `make faults-short` prints the table, and `make faults` has the long
form. `-m "not faults"` leaves them out.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from injecting import WORKERS, Outcome, inject, is_possible, table_of
from injections import Injection
from lab import bench

SHORT = table_of(long=False)


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest) -> Iterator[Mapping[str, "Future[Outcome]"]]:
    """Of the injections that this run of pytest asks for, under way from the first of them on."""
    asked = [getattr(item, "callspec", None) for item in request.session.items]
    chosen = [own.params["injection"] for own in asked if own is not None and "injection" in own.params]
    with bench() as own, ThreadPoolExecutor(WORKERS) as pool:
        yield {one.name: pool.submit(inject, own, one) for one in chosen if is_possible(one)}


@pytest.mark.faults
@pytest.mark.service
@pytest.mark.parametrize("injection", SHORT, ids=[own.name for own in SHORT])
def test_a_study_that_is_hurt_goes_on_and_loses_nothing(
    outcomes: Mapping[str, "Future[Outcome]"], injection: Injection
) -> None:
    if not is_possible(injection):
        pytest.skip(f"{injection.service} and its driver are not on this machine")
    outcome = outcomes[injection.name].result()
    assert outcome.was_reached
    assert outcome.violation is None, outcome.violation


def test_the_short_form_is_as_long_as_it_says() -> None:
    assert len(SHORT) == 44
    assert len({own.name for own in SHORT}) == len(SHORT)
