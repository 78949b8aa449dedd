"""What is kept at hand of all trials is what one would find by going through them."""

import random

import pytest

from hpo.objectives import NO_LIMITS, Limits
from hpo.records import Seeds, TrialRecord, TrialState
from hpo.study.standings import Standings
from hpo.study.trials import ranked


def some(number: int, source: random.Random) -> TrialRecord:
    state = source.choice(list(TrialState))
    value = round(source.random(), 1) if state is TrialState.COMPLETE else None
    return TrialRecord(
        number=number,
        state=state,
        origin="tpe",
        params={},
        value=value,
        metrics={"best_seconds": source.random()},
        seeds=Seeds(init=0, order=0),
        dropped=source.random() < 0.2,
    )


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("limits", [NO_LIMITS, Limits({"seconds": 0.5}, {})])
def test_it_says_what_going_through_all_trials_says(mode: str, limits: Limits) -> None:
    source = random.Random(1)
    known = [some(number, source) for number in range(20)]
    standings = Standings(known, mode, limits)
    records = {record.number: record for record in known}
    for _ in range(200):
        number = source.choice([len(records), *(one.number for one in standings.unfinished)])
        records[number] = some(number, source)
        standings.put(records[number])
        assert list(standings) == [records[number] for number in sorted(records)]
        assert standings.ranked == ranked(records.values(), mode, limits)
        assert standings.unfinished == [one for one in standings if one.state is TrialState.RUNNING]
        assert standings.live == sum(not one.dropped for one in records.values())
        assert standings[number] is records[number]
