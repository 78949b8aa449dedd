"""Who watches the trials: those from which nothing comes for too long are named, so that they can be ended.

Owns what a sign of life is and how long a silence may be. Must not know how a trial is run or ended.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from hpo.records import TrialConfig

LONG = 1_800.0
"""Seconds of silence that are too many where nothing else is known: loading a model from a slow disk, and the longest
step on the slowest machine, are shorter."""

FACTOR = 5.0
"""So many times the longest silence that a trial of this study has broken is allowed in any case."""


AWAY = 10.0
"""Seconds between two looks that are counted as silence at the most: who watches may itself have waited, as for room on
a full disk, and meanwhile nobody took what the trials had to say."""


@runtime_checkable
class ShowsLife(Protocol):
    """An objective whose trials touch a file while their steps go on."""

    def pulse(self, config: TrialConfig) -> Path | None:
        """The file; None: this trial touches none."""
        ...


@dataclass
class Watch:
    """limit: seconds of silence; None: `LONG`, or more where trials were silent for longer and went on.

    Signs of life are reports, and changes of the file that `pulse` names for a trial. Only changes count, and time is
    this process's own, so that neither stepped clocks nor those of other machines matter. Time in which nobody looked
    is no silence.
    """

    limit: float | None = None
    pulse: Callable[[TrialConfig], Path | None] = lambda config: None
    clock: Callable[[], float] = time.monotonic
    _last: dict[int, float] = field(default_factory=dict, init=False)
    _signs: dict[int, int | None] = field(default_factory=dict, init=False)
    _longest: float = field(default=0.0, init=False)
    _looked: float | None = field(default=None, init=False)

    @property
    def allowed(self) -> float:
        """Seconds of silence."""
        return max(LONG, FACTOR * self._longest) if self.limit is None else self.limit

    def heard(self, number: int) -> None:
        """A trial has reported."""
        now = self._look()
        if number in self._last:
            self._longest = max(self._longest, now - self._last[number])
            self._last[number] = now

    def silent(self, running: Mapping[int, TrialConfig]) -> list[int]:
        """Those of the running trials that are silent for too long. To be called often; who is no longer named here as
        running is forgotten."""
        now, allowed = self._look(), self.allowed
        for number in self._last.keys() - running.keys():
            self.forget(number)
        for number, config in running.items():
            sign = self._sign(config)
            if number not in self._last:
                self._last[number], self._signs[number] = now, sign
            elif sign != self._signs[number]:
                self._longest = max(self._longest, now - self._last[number])
                self._last[number], self._signs[number] = now, sign
        return [number for number in running if now - self._last[number] > allowed]

    def forget(self, number: int) -> None:
        """It was ended."""
        self._last.pop(number, None)
        self._signs.pop(number, None)

    def _look(self) -> float:
        """Now."""
        now = self.clock()
        away = 0.0 if self._looked is None else now - self._looked - AWAY
        if away > 0.0:
            self._last = {number: last + away for number, last in self._last.items()}
        self._looked = now
        return now

    def _sign(self, config: TrialConfig) -> int | None:
        path = self.pulse(config)
        try:
            return path.stat().st_mtime_ns if path else None
        except OSError:
            return None
