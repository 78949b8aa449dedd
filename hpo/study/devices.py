"""Which part of a GPU a trial gets, where the space file leaves that open (`resources.gpus: auto`).

Measured, not reckoned: a few real steps at the space's largest batch, in a process of its own. Must not start trials.
"""

import math
import multiprocessing
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path

from hpo.config import StudyConfig
from hpo.encoded import Encoded
from hpo.errors import OutOfMemoryError, TrialError
from hpo.runners.ray import WORKER, cluster_gpus
from hpo.space import Params
from hpo.study.prepare import Prepared
from hpo.study.probe import ROWS, STEPS, Samples, environment, of_the_task
from hpo.study.steps import TrialLength, extremes
from hpo.training import footprint
from hpo.trial import TrialObjective

MOST = 4
"""Trials to a GPU. They take turns on it, so that more of them gain little, and each wants its own process."""

HEADROOM = 0.85
"""The part of a GPU's memory that is given away; a trial's need varies with the lengths that it draws together."""


@dataclass(frozen=True)
class Settled:
    """What one trial gets, with nothing left open."""

    cpus: int
    gpus: float
    max_concurrent_trials: int | None
    silent_minutes: float | None


def settle(config: StudyConfig, prepared: Prepared, say: Callable[[str], None], address: str | None = None) -> Settled:
    """say: for a line on the screen. address: of a cluster, on whose GPUs a trial gets one to itself.

    Raises ServiceError where a cluster does not answer.
    """
    own = config.resources
    gpus = own.gpus if own.gpus is not None else _found(config, prepared, say, address)
    return Settled(own.cpus, gpus, own.max_concurrent_trials, own.silent_minutes)


def _found(config: StudyConfig, prepared: Prepared, say: Callable[[str], None], address: str | None) -> float:
    if address is not None:
        return 1.0 if cluster_gpus(address, config.resources.cpus) else 0.0
    if not (devices := footprint.gpu_count()):
        return 0.0
    needs = _measured(config, prepared)
    count = beside_each_other(needs)
    on = "the GPU" if devices == 1 else f"each of {devices} GPUs"
    took = "a trial at the largest batch does not fit" if needs is None else f"one takes {needs.trial / 2**30:.1f} GiB"
    say(f"gpus      {count} trial{'s' if count > 1 else ''} at a time on {on}: {took}")
    return 1.0 / count


@dataclass(frozen=True, slots=True)
class Needs:
    """Bytes of a GPU: what one trial takes, and what there is."""

    trial: int
    total: int


def beside_each_other(needs: Needs | None) -> int:
    """Trials to a GPU. None: not even one fits as it is, and it will train on smaller micro-batches."""
    return 1 if needs is None else max(1, min(MOST, math.floor(HEADROOM * needs.total / needs.trial)))


def _measured(config: StudyConfig, prepared: Prepared) -> Needs | None:
    """The most of all models. None where memory does not suffice for one trial; smaller micro-batches answer that."""
    objective = replace(prepared.objective(config, config.folder / "checkpoints", gpus=1.0), trying=True)
    train = len(Encoded.load(prepared.encoded.train))
    default = config.default_point()
    batch = max(TrialLength.of(params, train).batch for params in extremes(config.space, default, train))
    spawn = multiprocessing.get_context("spawn")
    found = []
    with environment(WORKER), ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as pool:
        for name in config.models:
            searched = {"model": name} if "model" in config.space.parameters else {}
            params = of_the_task(config.space.project({**default, **searched}))
            try:
                found.append(pool.submit(_needs, objective.of(params), params, batch).result())
            except (OutOfMemoryError, BrokenProcessPool):
                return None
            except TrialError:  # the trials will say it themselves
                continue
    return max(found, key=lambda own: own.trial, default=None)


def _needs(objective: TrialObjective, params: Params, batch: int) -> Needs:
    """What runs in the new process: lengths from the shortest to the longest rows, so that every graph is captured."""
    with tempfile.TemporaryDirectory(prefix="hpo-gpu-") as folder:
        samples = Samples(replace(objective, adaptation=None), params, Path(folder))
        samples.trial(batch, STEPS[1], ROWS[1])
    return Needs(*footprint.gpu_bytes())
