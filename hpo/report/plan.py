"""The page of a dry run: the resolved file, then what the study will come to."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hpo.report import words

BUSY = 0.25
"""Share of all cores that others may use before a measured time says little."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes. trial: the peak of one. machine: what there is; None on a cluster. is_measured: by the probe, else
    estimated."""

    trial: int
    machine: int | None
    is_measured: bool


@dataclass(frozen=True, slots=True)
class Disk:
    """Bytes. checkpoint: one of them. kept: how many stay until the end. free: where the studies lie. states: what the
    members of a population leave for each other, at most, until the search is over. bookmarks: what long trials write
    down of themselves, at most and where there is room, until they end. adapted: of models that the stage before makes;
    those that nobody needs any more go at the end."""

    checkpoint: int
    kept: int
    free: int
    storage: Path
    states: int = 0
    bookmarks: int = 0
    adapted: int = 0


@dataclass(frozen=True, slots=True)
class Time:
    """Seconds. start: until the first trial begins. search: until the last one of the search ends. confirmation: of the
    leaders over fresh seeds. end: the test rows, the registry, the report. whole_search: the search without early
    stopping. rest: what is left of the search, where some of it is done.

    speeds: sentences a second in training, by batch size. evaluation: rows a second. load: how many other processes
    wanted a core meanwhile, as a share of all cores. beside: trials that were measured at a time. trials: finished ones
    of this study, that all this was learnt from; 0 where it was measured.
    """

    start: float
    search: float
    confirmation: float
    end: float
    whole_search: float
    rest: float
    speeds: Mapping[int, float]
    evaluation: float
    load: float = 0.0
    beside: int = 1
    trials: int = 0

    @property
    def total(self) -> float:
        """From the command to its end, of the whole study."""
        return self.start + self.search + self.confirmation + self.end

    @property
    def whole(self) -> float:
        """The same, if no trial were stopped early."""
        return self.total - self.search + self.whole_search

    @property
    def left(self) -> float:
        """From the command to its end, where the study goes on."""
        return self.total - self.search + self.rest


@dataclass(frozen=True, slots=True)
class Saving:
    """What early stopping is expected to save. share: of the epochs. epochs: what all trials that begin would train to
    their ends."""

    share: float
    epochs: float


@dataclass(frozen=True, slots=True)
class Fresh:
    """The confirmation: `leaders`, and the default where `defaults` is 1, retrained over so many `seeds` each, none of
    them stopped. Beside the budget."""

    leaders: int
    defaults: int
    seeds: int
    epochs: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What a study will come to, before any of it is there.

    document: the resolved file. rows: by split. trials: None where only the clock ends the study and nothing was
    timed; `reached` is then of 100 trials. reached: (level, trials expected to get there), the last one being the end
    of their own training. of_longest: levels are parts of the longest trial, not of each one's own training. steps: the
    fewest, the middle, the most of one trial. all_steps, epochs, sentences: of all trials together. slots: trials at
    a time. time: None where nothing was timed, for the reason `untimed`. exists: a study of that name is there, with
    so many trials `finished`; and so many `dropped`, which the space has no room for any more.
    """

    document: str
    model: str
    parameters: int
    rows: Mapping[str, int]
    notes: tuple[str, ...]
    trials: float | None
    reached: tuple[tuple[float, float], ...]
    of_longest: bool
    steps: tuple[int, int, int]
    all_steps: float
    epochs: float
    sentences: float
    slots: int
    cpus: int
    saving: Saving
    fresh: Fresh | None
    time: Time | None
    untimed: str
    disk: Disk
    memory: Memory
    exists: bool = False
    finished: int = 0
    dropped: int = 0

    @property
    def kept_bytes(self) -> int:
        return self.disk.kept * self.disk.checkpoint

    @property
    def warnings(self) -> tuple[str, ...]:
        """What will go wrong, each with its remedy."""
        found = []
        if self.disk.states and self.kept_bytes + self.disk.states > self.disk.free:
            found.append(
                f"{size(self.disk.states)} of states and {size(self.kept_bytes)} of checkpoints may not fit into "
                f"{size(self.disk.free)}; lower search.scheduler.max_sources or intervals, or choose another --storage"
            )
        elif self.kept_bytes + self.disk.adapted > self.disk.free:
            of_stage = f" and {size(self.disk.adapted)} of adapted models" if self.disk.adapted else ""
            found.append(
                f"{size(self.kept_bytes)} of checkpoints{of_stage} do not fit into {size(self.disk.free)}; "
                "lower checkpoints.keep or checkpoints.max_bytes, or choose another --storage"
            )
        if self.memory.machine is not None and self.slots * self.memory.trial > self.memory.machine:
            found.append(
                f"{words.count(self.slots, 'trial')} at a time do not fit into {size(self.memory.machine)} of memory; "
                f"raise resources.cpus from {self.cpus}, so that fewer run at a time, or lower the batch size"
            )
        return tuple(found)


