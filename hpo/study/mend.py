"""Mends what a crash or an outage left behind, by the same acts as a driver that goes on: told, replayed, removed.

Only of a study that no driver holds. Must not train, and must not touch what a trial has earned.
"""

import shutil
from collections.abc import Set as AbstractSet

from hpo.invariants import Facts, Mend
from hpo.invariants.mirror import doubled
from hpo.ledger import Ledger
from hpo.ledger.seeds import SeedLedger
from hpo.mlflow_client import kept_store, without_password
from hpo.records import StudyStopped, TrialRecord
from hpo.registry import Registry
from hpo.study import history
from hpo.study.examine import Study, superfluous
from hpo.study.folder import ADAPTED, remove_temporaries
from hpo.study.population import FOLDER as POPULATION
from hpo.study.told import catch_up
from hpo.study.trials import remove_strangers
from hpo.tracking.link import read_link
from hpo.tracking.mlflow import MlflowTracker
from hpo.tracking.reading import remove_runs
from hpo.tracking.spool import CURSOR, Spool
from hpo.training.bookmarks import FOLDER as RUNNING
from hpo.training.bookmarks import Bookmarks

FLUSH_SECONDS = 120.0

SAID = "its driver was cut off; hpo.verify said so for it"


def mend(study: Study, facts: Facts, asked: AbstractSet[Mend], saved: dict[str, str], now: float) -> str | None:
    """Do what was asked for. saved: what the study was prepared from. now: the time that is told.

    Returns what was not done, in words; None where all was. Raises ServiceError where the ledger, the
    disk or the registry refuse.
    """
    if facts.ledger_wrong:
        return "nothing is mended while the ledger can't be read: it alone knows what is of use"
    if Mend.DISK in asked:
        tidy(study, facts)
    if (store := _store_of_another(study, facts)) is not None:
        what = "shows no run of this study" if facts.mirror else "does not answer"
        return (
            f"MLflow is not mended: {without_password(study.config.tracking.uri)} {what}, and "
            f"{store} was told of it; name that one by --tracking-uri, or move for good by --resume under this one"
        )
    trouble = None
    if asked & {Mend.EVENTS, Mend.MIRROR, Mend.DOUBLES}:
        if Mend.DOUBLES in asked and facts.mirror is not None:
            remove_runs(study.config.tracking.uri, [own.run_id for own in doubled(facts.mirror)])
        trouble = tell(study, facts, saved, now, replay=bool(asked & {Mend.MIRROR, Mend.DOUBLES}))
    if Mend.ALIAS in asked and study.config.promotion is not None:
        Registry(study.config.tracking.uri).standing(study.config.promotion.model)
    return trouble


def _store_of_another(study: Study, facts: Facts) -> str | None:
    """Where the study was told to, if MLflow is looked for elsewhere and has never heard of it there."""
    link = read_link(study.folder)
    is_known = facts.mirror is not None and any(own.kind == "study" for own in facts.mirror.runs)
    if is_known or link is None or link.parent_run_id is None or link.uri == kept_store(study.config.tracking.uri):
        return None
    return link.uri or "another store"


def tidy(study: Study, facts: Facts) -> None:
    """Remove what nobody points to, what is more than was asked for, and half-written files."""
    for folder in superfluous(study, facts.best_first, facts.runs):
        shutil.rmtree(folder)
    remove_temporaries(study.folder, study.checkpoints, study.folder / POPULATION, study.folder / ADAPTED)
    remove_strangers(study.checkpoints, [*facts.trials, *facts.runs])
    Bookmarks(study.folder / RUNNING).keep(facts.unfinished)


def tell(study: Study, facts: Facts, saved: dict[str, str], now: float, *, replay: bool) -> str | None:
    """What the ledger has and the events have not; then, from the start where it was asked for, MLflow."""
    config = study.config
    ledger = Ledger(
        study.folder,
        study=config.study,
        mode=config.mode,
        space=config.space,
        sampler=config.search.sampler,
        seed=config.seed,
        others={name: mode for name, mode in config.objectives.items() if name != config.metric},
        defaults=history.trained_without(config),
        url=config.ledger,
    )
    again: list[TrialRecord] = []
    if config.confirm is not None:
        fresh = SeedLedger(study.folder, study=config.study, mode=config.mode, seed=config.seed, url=config.ledger)
        again = list(fresh.finished().values())
    if replay:
        (study.folder / CURSOR).unlink(missing_ok=True)
    spool = Spool(study.folder, lambda: MlflowTracker(config.tracking, study.folder))
    try:
        catch_up(spool, [*ledger.records(), *again], {f"hpo.{name}": value for name, value in saved.items()})
        if facts.is_cut_off:
            spool.append(StudyStopped(time=now, reason=SAID))
    finally:
        is_told = spool.close(FLUSH_SECONDS)
    return None if is_told else f"MLflow has not taken everything ({spool.trouble})"
