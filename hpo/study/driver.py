"""The driver of a study: the wiring of ledger, sampler, scheduler, runner and trackers, from start to exit code.

A crash, a stop, an extension: all are continued by the same act, opening the ledger and going on until the budget is
used. Must not train, sample, judge or log itself.
"""

import signal
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from hpo.config import StudyConfig
from hpo.errors import NoTrialFinishedError
from hpo.ledger import Ledger
from hpo.records import (
    AnyEvent,
    StudyFinished,
    StudyStarted,
    StudyStopped,
    StudySummary,
    TrialFinished,
    TrialRecord,
    TrialStarted,
)
from hpo.report.board import Budget
from hpo.report.screen import Screen, open_screen
from hpo.runners.ray import RayRunner
from hpo.space import Fixed
from hpo.study import folder as study_folder
from hpo.study.finish import Finish, Outcome
from hpo.study.prepare import Prepared, prepare
from hpo.study.search import BASELINE, StudySearch, finished_event, ranked, remove_strangers
from hpo.tracking.mlflow import MlflowTracker
from hpo.tracking.spool import Spool

FLUSH_SECONDS = 120.0
"""How long the end of a study waits for the tracker; what is left then goes out with the next run."""


def run(config: StudyConfig, *, resume: bool = False, address: str | None = None) -> int:
    """Run a study, or go on with it; returns the exit code (0, or 128 + the signal that stopped it).

    Raises HpoError for all that a user can do something about.
    """
    started = time.monotonic()
    folder = config.folder
    study_folder.claim(folder, resume=resume)
    with ExitStack() as stack:
        stack.enter_context(study_folder.driver_lock(folder))
        study_folder.check_unchanged(folder, config)
        ledger = Ledger(
            folder,
            study=config.study,
            mode=config.mode,
            space=config.space,
            sampler=config.search.sampler,
            seed=config.seed,
        )
        rungs = config.search.scheduler.fractions()
        seconds = config.budget.hours * 3600 if config.budget.hours is not None else None
        screen = stack.enter_context(
            open_screen(
                budget=Budget(config.budget.trials, seconds, config.budget.epochs),
                varying=tuple(config.space.varying),
                rungs=rungs,
                known=[record for record in ledger.records() if record.state.is_finished],
            )
        )
        prepared = prepare(config, screen)
        study_folder.check_facts(folder, prepared.facts)
        study_folder.save(folder, config, prepared.facts)
        ledger.enqueue(config.first_points())
        spool = Spool(folder, lambda: MlflowTracker(config.tracking, folder))
        stack.callback(spool.close, FLUSH_SECONDS)

        def emit(event: AnyEvent) -> None:
            spool.append(event)
            screen.apply(event)

        search = StudySearch(
            ledger=ledger,
            scheduler=config.search.scheduler.build(),
            metric=config.metric,
            mode=config.mode,
            rungs=rungs,
            emit=emit,
            trials=config.budget.trials,
            seconds=seconds,
            epochs=config.budget.epochs,
            keep=config.checkpoints.keep,
            keep_bytes=config.checkpoints.max_bytes,
        )
        checkpoints = folder / "checkpoints"
        remove_strangers(checkpoints, search.records)
        _catch_up(spool, search.records)
        emit(_started(config, prepared))
        stack.enter_context(study_folder.on_signal(lambda number: _stop(search, screen, number)))
        if not search.exhausted:
            RayRunner(
                prepared.objective(config, checkpoints),
                cpus=config.resources.cpus,
                gpus=config.resources.gpus,
                address=address,
            ).run(search)
        if search.stopped_by is not None:
            emit(StudyStopped(time=time.time(), reason=signal.Signals(search.stopped_by).name))
            screen.say(f"stopped; go on with --resume ({folder})")
            return 128 + search.stopped_by
        summary = _conclude(config, prepared, search, spool, screen, started)
        screen.close()
        print(summary, flush=True)
    return 0
