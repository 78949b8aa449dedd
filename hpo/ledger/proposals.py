"""Proposals that are not trained, since they break rules or repeat others; and what takes their place. Pure."""

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpo.draws import hashed
from hpo.ledger.entries import attributes_of, is_live
from hpo.space import Params, SearchSpace

if TYPE_CHECKING:
    import optuna

_ATTEMPTS = 8
"""How often in a row a sampler may break a rule, or repeat itself in a finite space, before it is given a point."""

_TEACHES_AFTER = 10
"""Trials after which broken rules are shown to a sampler that does not say how many it begins with."""


_LISTED = 10_000
"""Finite spaces of more assignments are not listed, which takes 10 microseconds for each: what is left is drawn."""

_DRAWS = 100
"""After so many that were all tried, a space that is not listed counts as tried out: nearly all of it was."""


@dataclass(frozen=True)
class Proposals:
    """teaches_after: trials that a sampler begins with at random; broken rules that it saw before would take places of
    these."""

    space: SearchSpace
    seed: int
    teaches_after: int = _TEACHES_AFTER

    @classmethod
    def of(cls, space: SearchSpace, seed: int, sampler: object) -> "Proposals":
        return cls(space, seed, int(getattr(sampler, "n_startup_trials", _TEACHES_AFTER)))

    def refusal(
        self, number: int, params: Params, trials: "Sequence[optuna.trial.FrozenTrial]", *, is_queued: bool
    ) -> dict[str, Any] | None:
        """The mark of a proposal that is not trained: it breaks a rule, or a finite space had it already."""
        broken = next((rule.text for rule in self.space.constraints if not rule.holds(params)), None)
        if broken is not None:
            return {"rejected": broken}
        repeats = self.space.size is not None and not is_queued and params in _tried(trials, number)
        return {"repeats": True} if repeats else None

    def teaches(self, mark: Mapping[str, Any], trials: "Sequence[optuna.trial.FrozenTrial]") -> bool:
        """Whether the sampler may learn from a refusal."""
        seen = sum(is_live(trial) and trial.state.name in ("COMPLETE", "PRUNED") for trial in trials)
        return "rejected" in mark and seen >= self.teaches_after

    def is_stuck(self, trials: "Sequence[optuna.trial.FrozenTrial]") -> bool:
        """Whether too many of the latest were refused. Counted in the ledger: a crash in between changes nothing."""
        refused = (attributes_of(trial).keys() & {"repeats", "rejected"} for trial in reversed(trials))
        return sum(1 for _ in itertools.takewhile(bool, refused)) >= _ATTEMPTS

    def left_over(self, trials: "Sequence[optuna.trial.FrozenTrial]") -> Params | None:
        """A random point that keeps the rules; in a finite space one that was not tried, None when there is none."""
        number, size = len(trials), self.space.size
        source = random.Random(hashed(self.seed, number))
        if size is None:
            return self.space.draw(source)
        tried = _tried(trials, number)
        if size > _LISTED:
            drawn = (self.space.draw(source) for _ in range(_DRAWS))
            return next((point for point in drawn if point not in tried), None)
        left = [point for point in self.space.grid() if point not in tried]
        return left[hashed(self.seed, number) % len(left)] if left else None


def _tried(trials: "Sequence[optuna.trial.FrozenTrial]", before: int) -> list[Params]:
    return [attributes_of(trial)["params"] for trial in trials if is_live(trial) and trial.number < before]
