"""The driver of a study: the wiring of ledger, sampler, scheduler, runner and trackers, from start to exit code.

A crash, a stop, an extension: all are continued by the same act, opening the ledger and going on until the budget is
used. Must not train, sample, judge or log itself.
"""

import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress

from hpo import crash
from hpo.config import StudyConfig
from hpo.errors import NoTrialFinishedError, ServiceError
from hpo.ledger import CHECKPOINTS, Ledger
from hpo.ledger.past import read_study
from hpo.ledger.seeds import SeedLedger
from hpo.objectives import pareto
from hpo.records import AnyEvent, StudyStarted, StudyStopped, StudySummary, TrialRecord
from hpo.report import words
from hpo.report.board import Budget
from hpo.report.findings import Background
from hpo.report.pages import write_failures, write_report
from hpo.report.screen import Screen, open_screen
from hpo.report.summary import programs, summary_text
from hpo.runners import MakesRunner
from hpo.runners.ray import on_ray
from hpo.study import adapted, history
from hpo.study import folder as study_folder
from hpo.study.confirm import Confirmation, leaders
from hpo.study.devices import settle
from hpo.study.finish import Finish, finished
from hpo.study.lease import driver_lock
from hpo.study.phases import SearchThenConfirm
from hpo.study.prepare import Prepared, prepare
from hpo.study.room import Room, WaitingForRoom
from hpo.study.search import StudySearch
from hpo.study.steps import Ladder
from hpo.study.told import catch_up
from hpo.study.trials import baseline_of, has_weights, ranked, remove_strangers, with_weights
from hpo.tracking.link import read_link
from hpo.tracking.mlflow import MlflowTracker
from hpo.tracking.spool import Spool
from hpo.tracking.tensorboard import board
from hpo.training.bookmarks import FOLDER as RUNNING
from hpo.training.bookmarks import Bookmarks
from hpo.training.footprint import checkpoint_bytes

FLUSH_SECONDS = 120.0
"""How long the end of a study waits for the tracker; what is left then goes out with the next run."""

LEAVE_SECONDS = 10.0
"""The same for a driver that has to stop."""


