"""The page of a dry run: the resolved file, then what the study will come to."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hpo.report import words

BUSY = 0.25
"""Share of all cores that others may use before a measured time says little."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes. trial: the peak of one. machine: what there is. is_measured: by the probe, else estimated."""

    trial: int
    machine: int
    is_measured: bool


@dataclass(frozen=True, slots=True)
class Disk:
    """Bytes. checkpoint: one of them. kept: how many stay until the end. free: where the studies lie."""

    checkpoint: int
    kept: int
    free: int
    storage: Path


@dataclass(frozen=True, slots=True)
class Time:
    """Seconds. total: from the first process to the test. speeds: sentences a second in training, by batch size.

    evaluation: rows a second. load: how many other processes wanted a core meanwhile, as a share of all cores.
    """

    total: float
    speeds: Mapping[int, float]
    evaluation: float
    load: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What a study will come to, before any of it is there.

    document: the resolved file. rows: by split. trials: None where only the clock ends the study and nothing was
    timed; `reached` is then of 100 trials. reached: (fraction of training, trials expected to get there). steps: the
    fewest, the middle, the most of one trial. all_steps, epochs, sentences: of all trials together. slots: trials at
    a time. time: None where nothing was timed, for the reason `untimed`. exists: a study of that name is there.
    """

    document: str
    model: str
    parameters: int
    rows: Mapping[str, int]
    notes: tuple[str, ...]
    trials: float | None
    reached: tuple[tuple[float, float], ...]
    steps: tuple[int, int, int]
    all_steps: float
    epochs: float
    sentences: float
    slots: int
    cpus: int
    time: Time | None
    untimed: str | None
    disk: Disk
    memory: Memory
    exists: bool = False

    @property
    def kept_bytes(self) -> int:
        return self.disk.kept * self.disk.checkpoint

    @property
    def warnings(self) -> tuple[str, ...]:
        """What will go wrong, each with its remedy."""
        found = []
        if self.kept_bytes > self.disk.free:
            found.append(
                f"{size(self.kept_bytes)} of checkpoints do not fit into {size(self.disk.free)}; "
                "lower checkpoints.keep or checkpoints.max_bytes, or choose another --storage"
            )
        if self.slots * self.memory.trial > self.memory.machine:
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
        ("time", _time(plan)),
        ("disk", _disk(plan)),
        ("memory", _memory(plan)),
        *(("warning", warning) for warning in plan.warnings),
    ]
    if plan.exists:
        parts.append(("note", "this study is there already; with --resume its trials count towards the budget"))
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
    many = "as many as the hours allow" if plan.trials is None else _about(plan.trials)
    if len(plan.reached) == 1:
        return f"{many}, each to its end"
    of = "; of 100, " if plan.trials is None else "; "
    stages = [f"{_about(count)} to {fraction:.2g} of their training" for fraction, count in plan.reached[:-1]]
    return f"{many}{of}{', '.join(stages)}, {_about(plan.reached[-1][1])} to the end"


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


def _time(plan: Plan) -> str:
    if plan.time is None:
        return f"not predicted: {plan.untimed}"
    at_a_time = f"{words.count(plan.slots, 'trial')} at a time"
    speeds = ", ".join(f"{speed:.0f} at batch size {batch}" for batch, speed in plan.time.speeds.items())
    lines = [
        f"about {words.duration(plan.time.total)}, {at_a_time} on {words.count(plan.cpus, 'core')} each",
        f"sentences a second in training: {speeds}; in evaluation: {plan.time.evaluation:.0f}",
    ]
    if plan.slots > 1:
        lines.append("measured on one trial alone; side by side each is slower where they share caches and memory")
    if plan.time.load > BUSY:
        lines.append(f"other work took {plan.time.load:.0%} of this machine meanwhile; when it is quiet, all is faster")
    return "\n".join(lines)


def _disk(plan: Plan) -> str:
    checkpoints = words.count(plan.disk.kept, "checkpoint")
    return (
        f"at most {checkpoints} of {size(plan.disk.checkpoint)} kept: {size(plan.kept_bytes)}; "
        f"{size(plan.disk.free)} free at {plan.disk.storage}"
    )


def _memory(plan: Plan) -> str:
    how = "measured" if plan.memory.is_measured else "estimated"
    together = f", {size(plan.slots * plan.memory.trial)} for {plan.slots} at a time" if plan.slots > 1 else ""
    return f"{size(plan.memory.trial)} a trial ({how}){together}; the machine has {size(plan.memory.machine)}"
