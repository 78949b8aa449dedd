"""The probe of a dry run: a few real steps of the typical configuration, timed in processes of their own.

Each measurement is a whole small trial of the study's own objective, over a sample of its rows, and as many run side by
side as will in the study: they share caches and memory. So what is timed is what will run, and nothing is left behind:
samples and checkpoints lie in a temporary folder.
"""

import dataclasses
import math
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean

import numpy as np

from hpo.encoded import Array, Encoded
from hpo.errors import TrialError
from hpo.records import Seeds, TrialConfig
from hpo.runners.ray import WORKER
from hpo.space import Params
from hpo.training.hyperparameters import without_stage
from hpo.trial import TrialObjective

TRAIN_SECONDS = 2.5
"""About how long is trained at each batch size."""

EVALUATION_SECONDS = 0.7
STEPS = (2, 24)
"""The fewest and the most steps that are timed at a batch size, whatever time they take."""

ROWS = (16, 512)
"""The same for rows of one evaluation."""

MOST = 8
"""Processes at a time; what slows more of them down slows these."""


@dataclasses.dataclass(frozen=True, slots=True)
class Pace:
    """How fast a trial is. steps: seconds of one batch with its update, by batch size.

    evaluation: rows a second. setup: seconds before a trial's first step. start: what a new process takes beyond that.
    memory: the most bytes that a process had, 0 where nobody looked. load: the share of all cores that others used when
    the measurement began. beside: trials that ran at a time. trials: of the study itself, that it was learnt from.
    """

    steps: Mapping[int, float]
    evaluation: float
    setup: float
    start: float
    memory: int
    load: float = 0.0
    beside: int = 1
    trials: int = 0

    def step_seconds(self, batch: int) -> float:
        """On the line through the two batch sizes that were measured."""
        (low, fast), *more = sorted(self.steps.items())
        if not more:
            return fast * batch / low
        high, slow = more[-1]
        return max(fast + (slow - fast) * (batch - low) / (high - low), 0.0)

    def reading(self, rows: int) -> float:
        """Seconds to evaluate so many rows; where that was not told apart from training, a third of what that takes."""
        if math.isfinite(self.evaluation):
            return rows / self.evaluation
        batch = max(self.steps)
        return rows * self.steps[batch] / batch / 3.0


def probe(objective: TrialObjective, params: Params, batches: Sequence[int], slots: int = 1) -> Pace:
    """Measure in new processes, with the environment of a trial's. TrialError where the configuration can't train.

    slots: trials that the study runs at a time.
    """
    context = multiprocessing.get_context("spawn")
    load = max(0.0, os.getloadavg()[0] - 1.0) / (os.cpu_count() or 1)  # without this process
    beside = min(slots, MOST)
    with (
        tempfile.TemporaryDirectory(prefix="hpo-probe-") as folder,
        environment(WORKER),
        ProcessPoolExecutor(beside, mp_context=context) as pool,
    ):
        folders = [Path(folder) / str(place) for place in range(beside)]
        for own in folders:
            own.mkdir()
        objective, params = (
            dataclasses.replace(objective.of(params), adaptation=None, trying=True),
            of_the_task(params),
        )
        asked = [
            pool.submit(measure, Samples(objective, dict(params), own), tuple(batches), time.time()) for own in folders
        ]
        try:
            paces = [one.result() for one in asked]
        except BrokenProcessPool:
            raise TrialError("its process died, most likely for lack of memory; lower task.max_length") from None
    return Pace(
        steps={size: fmean(one.steps[size] for one in paces) for size in paces[0].steps},
        evaluation=fmean(one.evaluation for one in paces),
        setup=fmean(one.setup for one in paces),
        start=min(one.start for one in paces),
        memory=max(one.memory for one in paces),
        load=load,
        beside=beside,
    )


def of_the_task(params: Params) -> Params:
    """Without what a stage before it trains with: it is not timed."""
    return {name: value for name, value in without_stage(params).items() if name != "adapt"}


