"""MLflow against what it was told: which runs there are, how they stand, what they hold."""

import math
from collections import defaultdict

from hpo.invariants.facts import Facts, Finding, Mend, Run, broken, left_out, ok
from hpo.records import TrialFinished, TrialStarted, TrialState
from hpo.records.mirrored import Mirrored, MirroredRun

REPAIR = "mend it with --repair, or go on with --resume"

_STATUS = {TrialState.COMPLETE: "FINISHED", TrialState.PRUNED: "KILLED", TrialState.FAILED: "FAILED"}


def told(facts: Facts) -> Finding:
    """MLflow answers, and has applied every event."""
    if facts.mirror_wrong:
        remedy = "start it, or name the store that has the study with --tracking-uri"
        return broken("mirror", [facts.mirror_wrong], "MLflow shows every trial", remedy, Mend.MIRROR)
    if facts.waiting:
        said = f"{facts.waiting} of {len(facts.events)} events wait"
        return broken("mirror", [said], "MLflow is told everything", REPAIR, Mend.MIRROR)
    return ok("mirror", f"MLflow was told all {len(facts.events)} events")


def runs(facts: Facts) -> Finding:
    """One run a trial under the study's, in its experiment."""
    if (why := _unknown(facts)) or facts.mirror is None:
        return left_out("runs", why)
    mirror = facts.mirror
    outside = [_name(own) for own in mirror.runs if own.experiment_id != mirror.experiment_id]
    if outside:
        rule = f"all runs are in the experiment {mirror.experiment or mirror.experiment_id}"
        return broken("runs", outside, rule, "move them by hand; MLflow cannot")
    doubles = [_name(own) for own in doubled(mirror)]
    if doubles:
        return broken("runs", doubles, "there is one run a trial", REPAIR, Mend.DOUBLES)
    there = {(own.number, own.replicate) for own in mirror.runs if own.kind != "study"}
    asked = _told(facts)
    wrong = [f"{_of(run)} has none" for run in sorted(asked - there)]
    wrong += [f"{_of(run)} is not known here" for run in sorted(there - asked)]
    if not any(own.kind == "study" for own in mirror.runs):
        wrong = ["the study has none"]
    if wrong:
        return broken("runs", wrong, "the study and every trial have one run each", REPAIR, Mend.MIRROR)
    return ok("runs", f"{len(there)} runs under the study's, one a trial or seed")


def doubled(mirror: Mirrored) -> list[MirroredRun]:
    """All but one run of the study and of each trial, as the tracker has it. Of the study's, that which it is told to
    stays, else the oldest, and with it what is below it; of a trial's there, that which was told the most, else the
    oldest."""
    studies = [own.run_id for own in mirror.runs if own.kind == "study"]
    study_run = mirror.study_run if mirror.study_run in studies else next(iter(studies), "")
    kept: dict[tuple[str, int, int], MirroredRun] = {}
    for own in mirror.runs:
        place = (own.kind, own.number, own.replicate)
        if own.study_run == study_run and (place not in kept or len(own.metrics) > len(kept[place].metrics)):
            kept[place] = own
    ids = {own.run_id for own in kept.values()}
    return [own for own in mirror.runs if own.run_id not in ids]


def statuses(facts: Facts) -> Finding:
    """Each run stands as its trial does; none is left as if it ran."""
    if (why := _unknown(facts)) or facts.mirror is None:
        return left_out("statuses", why)
    ends = {(event.number, event.replicate): event.state for event in facts.events if isinstance(event, TrialFinished)}
    wrong = []
    for own in facts.mirror.runs:
        state = None if own.kind == "study" else ends.get((own.number, own.replicate))
        if own.kind == "study" and facts.is_finished:
            allowed = {"FINISHED"}
        elif state is not None:
            allowed = {_STATUS[state]}
        else:  # to be gone on with, or left over when the study finished
            allowed = {"KILLED"} if facts.is_finished else {"SCHEDULED"}
        if own.status not in allowed or (state is not None and own.state != state.value):
            wrong.append(f"{_name(own)} is {own.status}")
    if wrong:
        rule = "no run is RUNNING when no driver lives, and each one stands as its trial does"
        return broken("statuses", wrong, rule, REPAIR, Mend.MIRROR)
    return ok("statuses", f"{len(facts.mirror.runs)} runs stand as their trials do; none is RUNNING")


def steps(facts: Facts) -> Finding:
    """No metric has a step twice."""
    if (why := _unknown(facts)) or facts.mirror is None:
        return left_out("steps", why)
    wrong, count = [], 0
    for own in facts.mirror.runs:
        for name in facts.metrics.get((own.number, own.replicate), {}):
            times: defaultdict[int, int] = defaultdict(int)
            for step, _ in own.histories.get(name, ()):
                times[step] += 1
                count += 1
            wrong += [f"{_name(own)}: {name} at step {step} {n} times" for step, n in times.items() if n > 1]
    if wrong:
        return broken("steps", wrong, "a metric has every step once", "move the run to MLflow's bin, then --repair")
    return ok("steps", f"{count} values{_extent(facts)}, no step twice")


def values(facts: Facts) -> Finding:
    """What MLflow holds is what it was told: params, and every value at its step."""
    if (why := _unknown(facts)) or facts.mirror is None:
        return left_out("values", why)
    wrong, count = [], 0
    for own in facts.mirror.runs:
        run = (own.number, own.replicate)
        differing = [name for name, text in facts.params.get(run, {}).items() if own.params.get(name) != text]
        wrong += [f"{_name(own)}: the param {name} is {own.params.get(name)!r}" for name in differing]
        for name, by_step in facts.metrics.get(run, {}).items():
            if name not in own.histories and not facts.mirror.is_whole:
                continue
            held = dict(own.histories.get(name, ()))
            count += len(by_step)
            wrong += [
                f"{_name(own)}: {name} at step {step} is {held.get(step)!r}, {value!r} was told"
                for step, value in by_step.items()
                if not _same(held.get(step), value)
            ]
            wrong += [f"{_name(own)}: {name} has a step {step} of its own" for step in held.keys() - by_step.keys()]
    if wrong:
        return broken("values", wrong, "MLflow holds what it was told", REPAIR, Mend.MIRROR)
    return ok("values", f"{count} values{_extent(facts)} and all params are as they were told")


def _unknown(facts: Facts) -> str:
    if facts.mirror is None:
        return "MLflow could not be read"
    if facts.events_wrong:
        return "the events can't be read"
    return "MLflow is behind" if facts.waiting else ""


def _told(facts: Facts) -> set[Run]:
    """Trials and seed runs that MLflow has to have. A seed run is nested in its trial's."""
    events = [event for event in facts.events if isinstance(event, TrialStarted | TrialFinished)]
    return {(event.number, event.replicate) for event in events}


def _same(held: float | None, value: float) -> bool:
    return held is not None and (held == value or (math.isnan(held) and math.isnan(value)))


def _extent(facts: Facts) -> str:
    return "" if facts.mirror is None or facts.mirror.is_whole else f" of {facts.metric}"


def _name(own: MirroredRun) -> str:
    return "the study's run" if own.kind == "study" else _of((own.number, own.replicate))


def _of(run: Run) -> str:
    return f"trial {run[0]}" + (f" seed {run[1]}" if run[1] else "")
