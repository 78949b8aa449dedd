"""Which part of a GPU a trial gets, where the space file leaves that open (`resources.gpus: auto`).

Measured, not reckoned: a few real steps at the space's largest batch, in a process of its own. Must not start trials.
"""

import math
import multiprocessing
import signal
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

from hpo.config import StudyConfig
from hpo.encoded import Encoded
from hpo.errors import OutOfMemoryError, ServiceError, TrialError
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


def settle(
    config: StudyConfig,
    prepared: Prepared,
    say: Callable[[str], None],
    address: str | None = None,
    *,
    measured: bool = True,
) -> Settled:
    """say: for a line on the screen. address: of a cluster, on whose GPUs a trial gets one to itself. measured: False
    takes one trial to a GPU without a measurement.

    Raises ServiceError where a cluster does not answer, or a GPU is there and can't be used.
    """
    own = config.resources
    if own.gpus is not None:
        gpus = own.gpus
    elif address is not None:
        gpus = _on_cluster(config, say, address)
    else:
        gpus = _here(config, prepared, say, measured=measured)
    return Settled(own.cpus, gpus, own.max_concurrent_trials, own.silent_minutes)


def _on_cluster(config: StudyConfig, say: Callable[[str], None], address: str) -> float:
    """Nodes may still join; so what was found is said, with what to write where it is not what is meant."""
    if cluster_gpus(address, config.resources.cpus):
        say("gpus      the cluster has some: each trial gets one to itself (resources.gpus: 0 for its CPUs)")
        return 1.0
    say("gpus      the cluster has none yet: trials train on its CPUs (resources.gpus: 1 waits for them)")
    return 0.0


def _here(config: StudyConfig, prepared: Prepared, say: Callable[[str], None], *, measured: bool) -> float:
    if not (devices := footprint.gpu_count()):
        return 0.0
    on = "the GPU" if devices == 1 else f"each of {devices} GPUs"
    if config.stages is not None or not measured:  # a stage's heads are as wide as the vocabulary
        say(f"gpus      1 trial at a time on {on}: how many more fit was not measured")
        return 1.0
    needs = _measured(config, prepared)
    count = beside_each_other(needs)
    say(f"gpus      {count} trial{'s' if count > 1 else ''} at a time on {on}: {why(needs)}")
    return 1.0 / count


@dataclass(frozen=True, slots=True)
class Needs:
    """Bytes of a GPU: what one trial takes, and what nobody else had taken."""

    trial: int
    free: int


Obstacle: TypeAlias = TrialError | BrokenProcessPool
"""Why nothing was measured."""


def beside_each_other(needs: Needs | Obstacle) -> int:
    """Trials to a GPU. Where not even one fits as it is, it will train on smaller micro-batches."""
    return max(1, min(MOST, math.floor(HEADROOM * needs.free / needs.trial))) if isinstance(needs, Needs) else 1


def why(needs: Needs | Obstacle) -> str:
    """What so many trials to a GPU follow from, in words."""
    if isinstance(needs, Needs):
        return f"one takes {needs.trial / 2**30:.1f} GiB"
    if isinstance(needs, OutOfMemoryError):
        return "a trial at the largest batch does not fit as it is, and takes fewer rows at a time"
    if isinstance(needs, BrokenProcessPool):
        return "the process that tried one at the largest batch was killed, most often for lack of memory"
    return f"how many more fit could not be measured ({(str(needs).strip() or type(needs).__name__).splitlines()[0]})"


def _measured(config: StudyConfig, prepared: Prepared) -> Needs | Obstacle:
    """The most of all models. An obstacle where memory does not suffice for one trial, which smaller micro-batches
    answer, or where no model could be trained at all, which the trials will say themselves."""
    objective = replace(prepared.objective(config, config.folder / "checkpoints", gpus=1.0), trying=True)
    train = len(Encoded.load(prepared.encoded.train))
    default = config.default_point()
    batch = max(TrialLength.of(params, train).batch for params in extremes(config.space, default, train))
    spawn = multiprocessing.get_context("spawn")
    found: list[Needs] = []
    failed: list[TrialError] = []
    alone = partial(signal.signal, signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's to answer
    with (
        environment(WORKER),
        ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1, initializer=alone) as pool,
    ):
        for name in config.models:
            searched = {"model": name} if "model" in config.space.parameters else {}
            params = of_the_task(config.space.project({**default, **searched}))
            try:
                found.append(pool.submit(_needs, objective.of(params), params, batch).result())
            except (OutOfMemoryError, BrokenProcessPool) as error:
                return error
            except TrialError as error:
                failed.append(error)
            except RuntimeError as error:
                said = str(error).strip().splitlines()[0]
                raise ServiceError(
                    f"resources.gpus: the GPU can't be used ({said}); mend its driver, or set it to 0 for the CPU"
                ) from error
    return max(found, key=lambda own: own.trial) if found else failed[0]


def _needs(objective: TrialObjective, params: Params, batch: int) -> Needs:
    """What runs in the new process: lengths from the shortest to the longest rows, so that every graph is captured."""
    with tempfile.TemporaryDirectory(prefix="hpo-gpu-") as folder:
        samples = Samples(replace(objective, adaptation=None), params, Path(folder))
        samples.trial(batch, STEPS[1], ROWS[1])
    return Needs(*footprint.gpu_bytes())