def measure(samples: "Samples", batches: Sequence[int], submitted: float) -> Pace:
    """What `probe` runs in the new process. submitted: seconds since the epoch when it was asked for."""
    from hpo.training import footprint

    sizes = sorted({min(batches), max(batches)})
    warm = samples.trial(sizes[0], STEPS[0], ROWS[0])
    ready = time.time()
    rows = _within(ROWS, EVALUATION_SECONDS * ROWS[0] / warm.evaluation)
    step_of = {size: warm.step * size / sizes[0] for size in sizes}
    timed = {size: samples.trial(size, _within(STEPS, TRAIN_SECONDS / step_of[size]), rows) for size in sizes}
    slowest = timed[sizes[-1]]
    again = slowest.setup + STEPS[0] * warm.step + 2 * warm.evaluation  # the first trial, in a warm process
    return Pace(
        steps={size: one.step for size, one in timed.items()},
        evaluation=slowest.rows / slowest.evaluation,
        setup=slowest.setup,
        start=max(0.0, ready - submitted - again),
        memory=footprint.peak_bytes(),
    )


@dataclasses.dataclass(frozen=True, slots=True)
class _Timed:
    """Seconds of one small trial: of a step, of an evaluation over `rows`, of all before the first step."""

    step: float
    evaluation: float
    rows: int
    setup: float


@dataclasses.dataclass(frozen=True, slots=True)
class _Cut:
    """A sample of a split. padding: tokens a row of the whole over those of the sample, whose batches mix lengths."""

    rows: int
    padding: float


@dataclasses.dataclass(frozen=True)
class Samples:
    """Small trials of `objective`. folder: an empty one, for their rows."""

    objective: TrialObjective
    params: Params
    folder: Path

    def trial(self, batch: int, steps: int, rows: int) -> _Timed:
        """Two epochs over half of `steps` batches; an evaluation after each."""
        from hpo.training.batches import length_grouped, sorted_by_length
        from hpo.training.inference import EVAL_TOKENS

        train = self._cut(
            "train", batch * math.ceil(steps / 2), lambda own: length_grouped(own, batch, seed=0, epoch=0)
        )
        looks = self._cut("validation", rows, lambda own: sorted_by_length(own, EVAL_TOKENS))
        objective = dataclasses.replace(self.objective, data=self.folder, checkpoints=self.folder / "checkpoints")
        changes = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": 1, "num_train_epochs": 2}
        nothing_is_kept = math.inf if objective.mode == "max" else -math.inf
        reports = list(objective(TrialConfig(0, {**self.params, **changes}, Seeds(0, 0), keep_above=nothing_is_kept)))
        first, last = (report.metrics for report in reports)
        evaluation = (last["seconds"] - first["seconds"]) - (last["train_seconds"] - first["train_seconds"])
        return _Timed(
            step=last["train_seconds"] / reports[-1].step * train.padding,
            evaluation=max(evaluation, 1e-6) * looks.padding,
            rows=looks.rows,
            setup=max(0.0, first["seconds"] - first["train_seconds"] - evaluation),
        )

    def _cut(self, split: str, count: int, batches: Callable[[Array], list[Array]]) -> _Cut:
        """Write a sample of a split. batches: how rows of such lengths are put together."""
        whole = Encoded.load(self.objective.data / f"{split}.arrow")
        sample = _sample(whole, count)
        sample.save(self.folder / f"{split}.arrow")
        padded = [_padded(own.ragged["input_ids"].lengths, batches) for own in (whole, sample)]
        return _Cut(len(sample), padded[0] / padded[1])


def _padded(lengths: Array, batches: Callable[[Array], list[Array]]) -> float:
    """Tokens a row, once each batch is as long as its longest row."""
    return float(sum(len(rows) * int(lengths[rows].max()) for rows in batches(lengths)) / len(lengths))


def _sample(encoded: Encoded, count: int) -> Encoded:
    """At most `count` rows that are as long as all of them: evenly spaced in the order of lengths."""
    order = np.argsort(encoded.ragged["input_ids"].lengths, kind="stable")
    places = np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(np.int64)
    rows: Array = order[places]
    return encoded.take(rows)


def _within(bounds: tuple[int, int], value: float) -> int:
    return round(min(max(value, bounds[0]), bounds[1]))


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Variables for processes that are started meanwhile."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