def run(config: StudyConfig, *, resume: bool = False, address: str | None = None, runner: MakesRunner = on_ray) -> int:
    """Run a study, or go on with it; returns the exit code (0, or 128 + the signal that stopped it).

    runner: where its trials run.

    Raises HpoError for all that a user can do something about.
    """
    started = time.monotonic()
    folder = config.folder
    study_folder.claim(folder, resume=resume)
    with ExitStack() as stack:
        deadline = stack.enter_context(study_folder.Deadline())
        stack.enter_context(study_folder.disk_errors(folder))
        stack.enter_context(driver_lock(folder))
        stack.enter_context(study_folder.on_signal(study_folder.leave, deadline))
        study_folder.remove_temporaries(folder, folder / study_folder.ADAPTED)
        study_folder.check_unchanged(folder, config)
        before = read_study(folder, config.study, config.mode, config.ledger)
        study_folder.check_is_its_own(folder, config, before)
        defaults = history.trained_without(config)
        ladder = Ladder.of(config.search.scheduler, config.space)
        seconds = config.budget.hours * 3600 if config.budget.hours is not None else None
        seeds = config.confirm.seeds if config.confirm else None
        screen = stack.enter_context(
            open_screen(
                budget=Budget(config.budget.trials, seconds, config.budget.epochs, seeds),
                varying=tuple(config.space.varying),
                rungs=ladder.fractions,
                known=[*before.within(config.space, defaults), *(before.runs if config.confirm else ())],
            )
        )
        past = history.find(config, before.taken_over)
        prepared = prepare(config, screen)
        study_folder.check_facts(folder, prepared.facts)
        study_folder.save(folder, config, prepared.facts)
        ledger = Ledger(  # nothing refuses the run any more: where the space changed, this changes the study
            folder,
            study=config.study,
            mode=config.mode,
            space=config.space,
            sampler=config.search.sampler,
            seed=config.seed,
            others={name: mode for name, mode in config.objectives.items() if name != config.metric},
            defaults=defaults,
            url=config.ledger,
            amount=ladder.amount,
        )
        fresh = None
        if config.confirm:
            fresh = SeedLedger(folder, study=config.study, mode=config.mode, seed=config.seed, url=config.ledger)
        again = list(fresh.finished().values()) if fresh else []
        ledger.enqueue(config.first_points())
        empty = history.take_over(past, ledger, config, prepared.facts)
        if config.confirm is None:  # its winner's weights would be of a fresh seed
            history.train_again(ledger, config.mode, config.limits)
        taken_over = (*config.left_out_points(), *ledger.history, *empty)
        for line in taken_over:
            screen.say(line)
        spool = Spool(folder, lambda: MlflowTracker(config.tracking, folder))
        stack.callback(spool.close, LEAVE_SECONDS)

        def emit(event: AnyEvent) -> None:
            spool.append(event)
            screen.apply(event)
            curves.apply(event)

        tags = {f"hpo.{name}": value for name, value in prepared.facts.items()}
        crash.at("resume")
        bookmarks = Bookmarks(folder / RUNNING)
        told = catch_up(spool, [*ledger.records(), *again], tags)
        curves = stack.enter_context(board(config.tracking, folder, spool.events()))
        search = StudySearch(
            ledger=ledger,
            scheduler=config.search.scheduler.build(config.space, config.seed),
            metric=config.metric,
            mode=config.mode,
            ladder=ladder,
            emit=emit,
            trials=config.budget.trials,
            seconds=seconds,
            epochs=config.budget.epochs,
            target=config.budget.target,
            limits=config.limits,
            keep=config.checkpoints.keep,
            keep_bytes=config.checkpoints.max_bytes,
            told=told.steps,
            tags=tags,
            forget=bookmarks.remove,
        )
        stack.callback(_spend, search)
        checkpoints = folder / CHECKPOINTS
        remove_strangers(checkpoints, [*search.records, *again])
        bookmarks.keep(own.name for own in [*search.unfinished, *(fresh.unfinished() if fresh else ())])
        beginning = _started(config, prepared, tags)
        emit(beginning)
        stack.push(lambda kind, error, trace: _broken_off(emit, screen, error))

        def confirm() -> Confirmation | None:
            complete = ranked(search.records, config.mode, search.limits)
            if config.confirm is None or fresh is None or not complete:
                return None
            default = baseline_of(search.records)
            baseline = default.number if default else None
            confirmation = Confirmation(
                ledger=fresh,
                trials=leaders(complete, config.confirm.top, baseline, search.limits),
                seeds=config.confirm.seeds,
                confidence=config.confirm.confidence,
                metric=config.metric,
                mode=config.mode,
                ladder=ladder,
                emit=emit,
                baseline=baseline,
                keep_bytes=config.checkpoints.max_bytes,
                searched=complete,
                told=told.steps_of_runs,
                said=told.confirmed,
                tags=tags,
                limits=search.limits,
                fitting=search.retries.found,
                forget=bookmarks.remove,
            )
            if not confirmation.exhausted:
                named = _named(confirmation.trials, baseline, config.confirm.seeds)
                screen.say(f"the search is over; confirming {named}")
            return confirmation

        study = SearchThenConfirm(search, confirm)
        study.open()
        was_over = study.exhausted
        if not was_over:
            needed = max(checkpoint_bytes(own, config.task.head) for own in prepared.folders)
            room = Room(folder, needed, screen.say)
            with study_folder.on_signal(lambda number: _stop(study, screen, number), deadline), room.watched():
                resources = settle(config, prepared, screen.say, address)
                objective = prepared.objective(config, checkpoints, bookmarks.folder, gpus=resources.gpus)
                trials = runner(objective, resources, address)
                if room.wait_for_checkpoint(lambda: study.stopping):
                    trials.run(WaitingForRoom(study, room))
        if study.stopped_by is not None:
            _stopped(emit, screen, signal.Signals(study.stopped_by).name)
            return 128 + study.stopped_by
        if study.trouble is not None:
            raise ServiceError(study.trouble)
        bookmarks.keep(())
        study_folder.remove_temporaries(checkpoints, folder / study_folder.ADAPTED)  # of killed processes
        screen.say(f"the {'confirmation' if study.confirmation else 'search'} is over; judging the winner")
        began = (time.monotonic() if was_over else started) - told.seconds
        summary = _conclude(config, prepared, search.records, study.confirmation, spool, began, taken_over, screen.say)
        screen.say("          writing the report")
        background = Background.of(beginning, config.space.varying, ladder.fractions, ladder.level)
        files = write_report(folder, summary, search.records, background)
        emit(finished(summary, files))
        crash.at("finish")
        adapted.prune(config, search.records)
        in_trouble = spool.trouble is not None  # then it was waited for before the winner was judged
        if not spool.close(LEAVE_SECONDS if in_trouble else FLUSH_SECONDS):
            screen.say(f"MLflow has not taken everything yet ({spool.trouble}); it will with the next --resume")
        screen.close()
        print(f"\n{summary_text(summary, programs())}", flush=True)
    return 0


def _broken_off(emit: Callable[[AnyEvent], None], screen: Screen, error: BaseException | None) -> None:
    """No run is left as if it went on when the driver ends by an error."""
    if error is None:
        return
    said = f"{type(error).__name__}: {error}"
    if isinstance(error, SystemExit):  # of `leave`
        said = signal.Signals(int(str(error.code)) - 128).name
    _stopped(emit, screen, said)


