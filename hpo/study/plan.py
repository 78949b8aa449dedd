"""The plan of a study: everything that can be known before it starts. Makes no study folder and tells no tracker.

Reads the model and the rows as a run does, through the same cache, which the run then finds filled.
"""

import os
import random
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hpo.config import StudyConfig
from hpo.config.schema import ResourcesConfig
from hpo.encoded import Encoded
from hpo.errors import ServiceError, TrialError
from hpo.report.plan import Disk, Memory, Plan, Time
from hpo.report.screen import Screen
from hpo.runners.machine import cores
from hpo.space import Choice, Params, Scalar, Varying
from hpo.study.folder import SAVED
from hpo.study.forecast import Forecast, Job, Limits, forecast
from hpo.study.prepare import Prepared, prepare
from hpo.study.probe import Pace, probe
from hpo.study.search import BASELINE
from hpo.study.steps import TrialLength, extremes
from hpo.training import footprint
from hpo.trial import evaluation_steps

MOST_TRIALS = 300
"""That many are looked at one by one; of a larger budget, the rest is taken to be like these."""

UNPROBED = "no probe was run (--no-probe)"


def make_plan(config: StudyConfig, screen: Screen, *, timed: bool = True) -> Plan:
    """Raises what preparing a run raises: DataError, ModelError, ServiceError, ConfigError (rungs too fine).

    timed: with a probe in a process of its own, which takes seconds.
    """
    slots = count_slots(config.resources)
    prepared = prepare(config, screen)
    rows: dict[str, int] = {record.split: record.rows for record in prepared.splits.records}
    assignments = _assignments(config)
    ends = extremes(config.space, config.default_point(), rows["train"])
    drawn = [params for _, params in assignments]
    batches = sorted({TrialLength.of(params, rows["train"]).batch for params in (*ends, *drawn)})
    pace, untimed = _probe(config, prepared, batches, screen) if timed else (None, UNPROBED)
    budget = config.budget
    seconds = budget.hours * 3600 if budget.hours is not None and pace is not None else None
    limits = Limits(budget.trials, seconds, budget.epochs)
    is_open = limits == Limits()
    rungs = config.search.scheduler.fractions()
    shape = _Shape(rows["train"], rows["validation"], rungs, pace)
    jobs = [shape.job(params, is_baseline=origin == BASELINE) for origin, params in assignments]
    build = partial(config.search.scheduler.build, config.space, config.seed)
    future = forecast(jobs, rungs, build, slots, Limits(trials=100) if is_open else limits)
    fewest, most = (
        TrialLength.of(params, rows["train"]).total_steps
        for params in extremes(config.space, config.default_point(), rows["train"])
    )
    lengths = sorted(job.steps for job in jobs)
    folder = prepared.pretrained.folder
    return Plan(
        document=config.document(),
        model=prepared.pretrained.source,
        parameters=footprint.parameters(folder),
        rows=rows,
        notes=prepared.splits.notes,
        trials=None if is_open else future.trials,
        reached=tuple(zip(rungs, future.reached, strict=True)),
        steps=(fewest, lengths[len(lengths) // 2], most),
        all_steps=future.steps,
        epochs=future.epochs,
        sentences=future.sentences,
        slots=slots,
        cpus=config.resources.cpus,
        time=_time(pace, future, rows.get("test", 0)) if pace else None,
        untimed=untimed,
        disk=_disk(config, footprint.checkpoint_bytes(folder)),
        memory=_memory(prepared, pace, batches[-1]),
        exists=(config.folder / SAVED).exists(),
    )


def count_slots(resources: ResourcesConfig) -> int:
    """Trials that run on this machine at a time, as Ray counts it. ServiceError where none fits."""
    cpus, gpus = resources.cpus, resources.gpus
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
    rungs: tuple[float, ...]
    pace: Pace | None

    def job(self, params: Params, *, is_baseline: bool) -> Job:
        length = TrialLength.of(params, self.train_rows)
        return Job(
            seconds=tuple(self._seconds(length, fraction) for fraction in self.rungs),
            steps=length.total_steps,
            epochs=length.epochs,
            sentences=length.epochs * self.train_rows,
            is_baseline=is_baseline,
        )

    def _seconds(self, length: TrialLength, fraction: float) -> float:
        steps = fraction * length.total_steps
        if self.pace is None:
            return steps
        looks = sum(step <= steps + 1 for step in evaluation_steps(length, self.rungs))
        return (
            self.pace.setup
            + steps * length.accumulation * self.pace.step_seconds(length.batch)
            + looks * self.validation_rows / self.pace.evaluation
        )


def _assignments(config: StudyConfig) -> list[tuple[str, Params]]:
    """(origin, params) of the first trials: those that are named, then as many as needed from all over the space."""
    draw = random.Random(config.seed)

    def suggest(name: str, own: Varying) -> Scalar:
        if isinstance(own, Choice):
            return draw.choice(own.values)
        share = draw.random()
        log = own.low * (own.high / own.low) ** share if own.log else own.low + share * (own.high - own.low)
        return own.nearest(log)

    count = min(config.budget.trials or MOST_TRIALS, MOST_TRIALS)
    found: list[tuple[str, Params]] = list(config.first_points()[:count])
    return found + [("", config.space.assign(suggest)) for _ in range(count - len(found))]


def _probe(
    config: StudyConfig, prepared: Prepared, batches: list[int], screen: Screen
) -> tuple[Pace | None, str | None]:
    screen.say(
        f"probe     a few steps at batch size {' and '.join(str(one) for one in sorted({batches[0], batches[-1]}))}"
    )
    default = config.space.project(config.default_point())
    try:
        return probe(prepared.objective(config, config.folder / "checkpoints"), default, batches), None
    except TrialError as error:
        return None, f"the default configuration can't be trained ({error})"


def _time(pace: Pace, future: Forecast, test_rows: int) -> Time:
    judging = 2 * test_rows / pace.evaluation  # the winner, and the default configuration
    return Time(
        total=pace.start + future.seconds + judging,
        speeds={batch: batch / seconds for batch, seconds in sorted(pace.steps.items())},
        evaluation=pace.evaluation,
        load=pace.load,
    )


def _disk(config: StudyConfig, checkpoint: int) -> Disk:
    """The best few within `max_bytes`, one of them at least, and the default configuration's."""
    baseline = any(origin == BASELINE for origin, _ in config.first_points())
    within = max(1, config.checkpoints.max_bytes // checkpoint)
    kept = min(config.checkpoints.keep, within) + baseline
    place = config.storage.resolve()
    while not place.exists():
        place = place.parent
    return Disk(checkpoint, min(kept, config.budget.trials or kept), shutil.disk_usage(place).free, config.storage)


def _memory(prepared: Prepared, pace: Pace | None, batch: int) -> Memory:
    longest = int(Encoded.load(prepared.encoded.train).ragged["input_ids"].lengths.max())
    estimate = footprint.trial_bytes(prepared.pretrained.folder, batch, longest)
    return Memory(pace.memory if pace else estimate, _machine_bytes(), is_measured=pace is not None)


def _machine_bytes() -> int:
    """Memory of this machine, or of the container that it is in (cgroup v2)."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text(encoding="ascii").strip() if limit.is_file() else "max"
    return min(physical, int(text)) if text.isdigit() else physical
