"""The short form of the injections: each one is a study that is hurt, goes on, and has to hold everything it held.

Two at a time, in about ten minutes of two cores; `make faults-short` prints the table, and `make faults` has the long
form. `-m "not faults"` leaves them out.
"""

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import pytest
from drivers import TRAINED
from injecting import WORKERS, Outcome, by_family, inject, is_possible, one_by_one, run, table_of
from injections import Injection
from lab import bench, trained_again

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
@pytest.mark.xdist_group("injections")  # else every process of pytest would inject all of them
@pytest.mark.parametrize("injection", SHORT, ids=[own.name for own in SHORT])
def test_a_study_that_is_hurt_goes_on_and_loses_nothing(
    outcomes: Mapping[str, "Future[Outcome]"], injection: Injection
) -> None:
    if not is_possible(injection):
        pytest.skip(f"this machine, or this user, has no {injection.service}")
    outcome = outcomes[injection.name].result()
    assert outcome.was_reached
    assert outcome.violation is None, outcome.violation


def test_what_has_held_is_not_run_again_and_its_costs_are_told(tmp_path: Path) -> None:
    results, (first, second, *_) = tmp_path / "results.jsonl", table_of(long=True)
    kept = [
        Outcome(first.name, 9.0, "it did not hold"),
        Outcome(first.name, 9.0, begun_again=1, rows_again=120, part_again=0.5),
        Outcome(second.name, 8.0),
    ]
    results.write_text("".join(json.dumps(asdict(own)) + "\n" for own in kept))
    known = run([second], 1, results, float("inf"))  # it would take seconds, and begin with a study in a process
    assert known[second.name] == kept[2]
    known = run([first, second], 1, results, 0.0)
    assert f"| {first.name} | -9, then 0 | yes | 1 | 120 rows, 0.50 of a trial | 9 |" in one_by_one([first], known)
    assert f"| {first.family} | 1 | 1 | 1 | 0.50 | 0.50 |" in by_family([first, second], known)


def test_what_two_beginnings_of_a_trial_have_both_trained_was_trained_again(tmp_path: Path) -> None:
    lines = ["trial-0000 a 0 16 32", "trial-0000 a 1 16 32", "trial-0001 b 0 8 64", "trial-0001 b 0 8 64"]
    (tmp_path / TRAINED).write_text("\n".join([*lines, "trial-0000 c 0 16 32"]) + "\n")
    assert trained_again(tmp_path / TRAINED) == (16, 0.5)


def test_the_forms_are_as_long_as_they_say() -> None:
    every = table_of(long=True)
    assert len(SHORT) == 44
    assert len(every) >= 370
    assert len({own.name for own in every}) == len(every)
