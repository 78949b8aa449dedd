"""What holds of every study, whatever happened to it: one check a rule, over facts that others have gathered.

    facts.py    what is known of a study: ledger, events, MLflow, disk, champion
    trials.py   the ledger, the budget, the params, the fresh seeds, the events
    mirror.py   MLflow against the events
    disk.py     checkpoints, and what should not lie about
    winner.py   the best checkpoint asked again, and the champion

Pure: the same facts give the same findings. Must not read anything, or mend it.
"""

from collections.abc import Callable

from hpo.invariants import disk, mirror, trials, winner
from hpo.invariants.facts import Facts, Finding, Mend, Verdict

__all__ = ["CHECKS", "Facts", "Finding", "Mend", "Verdict", "findings"]

CHECKS: tuple[Callable[[Facts], Finding], ...] = (
    trials.ledger,
    trials.budget,
    trials.params,
    trials.seeds,
    trials.events,
    mirror.told,
    mirror.runs,
    mirror.statuses,
    mirror.steps,
    mirror.values,
    disk.checkpoints,
    disk.strangers,
    disk.retention,
    disk.temporary,
    winner.reevaluated,
    winner.champion,
)


def findings(facts: Facts) -> tuple[Finding, ...]:
    """What every check says, in the order of their list."""
    return tuple(check(facts) for check in CHECKS)