def _stopped(emit: Callable[[AnyEvent], None], screen: Screen, reason: str) -> None:
    event = StudyStopped(time=time.time(), reason=reason)
    try:
        emit(event)
    except ServiceError:  # a full disk takes no last word, and the ledger needs none
        screen.apply(event)


def _spend(search: StudySearch) -> None:
    with suppress(ServiceError):  # a full disk: a few seconds of wall time are forgotten
        search.spend()


def _stop(study: SearchThenConfirm, screen: Screen, number: int) -> None:
    study.stopped_by = number
    screen.say("stopping: running trials are left where they are; once more to leave at once")


def _named(trials: Sequence[TrialRecord], baseline: int | None, seeds: int) -> str:
    """`trials 3, 7 and 0 (the default) over 3 fresh seeds`"""
    names = [f"{trial.number}{' (the default)' if trial.number == baseline else ''}" for trial in trials]
    listed = " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
    return f"{'trials' if len(names) > 1 else 'trial'} {listed} over {words.count(seeds, 'fresh seed')}"


def _started(config: StudyConfig, prepared: Prepared, tags: Mapping[str, str]) -> StudyStarted:
    return StudyStarted(
        time=time.time(),
        study=config.study,
        metric=config.metric,
        mode=config.mode,
        document=config.document(),
        params={
            "model": ", ".join(config.models),
            "task": config.task.type,
            "sampler": config.search.sampler.type,
            "scheduler": config.search.scheduler.type,
            "seed": config.seed,
        },
        tags={
            "hpo.searched": ", ".join(config.space.varying),
            "hpo.model": ", ".join(own.pretrained.source for own in prepared.starts.values()),
            **tags,
        },
        datasets=prepared.splits.records,
    )


def _conclude(
    config: StudyConfig,
    prepared: Prepared,
    records: Sequence[TrialRecord],
    confirmation: Confirmation | None,
    spool: Spool,
    began: float,
    taken_over: tuple[str, ...],
    say: Callable[[str], None],
) -> StudySummary:
    """The winner, judged on the test split. Raises NoTrialFinishedError, and what judging raises."""
    complete = ranked(records, config.mode, config.limits)
    if not complete:
        page = write_failures(config.folder, config.study, records)
        last = next((f" (the last: {words.brief(own.reason)})" for own in reversed(records) if own.reason), "")
        raise NoTrialFinishedError(
            f"no trial of {config.study} finished, so there is no winner{last}; {page} has every failure: change what "
            "they share in the space, or give it a larger budget, then go on with --resume"
        )
    baseline = baseline_of(records)
    confirmed = confirmation.standing if confirmation else ()
    if confirmation and confirmed:  # named by its mean; its weights are those of its best fresh run
        best, note = next(record for record in complete if record.number == confirmed[0].number), None
        judged = confirmation.promoted(best.number) or best
        against = (confirmation.promoted(baseline.number) if baseline else None) or baseline
    else:
        best, note = with_weights(complete)
        judged, against = best, baseline
    if not spool.flush(FLUSH_SECONDS) and config.promotion is not None:
        raise ServiceError(
            f"tracking.uri: MLflow does not answer ({spool.trouble}), so nothing can be promoted; "
            "all trials are safe in the ledger: start it and go on with --resume"
        )
    link = read_link(config.folder)
    run_id = link.parent_run_id if link else None
    outcome = Finish(config, prepared, config.folder, run_id, say).judge(
        judged, against, confirmed[0] if confirmed else None
    )
    rows = {record.split: record.rows for record in prepared.splits.records}
    return StudySummary(
        study=config.study,
        metric=config.metric,
        mode=config.mode,
        best=best,
        replicate=judged.replicate,
        checkpoint=judged.checkpoint if has_weights(judged) else None,
        baseline=baseline,
        test_best=outcome.test_best,
        test_baseline=outcome.test_baseline,
        test_untrained=outcome.test_untrained,
        test_gain=outcome.test_gain,
        test_opened=outcome.openings,
        moved=config.moved_default(),
        breakdown=outcome.breakdown,
        review=outcome.review,
        counts=Counter(record.state for record in records),
        decision=outcome.decision.verdict if outcome.decision else None,
        reasons=outcome.decision.reasons if outcome.decision else (),
        model_uri=outcome.model_uri,
        tracking_uri=config.tracking.uri,
        experiment=config.tracking.experiment or config.study,
        experiment_id=link.experiment_id if link else None,
        parent_run_id=run_id,
        seconds=time.monotonic() - began,
        test_rows=rows.get("test", 0),
        validation_rows=rows["validation"],
        objectives=config.objectives,
        pareto=pareto(records, config.objectives),
        confirmed=confirmed,
        history=(*taken_over, *([note] if note else [])),
    )
