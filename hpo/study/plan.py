"""The plan of a study: everything that can be known before it starts. Makes no study folder and tells no tracker.

Reads the model and the rows as a run does, through the same cache, which the run then finds filled. Of a study that is
there already it reads the ledger.
"""

import os
import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hpo.config import StudyConfig
from hpo.config.pairs import BLIND
from hpo.encoded import Encoded
from hpo.errors import ServiceError, TrialError
from hpo.ledger.past import read_study
from hpo.records import BASELINE, TrialRecord
from hpo.report.plan import Disk, Fresh, Memory, Plan, Saving, Time
from hpo.report.screen import Screen
from hpo.runners import Resources
from hpo.runners.machine import cores
from hpo.runners.ray import cluster_slots
from hpo.schedulers import PbtConfig
from hpo.space import Params
from hpo.study import adapted
from hpo.study.devices import settle
from hpo.study.folder import SAVED
from hpo.study.forecast import Forecast, Job, Limits, Look, Proposals, Slots, forecast, makespan
from hpo.study.hindsight import pace_of
from hpo.study.history import trained_without
from hpo.study.prepare import Prepared, prepare
from hpo.study.probe import Pace, probe
from hpo.study.steps import Ladder, TrialLength, extremes
from hpo.training import footprint
from hpo.trial import evaluation_steps

MOST_TRIALS = 300
"""That many are looked at one by one; of a larger budget, the rest is taken to be like these."""

OPENING = 9.0
"""Seconds before trials can begin: imports, the rows out of the cache, and a Ray of the study's own."""

JUDGING = 6.0
"""Seconds of every end besides the test rows: the last events to MLflow, and the report."""

REGISTERING = 12.0
"""Seconds for the registry on top of that: imports, and the winner's weights copied."""

MODELS = "only the first model was timed; trials of the others take what they take"
STAGE = "the stage adapt is not in the time: each of its assignments trains once, for all trials that have it"

UNPROBED = "no probe was run (--no-probe)"
ELSEWHERE = "a probe would time this machine, not the cluster (--address); leave it out to plan for this machine"


