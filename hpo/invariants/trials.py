"""The ledger, the budget, the params, the fresh seeds, and the events of a study."""

import json
import math
from collections import Counter, defaultdict
from typing import TypeAlias

from hpo.invariants.facts import Facts, Finding, Mend, Run, broken, left_out, ok
from hpo.records import AGAIN, BASELINE, TrialFinished, TrialRecord, TrialReported, TrialStarted, TrialState

RESUME = "go on with --resume"

Drawn: TypeAlias = tuple[str | None, str | None]
"""The seeds of a training, as they were told."""


def ledger(facts: Facts) -> Finding:
    """It can be read, and every trial's value is the best of its curve."""
    rule = "a complete trial's value is the best of its finite curve"
    if facts.ledger_wrong:
        return broken("ledger", [facts.ledger_wrong], "it is the truth about the trials", "restore it from a backup")
    wrong = [f"{_name(own)} has {own.value!r}" for own in (*facts.finished, *facts.runs) if not _is_valued(own, facts)]
    if wrong:
        return broken("ledger", wrong, rule, "restore ledger.db from a backup, or begin the study anew")
    if facts.is_finished and facts.running:
        names = [_name(own) for own in facts.running]
        return broken("ledger", names, "no trial runs when the study has finished", RESUME)
    counts = Counter(own.state.value for own in facts.trials)
    listed = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    return ok("ledger", f"{len(facts.trials)} trials ({listed or 'none'}); every value is the best of its curve")


def budget(facts: Facts) -> Finding:
    """As many trials as were asked for; what is owed may come on top."""
    count = len(facts.finished)
    if not facts.is_finished:
        running = f", {len(facts.running)} to go on with" if facts.running else ""
        return ok("budget", f"{count} of {facts.budget or 'any number of'} trials finished{running}")
    if facts.budget is None:
        return ok("budget", f"{count} trials finished; hours, epochs or a target are the limit")
    owed = sum(own.is_owed for own in facts.finished)
    is_short = count < facts.budget and not facts.is_bounded_otherwise
    if is_short and (facts.assignments is None or facts.assignments > count):
        return broken("budget", [f"{count} trials finished"], f"the budget is {facts.budget}", RESUME)
    if count > facts.budget + owed:
        rule = f"the budget is {facts.budget}, beside {owed} that are owed"
        return broken("budget", [f"{count} trials finished"], rule, "lower nothing; report it with the study's folder")
    return ok("budget", f"{count} trials finished, {facts.budget} asked for")


def params(facts: Facts) -> Finding:
    """Nothing was tried twice but what was asked for twice."""
    if facts.has_changed:
        return left_out("params", "the space was changed: trials of one may be the same in the other")
    seen: defaultdict[str, list[TrialRecord]] = defaultdict(list)
    for own in facts.trials:
        if not own.dropped and own.origin != BASELINE and not own.origin.startswith(AGAIN):
            seen[json.dumps(own.params, sort_keys=True)].append(own)
    twice = [" = ".join(_name(own) for own in same) for same in seen.values() if len(same) > 1]
    if twice:
        return broken("params", twice, "no assignment is tried twice", "nothing is lost but their time")
    return ok("params", f"{len(facts.trials)} trials, no assignment twice by accident")


def seeds(facts: Facts) -> Finding:
    """Each leader over the same fresh seeds, and what was said of them is their mean."""
    if facts.seeds is None:
        return left_out("seeds", "the study confirms nothing")
    rule = "every trial that is confirmed gets the same fresh seeds, none of them its own"
    by_replicate: defaultdict[int, set[Drawn]] = defaultdict(set)
    for event in facts.events:
        if isinstance(event, TrialStarted):
            by_replicate[event.replicate].add((event.tags.get("hpo.seed_init"), event.tags.get("hpo.seed_order")))
    of_trials = by_replicate.pop(0, set())
    wrong = [f"seed {number}" for number, own in by_replicate.items() if len(own) > 1 or own & of_trials]
    if wrong:
        return broken("seeds", wrong, rule, "report it with the study's folder")
    latest: dict[Run, float | None] = {(own.number, own.replicate): own.value for own in facts.runs}
    said = {event.confirmed.number: event.confirmed for event in facts.events if event.kind == "trial_confirmed"}
    for number, one in said.items():
        values = [value for (own, _), value in sorted(latest.items()) if own == number and value is not None]
        values = values[: len(one.values)]  # a race counts none of those that an earlier one ran beyond it
        if values and not math.isclose(one.mean, sum(values) / len(values), rel_tol=1e-9):
            wrong.append(f"trial {number} is said to have {one.mean:.6g}, its seeds {sum(values) / len(values):.6g}")
    if wrong:
        return broken("seeds", wrong, "what is said of a confirmed trial is the mean over its seeds", RESUME)
    if facts.is_finished and facts.running_runs:
        return broken(
            "seeds", [_name(own) for own in facts.running_runs], "none runs when the study has finished", RESUME
        )
    return ok("seeds", f"{len(latest)} runs of {len({number for number, _ in latest})} trials")


def events(facts: Facts) -> Finding:
    """The log has every end that the ledger has, with its value, and no step twice."""
    rule = "the events tell all that the ledger has, once"
    if facts.events_wrong:
        return broken("events", [facts.events_wrong], "every line is an event", "delete that line, then --repair")
    if facts.torn:
        return broken("events", [f"{facts.torn} bytes of a line that was cut off"], rule, RESUME, Mend.EVENTS)
    ends = {(event.number, event.replicate): event for event in facts.events if isinstance(event, TrialFinished)}
    latest = {(own.number, own.replicate): own for own in (*facts.trials, *facts.runs) if own.state.is_finished}
    untold = [_name(own) for run, own in latest.items() if run not in ends]
    if untold:
        return broken("events", [f"{name} has no end" for name in untold], rule, RESUME, Mend.EVENTS)
    strange = [f"trial {number}" for number, replicate in ends if (number, replicate) not in latest]
    if strange:
        return broken("events", strange, "the ledger has every trial that was told of", "restore ledger.db")
    best = f"best_{facts.metric}"
    wrong = [
        f"{_name(own)}: {end.metrics.get(best)!r} told, {own.value!r} in the ledger"
        for run, own in latest.items()
        if own.value is not None and (end := ends[run]).metrics.get(best) != own.value
    ]
    steps = Counter(
        (event.number, event.replicate, event.step) for event in facts.events if isinstance(event, TrialReported)
    )
    wrong += [
        f"trial {number} step {step} told {count} times" for (number, _, step), count in steps.items() if count > 1
    ]
    if wrong:
        return broken("events", wrong, rule, "report it with the study's folder")
    if facts.is_cut_off:
        said = "the last driver was cut off and nobody said so"
        return broken("events", [said], "a study that has no driver is stopped or finished", RESUME, Mend.EVENTS)
    return ok("events", f"{len(facts.events)} events, {sum(steps.values())} reports, none twice")


def _is_valued(own: TrialRecord, facts: Facts) -> bool:
    if own.state is not TrialState.COMPLETE:
        return own.value is None
    best = max if facts.mode == "max" else min
    values = [value for value in own.curve.values() if math.isfinite(value)]
    return own.value is not None and math.isfinite(own.value) and bool(values) and own.value == best(values)


def _name(own: TrialRecord) -> str:
    return f"trial {own.number}" + (f" seed {own.replicate}" if own.replicate else "")
