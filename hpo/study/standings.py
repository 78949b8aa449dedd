"""All trials of a search, and what is asked of all of them at every step: kept at hand, so that no step has to go
through thousands of trials. Must not know why it is asked."""

import bisect
from collections.abc import Iterable, Iterator
from typing import Literal

from hpo.objectives import Limits
from hpo.records import TrialRecord, TrialState
from hpo.study.trials import rank


class Standings:
    """mode, limits: by which complete trials are ranked."""

    def __init__(self, records: Iterable[TrialRecord], mode: Literal["min", "max"], limits: Limits) -> None:
        self._rank = rank(mode, limits)
        self._records: dict[int, TrialRecord] = {}
        self._ranked: list[TrialRecord] = []
        self._unfinished: set[int] = set()
        self._live: set[int] = set()
        for record in records:
            self.put(record)

    def put(self, record: TrialRecord) -> None:
        """The newest that is known of a trial; of one that is complete nothing new may come."""
        number, known = record.number, self._records.get(record.number)
        self._records[number] = record
        if record.value is not None and (known is None or known.value is None):
            bisect.insort(self._ranked, record, key=self._rank)
        for numbers, is_in in (
            (self._unfinished, record.state is TrialState.RUNNING),
            (self._live, not record.dropped),
        ):
            (numbers.add if is_in else numbers.discard)(number)

    def __getitem__(self, number: int) -> TrialRecord:
        return self._records[number]

    def __iter__(self) -> Iterator[TrialRecord]:
        """By number."""
        return (self._records[number] for number in sorted(self._records))

    @property
    def ranked(self) -> list[TrialRecord]:
        """Complete trials, best first; of equals the earlier one. Not to be changed."""
        return self._ranked

    @property
    def unfinished(self) -> list[TrialRecord]:
        """Those that have not ended, by number."""
        return [self._records[number] for number in sorted(self._unfinished)]

    @property
    def live(self) -> int:
        """How many there are of the space as it is."""
        return len(self._live)