def plan_text(plan: Plan) -> str:
    """The resolved file as YAML, then the plan in lines that YAML takes for comments."""
    parts = [
        ("model", f"{plan.model}, {plan.parameters / 1e6:.1f} M parameters"),
        ("data", "\n".join((_rows(plan), *plan.notes))),
        ("trials", _trials(plan)),
        ("steps", _steps(plan)),
        *((("saved", _saved(plan)),) if plan.saving.share > 0.005 else ()),
        *((("confirm", _confirm(plan.fresh)),) if plan.fresh else ()),
        ("time", _time(plan)),
        ("disk", _disk(plan)),
        ("memory", _memory(plan)),
        *(("warning", warning) for warning in plan.warnings),
    ]
    if plan.exists:
        parts.append(("note", _there_already(plan)))
    lines = ["the plan; nothing was started", ""]
    for label, text in parts:
        first, *rest = text.split("\n")
        lines.append(f"{label:<10}{first}")
        lines.extend(f"{'':<10}{line}" for line in rest)
    return plan.document.rstrip("\n") + "\n\n" + "\n".join(f"# {line}".rstrip() for line in lines)


def size(number: float) -> str:
    """`91 MB`, `1.2 GB`: powers of ten, as disks are sold."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if number >= scale:
            return f"{number / scale:.{1 if number < 10 * scale else 0}f} {unit}"
    return f"{number / 1e3:.0f} kB"


def _rows(plan: Plan) -> str:
    return ", ".join(f"{split} {words.count(rows, 'row')}" for split, rows in plan.rows.items())


def _trials(plan: Plan) -> str:
    """`9 begin: 9 reach 11 % of their training, about 4 reach 33 %, about 2 the end`"""
    many = "as many as the hours allow" if plan.trials is None else _about(plan.trials)
    if len(plan.reached) == 1:
        return f"{many}, each to its end"
    of = "; of 100, " if plan.trials is None else " begin: "
    (first, count), *later = plan.reached[:-1]
    what = "the longest training" if plan.of_longest else "their training"
    stages = [f"{_about(count)} reach {100 * first:.2g} % of {what}"]
    stages += [f"{_about(count)} reach {100 * level:.2g} %" for level, count in later]
    return f"{many}{of}{', '.join(stages)}, {_about(plan.reached[-1][1])} the end"


def _about(number: float) -> str:
    return f"{number:,.0f}" if float(number).is_integer() else f"about {max(1, round(number)):,}"


def _steps(plan: Plan) -> str:
    least, middle, most = plan.steps
    one = f"{least:,} a trial" if least == most else f"{least:,} to {most:,} a trial, most often about {middle:,}"
    if plan.trials is None:
        return one
    return (
        f"{one}; {plan.all_steps:,.0f} in all\n"
        f"{plan.sentences:,.0f} sentences, {plan.epochs:,.1f} epochs of training in all"
    )


def _saved(plan: Plan) -> str:
    """What all trials would cost to their ends. Of a study that the clock ends, the same hours would do fewer."""
    text = f"about {plan.saving.share:.0%} of the training by early stopping"
    if plan.trials is not None:
        text += f"\nto their ends, these trials would train {plan.saving.epochs:,.1f} epochs"
        if plan.time is not None:
            text += f" and the study would take {words.duration(plan.time.whole)}"
    return text


def _confirm(fresh: Fresh) -> str:
    who = words.leaders(fresh.leaders + fresh.defaults, fresh.defaults)
    runs = f"{who} over {words.count(fresh.seeds, 'fresh seed')} each"
    return f"{runs}, {fresh.epochs:,.1f} epochs beside the budget; clear losers stop early"


def _time(plan: Plan) -> str:
    time = plan.time
    if time is None:
        return f"not predicted: {plan.untimed}"
    parts = [
        f"{words.duration(time.start)} to start",
        f"{words.duration(time.search)} of trials",
        *([f"{words.duration(time.confirmation)} of confirmation"] if time.confirmation else []),
        f"{words.duration(time.end)} to judge the winner",
    ]
    at_a_time = f"{words.count(plan.slots, 'trial')} at a time on {words.count(plan.cpus, 'core')} each"
    lines = [f"about {words.duration(time.total)}: {', '.join(parts)}; {at_a_time}"]
    if plan.finished or plan.dropped:
        lines.append(
            f"{words.count(plan.finished, 'trial')} of it done; what is left takes {words.duration(time.left)}"
        )
    speeds = ", ".join(f"{speed:.0f} at batch size {batch}" for batch, speed in time.speeds.items())
    lines.append(f"sentences a second in training: {speeds}" + _evaluation(time.evaluation))
    lines.append(_source(plan.slots, time))
    if time.load > BUSY:
        lines.append("other work kept this machine busy meanwhile; when it is quiet, all is faster")
    return "\n".join(lines)


def _evaluation(speed: float) -> str:
    return f"; in evaluation: {speed:.0f}" if math.isfinite(speed) else ""


def _source(slots: int, time: Time) -> str:
    if time.trials:
        return f"predicted from {words.count(time.trials, 'finished trial')} of this study; nothing was measured now"
    side_by_side = f"{time.beside} trials side by side" if time.beside > 1 else "one trial alone"
    more = f", and {slots} slow each other down more" if slots > time.beside else ""
    return f"measured by a probe, on {side_by_side}{more}"


def _there_already(plan: Plan) -> str:
    done = words.count(plan.finished, "finished trial")
    outside = f", and {words.count(plan.dropped, 'trial')} outside of the space do not" if plan.dropped else ""
    return f"this study is there already; with --resume its {done} count towards the budget{outside}"


def _disk(plan: Plan) -> str:
    checkpoints = words.count(plan.disk.kept, "checkpoint")
    return (
        f"at most {checkpoints} of {size(plan.disk.checkpoint)} kept: {size(plan.kept_bytes)}; "
        + (f"adapted models: {size(plan.disk.adapted)}; " if plan.disk.adapted else "")
        + (f"meanwhile {size(plan.disk.states)} of states at most; " if plan.disk.states else "")
        + (f"long trials' bookmarks, where there is room: {size(plan.disk.bookmarks)}; " if plan.disk.bookmarks else "")
        + f"{size(plan.disk.free)} free at {plan.disk.storage}"
    )


def _memory(plan: Plan) -> str:
    how = "measured" if plan.memory.is_measured else "estimated"
    together = f", {size(plan.slots * plan.memory.trial)} for {plan.slots} at a time" if plan.slots > 1 else ""
    there = f"; the machine has {size(plan.memory.machine)}" if plan.memory.machine is not None else ""
    return f"{size(plan.memory.trial)} a trial ({how}){together}{there}"
