"""The arms of the overhead benchmark, each run in a process of its own: our whole stack, and plain Ray Tune.

Every arm runs the same toy trials over the same space with TPE on the same kind of local Ray, and notes in `clock`
when each trial began and ended. Must not know how arms are repeated or compared.
"""

import json
import logging
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpo.ledger import Ledger
from hpo.records import AnyEvent, DatasetRecord, Objective, Report, Seeds, StudyFinished, StudyStarted, TrialConfig
from hpo.runners.toy import ToyObjective
from hpo.samplers import TpeConfig
from hpo.space import Choice, FloatRange, SearchSpace

REPORTS = 3
SECONDS = 0.01
RATE, DROPOUT, BATCHES = (1e-5, 1e-1), (0.0, 0.5), (16, 32)
SPACE = SearchSpace(
    {
        "learning_rate": FloatRange(*RATE, log=True),
        "hidden_dropout_prob": FloatRange(*DROPOUT),
        "per_device_train_batch_size": Choice(BATCHES),
    }
)


@dataclass(frozen=True)
class Clocked:
    """The toy, with a line a trial's begin and end in `file`: written where the trial runs, the same in every arm."""

    file: Path
    toy: ToyObjective = field(default_factory=lambda: ToyObjective(REPORTS, SECONDS))

    def __call__(self, config: TrialConfig) -> Iterator[Report]:
        self._note()
        for report in self.toy(config):
            if report.done:
                self._note()
            yield report

    def _note(self) -> None:
        with open(self.file, "a", encoding="ascii") as stream:
            stream.write(f"{time.time()!r}\n")


def ours(folder: Path, trials: int, slots: int) -> dict[str, float]:
    """Ledger on SQLite, TPE, FIFO, the search, a spool that feeds MLflow on SQLite, and the Ray runner."""
    return mirrored(folder, trials, lambda emit: search(toy_ledger(folder), folder / "clock", trials, slots, emit))


def mirrored(
    folder: Path, trials: int, run: Callable[[Callable[[AnyEvent], None]], None], seconds: float = 600
) -> dict[str, float]:
    """`run` with a way to tell MLflow; how long that took to have everything after the end, `seconds` at most."""
    from hpo.tracking import TrackingConfig
    from hpo.tracking.mlflow import MlflowTracker
    from hpo.tracking.spool import Spool

    mirror = TrackingConfig(uri=f"sqlite:///{folder / 'mlflow.db'}")
    spool = Spool(folder, lambda: MlflowTracker(mirror, folder))
    spool.append(_study_started())
    run(spool.append)
    spool.append(StudyFinished(time=time.time(), metrics={"trials": float(trials)}, tags={}))
    ended = time.monotonic()
    if not spool.close(seconds):
        raise RuntimeError(f"MLflow has not taken everything: {spool.trouble}")
    return {"mirror_seconds": time.monotonic() - ended}


def unmirrored(folder: Path, trials: int, slots: int) -> dict[str, float]:
    """The same without the mirror: what is left is the ledger's and the search's."""
    search(toy_ledger(folder), folder / "clock", trials, slots, lambda event: None)
    return {}


def toy_ledger(folder: Path, kind: type[Ledger] = Ledger) -> Ledger:
    return kind(folder, study="toy", mode="max", space=SPACE, sampler=TpeConfig(), seed=17)


def search(
    ledger: Ledger,
    clock: Path,
    trials: int,
    slots: int,
    emit: Callable[[AnyEvent], None],
    toy: ToyObjective | None = None,
) -> None:
    from hpo.runners.ray import RayRunner
    from hpo.schedulers import FifoConfig
    from hpo.study.search import StudySearch
    from hpo.study.steps import Ladder

    scheduler = FifoConfig()
    toys = StudySearch(
        ledger=ledger,
        scheduler=scheduler.build(SPACE, 17),
        metric="accuracy",
        mode="max",
        ladder=Ladder(scheduler.fractions()),
        emit=emit,
        trials=trials,
    )
    objective: Objective = Clocked(clock, toy or ToyObjective(REPORTS, SECONDS))
    RayRunner(objective, at_most=slots).run(toys)


def plain(folder: Path, trials: int, slots: int) -> dict[str, float]:
    """`tune.Tuner` with OptunaSearch over a function, everything else left at its default."""
    return _tune(folder, trials, {}, {})


def reuse(folder: Path, trials: int, slots: int) -> dict[str, float]:
    """The same with `reuse_actors` and as many trials at a time as there are slots."""
    return _tune(folder, trials, {"reuse_actors": True}, {"max_concurrent_trials": slots})


ARMS = {"ours": ours, "unmirrored": unmirrored, "plain": plain, "reuse": reuse}


def _tune(folder: Path, trials: int, reusing: dict[str, Any], limit: dict[str, Any]) -> dict[str, float]:
    import ray
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        objective = Clocked(folder / "clock")

        def train(config: dict[str, Any]) -> None:
            for report in objective(TrialConfig(number=0, params=config, seeds=Seeds(init=0, order=0))):
                tune.report(dict(report.metrics))

        tuner = tune.Tuner(
            train,
            param_space={
                "learning_rate": tune.loguniform(*RATE),
                "hidden_dropout_prob": tune.uniform(*DROPOUT),
                "per_device_train_batch_size": tune.choice(list(BATCHES)),
            },
            tune_config=tune.TuneConfig(
                search_alg=OptunaSearch(seed=17), metric="accuracy", mode="max", num_samples=trials, **reusing, **limit
            ),
            run_config=tune.RunConfig(name="study", storage_path=str(folder), verbose=0),
        )
        tuner.fit()
    finally:
        ray.shutdown()
    return {}


def _study_started() -> StudyStarted:
    rows = DatasetRecord(
        name="toy", split="train", rows=1, digest="0" * 64, source="nowhere", columns={"text": "string"}
    )
    return StudyStarted(
        time=time.time(),
        study="toy",
        metric="accuracy",
        mode="max",
        document="study: toy\n",
        params={"sampler": "tpe", "scheduler": "fifo"},
        tags={"hpo.searched": "learning_rate, hidden_dropout_prob, per_device_train_batch_size"},
        datasets=(rows,),
    )


def guard_ray() -> None:
    """Before it is imported: with a token, and without statistics."""
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


def main(arguments: list[str]) -> int:
    """ARM TRIALS SLOTS FOLDER: run one arm and leave `result.json` in the folder, which exists and is empty."""
    name, trials, slots, folder = arguments[0], int(arguments[1]), int(arguments[2]), Path(arguments[3])
    guard_ray()
    extra = ARMS[name](folder, trials, slots)
    times = [float(line) for line in (folder / "clock").read_text("ascii").split()]
    if len(times) != 2 * trials:
        raise RuntimeError(f"{len(times) // 2} of {trials} trials ran")
    (folder / "result.json").write_text(json.dumps({"span_seconds": max(times) - min(times), **extra}))
    return 0


if __name__ == "__main__":
    from benchmarks.arms import main as run  # workers look for classes in a module, not in __main__

    sys.exit(run(sys.argv[1:]))