def make_plan(config: StudyConfig, screen: Screen, *, timed: bool = True, address: str | None = None) -> Plan:
    """Raises what preparing a run raises: DataError, ModelError, ServiceError, ConfigError (rungs too fine).

    timed: by what the study's own trials took, or with a probe in processes of its own, which takes seconds. address:
    of the cluster that the study would run on, of which nothing is known but how many trials fit at a time.
    """
    known = count_slots(config.resources, address) if config.resources.gpus is not None else None  # before all reading
    prepared = prepare(config, screen)
    resources = settle(config, prepared, screen.say, address, measured=timed)
    slots = known or count_slots(resources, address)
    rows: dict[str, int] = {record.split: record.rows for record in prepared.splits.records}
    ladder = Ladder.of(config.search.scheduler, config.space)
    assignments = _assignments(config)
    train, validation = (len(Encoded.load(path)) for path in (prepared.encoded.train, prepared.encoded.validation))
    ends = extremes(config.space, config.default_point(), train)
    lengths = [TrialLength.of(params, train) for params in (*ends, *(params for _, params in assignments))]
    batches = sorted({length.batch for length in lengths})
    past = past_of(config)
    pace = pace_of(past.finished, ladder, train, validation) if timed else None
    untimed = ELSEWHERE if timed and address else UNPROBED
    if timed and pace is None and address is None:
        pace, untimed = _probe(config, prepared, batches, slots, resources.gpus, screen)
    head = config.task.head
    shape = _Shape(train, validation, ladder, pace)
    jobs = [shape.job(params, is_baseline=origin == BASELINE) for origin, params in assignments]
    course = _Course(config, ladder, jobs, Slots(slots, OPENING, pace.start) if pace else Slots(slots))
    future = course.whole()
    return Plan(
        document=config.document(),
        model=", ".join(own.pretrained.source for own in prepared.starts.values()),
        parameters=max(footprint.parameters(folder, head) for folder in prepared.folders),
        rows=rows,
        notes=(*prepared.splits.notes, *_unforeseen(config)),
        trials=None if course.is_open else future.trials,
        reached=(*zip(ladder.fractions[:-1], future.reached[:-1], strict=True), (1.0, future.ended)),
        of_longest=ladder.longest is not None,
        steps=(lengths[0].total_steps, sorted(job.steps for job in jobs)[len(jobs) // 2], lengths[1].total_steps),
        all_steps=future.steps,
        epochs=future.epochs,
        sentences=future.sentences,
        slots=slots,
        cpus=config.resources.cpus,
        saving=Saving(1.0 - future.epochs / future.whole_epochs, future.whole_epochs),
        fresh=course.fresh(future),
        time=_time(course, pace, future, past, rows.get("test", 0)) if pace else None,
        untimed=untimed,
        disk=_disk(
            config,
            max(footprint.checkpoint_bytes(folder, head) for folder in prepared.folders),
            slots,
            adapted=len(adapted.names(config, (params for _, params in assignments))),
        ),
        memory=_memory(prepared, head, pace, batches[-1], None if address else _machine_bytes()),
        exists=past.exists,
        finished=past.live,
        dropped=len(past.finished) - past.live,
    )


def _unforeseen(config: StudyConfig) -> list[str]:
    several = len(config.models) > 1
    return [note for note, there in ((MODELS, several), (STAGE, config.stages is not None)) if there]


@dataclass(frozen=True)
class Past:
    """What is there of the study. finished: its trials, dropped where the space that is planned has no room for them.
    seconds: of wall time, as far as its drivers said."""

    exists: bool = False
    finished: tuple[TrialRecord, ...] = ()
    seconds: float = 0.0

    @property
    def live(self) -> int:
        """How many count towards a budget of trials; hours and epochs of the others are spent as well."""
        return sum(not record.dropped for record in self.finished)


def past_of(config: StudyConfig) -> Past:
    """Read from the ledger of a study that was begun; nothing is written."""
    if not (config.folder / SAVED).exists():
        return Past()
    past = read_study(config.folder, config.study, config.mode, config.ledger)
    return Past(True, tuple(past.within(config.space, trained_without(config))), past.seconds_used)


@dataclass(frozen=True)
class _Course:
    """The study as it will be played. jobs: its first trials, in order."""

    config: StudyConfig
    ladder: Ladder
    jobs: Sequence[Job]
    slots: Slots

    @property
    def limits(self) -> Limits:
        """Hours are a limit only where seconds are known."""
        budget, is_timed = self.config.budget, self.slots.opening > 0
        return Limits(budget.trials, budget.hours * 3600 if budget.hours and is_timed else None, budget.epochs)

    @property
    def is_open(self) -> bool:
        return self.limits == Limits()

    def whole(self) -> Forecast:
        return self._play(self.jobs, Limits(trials=100) if self.is_open else self.limits)

    def rest(self, past: Past) -> Forecast | None:
        """What is left to do; None where the budget is used."""
        limits, done = self.limits, past.live
        epochs = sum(record.metrics.get("epochs", 0.0) for record in past.finished)
        left = Limits(
            trials=None if limits.trials is None else max(0, limits.trials - done),
            seconds=None if limits.seconds is None else max(0.0, limits.seconds - past.seconds),
            epochs=None if limits.epochs is None else max(0.0, limits.epochs - epochs),
        )
        if 0 in (left.trials, left.seconds, left.epochs):
            return None
        return self._play(self.jobs[done:] or self.jobs, left)

    def fresh(self, future: Forecast) -> Fresh | None:
        """Nobody knows the leaders yet; they are as long as those of the plays."""
        if (asked := self.config.confirm) is None:
            return None
        default = [job for job in self.jobs if job.is_baseline][:1]
        others = max(1, min(asked.top, round(future.ended) - len(default)))
        lengths = [future.leader_seconds] * others + [job.seconds for job in default]
        epochs = others * future.leader_epochs + sum(job.epochs for job in default)
        seconds = makespan(lengths * asked.seeds, Slots(self.slots.count))
        return Fresh(others, len(default), asked.seeds, asked.seeds * epochs, seconds)

    def _play(self, jobs: Sequence[Job], limits: Limits) -> Forecast:
        build = partial(self.config.search.scheduler.build, self.config.space, self.config.seed)
        return forecast(jobs, self.ladder.fractions, build, self.slots, limits, self._proposals(jobs))

    def _proposals(self, jobs: Sequence[Job]) -> Proposals:
        sampler, confirm = self.config.search.sampler, self.config.confirm
        learns = None if sampler.type in BLIND else getattr(sampler, "n_startup_trials", 10)
        done = len(self.jobs) - len(jobs)
        return Proposals(None if learns is None else max(0, learns - done), confirm.top if confirm else 1)


def count_slots(resources: Resources, address: str | None = None) -> int:
    """Trials that run at a time on this machine, as Ray counts it, or on a cluster. ServiceError where none fits."""
    cpus, gpus = resources.cpus, resources.gpus or 0.0
    if address is not None:
        slots = cluster_slots(address, cpus, gpus)
        return min(slots, resources.max_concurrent_trials or slots)
    devices = footprint.gpu_count() if gpus else 0
    slots = max(cores(), cpus) // cpus
    if gpus:
        slots = min(slots, devices * int(1 / gpus + 1e-9))
    if slots < 1:
        raise ServiceError(
            f"resources: a trial asks for {gpus:g} gpus, but this machine has {devices}; lower resources.gpus"
        )
    return min(slots, resources.max_concurrent_trials or slots)


@dataclass(frozen=True)
class _Shape:
    """What an assignment becomes as a job. Where nothing was timed, a step lasts a second."""

    train_rows: int
    validation_rows: int
    ladder: Ladder
    pace: Pace | None

    def job(self, params: Params, *, is_baseline: bool) -> Job:
        length = TrialLength.of(params, self.train_rows)
        steps = sorted(evaluation_steps(length, self.ladder.rungs(params)))
        shares = [step / length.total_steps for step in steps]
        return Job(
            params=params,
            looks=tuple(
                Look(self.ladder.level(params, share), share, self._seconds(length, step, place))
                for place, (step, share) in enumerate(zip(steps, shares, strict=True), start=1)
            ),
            steps=length.total_steps,
            epochs=length.epochs,
            sentences=length.epochs * self.train_rows,
            is_baseline=is_baseline,
        )

    def _seconds(self, length: TrialLength, steps: int, looks: int) -> float:
        """From the start of a trial to the end of its evaluation number `looks`, after so many steps."""
        if self.pace is None:
            return float(steps)
        return (
            self.pace.setup
            + steps * length.accumulation * self.pace.step_seconds(length.batch)
            + looks * self.validation_rows / self.pace.evaluation
        )


def _assignments(config: StudyConfig) -> list[tuple[str, Params]]:
    """(origin, params) of the first trials: those that are named, then as many as needed from all over the space."""
    source = random.Random(config.seed)
    count = min(config.budget.trials or MOST_TRIALS, MOST_TRIALS)
    found: list[tuple[str, Params]] = list(config.first_points()[:count])
    return found + [("", config.space.draw(source)) for _ in range(count - len(found))]


def _probe(
    config: StudyConfig, prepared: Prepared, batches: list[int], slots: int, gpus: float, screen: Screen
) -> tuple[Pace | None, str]:
    screen.say(
        f"probe     a few steps at batch size {' and '.join(str(one) for one in sorted({batches[0], batches[-1]}))}"
    )
    default = config.space.project(config.default_point())
    try:
        objective = prepared.objective(config, config.folder / "checkpoints", gpus=gpus)
        return probe(objective, default, batches, slots), ""
    except TrialError as error:
        return None, f"the default configuration can't be trained ({error})"


def _time(course: _Course, pace: Pace, future: Forecast, past: Past, test_rows: int) -> Time:
    end = JUDGING + pace.reading(2 * test_rows)  # the winner, and the default configuration
    if course.config.promotion is not None:
        end += REGISTERING + pace.reading(test_rows)  # and the champion
    fresh = course.fresh(future)
    rest = course.rest(past) if past.finished else future
    return Time(
        start=course.slots.begin(0),
        search=future.seconds - course.slots.begin(0),
        confirmation=fresh.seconds if fresh else 0.0,
        end=end,
        whole_search=future.whole_seconds - course.slots.begin(0),
        rest=rest.seconds - course.slots.begin(0) if rest else 0.0,
        speeds={batch: batch / seconds for batch, seconds in sorted(pace.steps.items())},
        evaluation=pace.evaluation,
        load=pace.load,
        beside=pace.beside,
        trials=pace.trials,
    )


def _disk(config: StudyConfig, checkpoint: int, slots: int, *, adapted: int) -> Disk:
    """The best few within `max_bytes`, one of them at least, and the default configuration's; while leaders are
    confirmed, the best fresh run of each as well. adapted: models that the stage before makes."""
    baseline = any(origin == BASELINE for origin, _ in config.first_points())
    within = max(1, config.checkpoints.max_bytes // checkpoint)
    fresh = config.confirm.top if config.confirm else 0
    kept = min(config.checkpoints.keep + fresh, within) + baseline + (baseline and fresh > 0)
    scheduler = config.search.scheduler
    place = config.storage.resolve()
    while not place.exists():
        place = place.parent
    return Disk(
        checkpoint,
        kept if fresh else min(kept, config.budget.trials or kept),
        shutil.disk_usage(place).free,
        config.storage,
        3 * checkpoint * scheduler.most_states(slots) if isinstance(scheduler, PbtConfig) else 0,
        4 * checkpoint * slots if config.checkpoints.every_minutes is not None else 0,
        adapted * checkpoint,
    )


def _memory(prepared: Prepared, head: str, pace: Pace | None, batch: int, machine: int | None) -> Memory:
    estimates = []
    for own in prepared.starts.values():
        longest = int(Encoded.load(own.encoded.train).ragged["input_ids"].lengths.max())
        estimates.append(footprint.trial_bytes(own.pretrained.folder, head, batch, longest))
    estimate = max(estimates)
    is_measured = pace is not None and pace.memory > 0 and len(estimates) == 1
    return Memory(pace.memory if pace and is_measured else estimate, machine, is_measured)


def _machine_bytes() -> int:
    """Memory of this machine, or of the container that it is in (cgroup v2)."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text(encoding="ascii").strip() if limit.is_file() else "max"
    return min(physical, int(text)) if text.isdigit() else physical
