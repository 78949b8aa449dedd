"""Named places where the process can be killed: `HPO_CRASH=after-ask`, or `HPO_CRASH=after-ask:3` for the third time.

It ships, since what has to survive a kill is the very program that users run, in processes that a test cannot patch:
a driver, a trial's actor, a writer of checkpoints. And since whoever runs studies on machines that vanish may want to
see for themselves that theirs goes on. Where the variable is not set, a place costs one look into the environment:
half a microsecond, a few times a report.

`HPO_CRASH_ONCE=FILE`: only the process that gets to make FILE is killed, so that the one that is started in its stead
lives. Must not know what happens at the places.
"""

import os
import signal

from hpo.errors import ConfigError, Problem

VARIABLE = "HPO_CRASH"
ONCE = "HPO_CRASH_ONCE"

PLACES = (
    "resume",  # the ledger is open, nothing is told yet
    "after-ask",  # the ledger has the trial, nobody was told that it starts
    "before-report",  # a report has come, nobody has written it down
    "after-report",  # the ledger has the report, the events have not
    "at-rung",  # the scheduler has answered, the ledger does not know it
    "tell-mirror",  # the ledger has the end of the trial, the events have not
    "retain",  # the trial's end is told, its predecessors' checkpoints are still there
    "checkpoint",  # the weights are written, under a temporary name and without a manifest
    "checkpoint-rename",  # the checkpoint is whole, but has not its name
    "mirror-create",  # MLflow has made a run, and its answer was not used
    "mirror-cursor",  # MLflow has taken events, and it was not noted
    "confirm-ask",  # the seed run is in the ledger
    "confirm-report",  # the ledger has the report of a seed run
    "confirm-tell",  # the ledger has the end of a seed run, the events have not
    "promotion-model",  # the weights are in MLflow, and no version has them
    "promotion-version",  # the version has its number, the alias has not moved
    "promotion-alias",  # the alias has moved, and nobody has looked again
    "promotion-outcome",  # all is done in the registry, and the study does not know
    "finish",  # the end of the study is told, MLflow may not have it
)

_passed: dict[str, int] = {}


def at(place: str) -> None:
    """Kill this process if that was asked for here. ConfigError where HPO_CRASH asks for what there is not."""
    asked = os.environ.get(VARIABLE)
    if not asked:
        return
    name, colon, count = asked.partition(":")
    if name not in PLACES or (colon and not count.isdecimal()):
        raise ConfigError([Problem(VARIABLE, f"{asked!r} is no place; write PLACE or PLACE:N, of {', '.join(PLACES)}")])
    if name != place:
        return
    _passed[place] = _passed.get(place, 0) + 1
    if _passed[place] == int(count or 1) and _is_first():
        os.kill(os.getpid(), signal.SIGKILL)


def _is_first() -> bool:
    file = os.environ.get(ONCE)
    if not file:
        return True
    try:
        os.close(os.open(file, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True
