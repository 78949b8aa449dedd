"""What is known of a study that no driver holds, and what a check says of it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, TypeAlias

from hpo.records import AnyEvent, StudyFinished, StudyStarted, StudyStopped, TrialRecord, TrialState
from hpo.records.mirrored import Mirrored

Run: TypeAlias = tuple[int, int]
"""Trial and replicate; replicate 0 is the trial itself."""


class Verdict(StrEnum):
    OK = "ok"
    BROKEN = "broken"
    MENDED = "mended"
    LEFT_OUT = "left out"


class Mend(StrEnum):
    """What `--repair` can do about it."""

    EVENTS = "tell what the ledger has and the events have not"
    MIRROR = "tell MLflow everything again"
    DOUBLES = "move all but one run of a trial to MLflow's bin"
    DISK = "remove what nobody points to"
    ALIAS = "put the alias where it belongs"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check says. said: with figures where it is broken, and the rule. remedy: what to do about it."""

    check: str
    verdict: Verdict
    said: str
    remedy: str | None = None
    mend: Mend | None = None


@dataclass(frozen=True, slots=True)
class Weights:
    """A checkpoint's folder. bytes: of all its files. wrong: what keeps it from being proved; None where all hashes
    agree. value: the searched metric, as its manifest has it."""

    bytes: int
    wrong: str | None = None
    value: float | None = None


@dataclass(frozen=True, slots=True)
class Reevaluated:
    """A checkpoint that was asked again on the rows that its trial was scored on. tolerance: 0 on a CPU."""

    name: str
    recorded: float
    value: float
    tolerance: float = 0.0


@dataclass(frozen=True, slots=True)
class Champion:
    """Of the name in `promotion.model`. number: None where none was promoted. alias: the version that has it. wrong:
    why it can't be used. gaps: promotions that never met the one before them. is_owed: this study says that it
    promoted, and the registry has no such version. store: the option by which commands find that registry."""

    model: str
    number: int | None = None
    alias: int | None = None
    is_at_rest: bool = True
    wrong: str | None = None
    gaps: tuple[int, ...] = ()
    is_owed: bool = False
    store: str = ""

    def command(self, act: str) -> str:
        return f"python -m hpo.champion {act} --model {self.model}{self.store}"


@dataclass(frozen=True)
class Facts:
    """A study. trials: of the ledger, finished or not; runs: finished ones over fresh seeds, in their order;
    running_runs: those that a crash cut off.

    budget: trials asked for. is_bounded_otherwise: hours, epochs or a target may end it earlier. assignments: that a
    finite space has. has_changed: its space was changed on the way. keep, keep_bytes: of checkpoints. seeds: fresh ones
    a leader gets. ledger_wrong, events_wrong: why they can't be read. torn: bytes after the events' last line end.
    waiting: events that MLflow was not told. mirror_wrong: why MLflow can't be read. params, metrics: what MLflow was
    told, by run: metrics as (step, value). weights: by folder name; strangers: folders and files that nobody points to.
    again: None where the rows are not there or it was not asked for, with the reason in `not_again`.
    """

    study: str
    metric: str
    mode: Literal["min", "max"]
    trials: tuple[TrialRecord, ...] = ()
    runs: tuple[TrialRecord, ...] = ()
    running_runs: tuple[TrialRecord, ...] = ()
    budget: int | None = None
    is_bounded_otherwise: bool = False
    assignments: int | None = None
    has_changed: bool = False
    keep: int = 2
    keep_bytes: int = 4_000_000_000
    seeds: int | None = None
    ledger_wrong: str | None = None
    events: tuple[AnyEvent, ...] = ()
    events_wrong: str | None = None
    torn: int = 0
    waiting: int = 0
    mirror: Mirrored | None = None
    mirror_wrong: str | None = None
    params: Mapping[Run, Mapping[str, str]] = field(default_factory=dict)
    metrics: Mapping[Run, Mapping[str, Mapping[int, float]]] = field(default_factory=dict)
    best_first: tuple[TrialRecord, ...] = ()
    weights: Mapping[str, Weights] = field(default_factory=dict)
    strangers: tuple[str, ...] = ()
    surplus: tuple[str, ...] = ()
    temporary: tuple[str, ...] = ()
    again: tuple[Reevaluated, ...] = ()
    not_again: str | None = None
    champion: Champion | None = None
    champion_wrong: str | None = None

    @property
    def finished(self) -> tuple[TrialRecord, ...]:
        """Trials of the space as it is that have ended."""
        return tuple(own for own in self.trials if own.state.is_finished and not own.dropped)

    @property
    def running(self) -> tuple[TrialRecord, ...]:
        return tuple(own for own in self.trials if own.state is TrialState.RUNNING)

    @property
    def unfinished(self) -> tuple[str, ...]:
        """Names of the trials and runs that go on with the next driver."""
        return tuple(own.name for own in (*self.running, *self.running_runs))

    @property
    def is_finished(self) -> bool:
        """Whether the last driver came to the end of the study."""
        last = _last(self.events)
        return isinstance(last, StudyFinished)

    @property
    def is_cut_off(self) -> bool:
        """Whether the last driver left without a word."""
        return isinstance(_last(self.events), StudyStarted)


def _last(events: Iterable[AnyEvent]) -> AnyEvent | None:
    """How the study stands, by its own words."""
    told = [event for event in events if isinstance(event, StudyStarted | StudyStopped | StudyFinished)]
    return told[-1] if told else None


def ok(check: str, said: str) -> Finding:
    return Finding(check, Verdict.OK, said)


def left_out(check: str, why: str) -> Finding:
    return Finding(check, Verdict.LEFT_OUT, why)


def broken(check: str, wrong: Iterable[str], rule: str, remedy: str, mend: Mend | None = None) -> Finding:
    """The first few of what is wrong, and the rule that they break."""
    listed = list(wrong)
    more = f", and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return Finding(check, Verdict.BROKEN, f"{', '.join(listed[:SHOWN])}{more}; {rule}", remedy, mend)


SHOWN = 4
