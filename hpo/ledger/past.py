"""Ledgers that are read and not written, and what of other studies is evidence for this one.

A study's own is read here by whoever must not change it: a plan, and a driver that may still refuse to go on.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo.errors import ServiceError
from hpo.ledger.entries import attributes_of, has_outcome, is_live, is_trial, part_of, record_of, run_of
from hpo.ledger.fit import fit
from hpo.ledger.generations import NOTES, RUNS, SECONDS_USED, TAKEN, entry, latest_of
from hpo.ledger.storage import CHECKPOINTS, LEDGER, SERVER, is_made, is_unfinished
from hpo.mlflow_client import without_password
from hpo.objectives import Mode
from hpo.records import Seeds, TrialRecord, TrialState
from hpo.space import Params, SearchSpace

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True, slots=True)
class PastStudy:
    """mode: of its leading metric. trials: those that were finished, by number. runs: the same over fresh seeds.
    seconds_used: wall time of its drivers. taken_over: the sources that it is through with. running: trials that a
    driver is at, or was when it was cut off; running_runs: those over fresh seeds. has_changed: its space."""

    name: str
    mode: Mode
    trials: tuple[TrialRecord, ...] = ()
    runs: tuple[TrialRecord, ...] = ()
    seconds_used: float = 0.0
    taken_over: frozenset[str] = frozenset()
    running: tuple[TrialRecord, ...] = ()
    running_runs: tuple[TrialRecord, ...] = ()
    has_changed: bool = False

    @property
    def records(self) -> tuple[TrialRecord, ...]:
        """Its trials but for those that its space has no room for any more."""
        return tuple(record for record in self.trials if not record.dropped)

    def within(self, space: SearchSpace, defaults: Params) -> list[TrialRecord]:
        """Its trials as they will count once the study goes on in this space. defaults: as `fit` has them."""
        return [
            record
            if record.dropped or isinstance(fit(record.params, space, defaults), dict)
            else record.model_copy(update={"dropped": True, "value": None})
            for record in self.trials
        ]


def read_studies(place: Path | str, *, key: str) -> list[PastStudy]:
    """Every study in a ledger: a file that is there, or a URL as SQLAlchemy sees it. key: what names the place.

    ServiceError where it can't be read.
    """
    with _reading(place, key) as storage:
        return [_past(name, study, storage) for name, study in sorted(latest_of(storage).items())]


def read_study(folder: Path, name: str, mode: Mode, url: str | None = None) -> PastStudy:
    """The study `name` in its own folder, or in the database at `url`; without trials where there is none yet.
    ServiceError where it can't be read, or is gone: whoever went on then would take the checkpoints for nobody's."""
    place = folder / LEDGER
    found = _of(url, name) if url else None
    if url is None and place.is_file() and not is_unfinished(place):
        with _reading(place.resolve(), "storage") as storage:
            found = _named(name, storage) or PastStudy(name, mode)
    if found is None and (url or not place.is_file()) and any((folder / CHECKPOINTS).glob("trial-*")):
        where = f"{name} is not in the ledger {url}" if url else f"{place} is not there"
        raise ServiceError(
            f"storage: {where}, though checkpoints of its trials are; restore it from a backup, "
            "or give the study a new name"
        )
    return found or PastStudy(name, mode)


def read_named(url: str, name: str, *, key: str) -> list[PastStudy]:
    """The study of that name in a database of many; none where it is not there. ServiceError."""
    with _reading(url, key) as storage:
        found = _named(name, storage)
    return [found] if found else []


def _of(url: str, name: str) -> PastStudy | None:
    return next(iter(read_named(url, name, key="ledger")), None) if is_made(url) else None


def _named(name: str, storage: "optuna.storages.RDBStorage") -> PastStudy | None:
    latest = latest_of(storage).get(name)
    return _past(name, latest, storage) if latest else None


@contextmanager
def _reading(place: Path | str, key: str) -> "Iterator[optuna.storages.RDBStorage]":
    import optuna
    import sqlalchemy

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    url = f"sqlite:///{place}" if isinstance(place, Path) else place
    storage = None
    try:
        engine = SERVER if url.startswith("postgresql") else {}
        storage = optuna.storages.RDBStorage(url, skip_table_creation=True, engine_kwargs=engine)
        yield storage
    except (
        sqlalchemy.exc.SQLAlchemyError,
        optuna.exceptions.StorageInternalError,
        ImportError,
        OSError,
        RuntimeError,
        ValueError,
    ) as error:
        said = (str(error.__cause__ or error).splitlines() or [type(error).__name__])[0]
        raise ServiceError(
            f"{key}: {without_password(str(place))} can't be read as a ledger ({without_password(said)})"
        ) from None
    finally:
        if storage is not None:
            storage.engine.dispose()  # a server allows only so many connections


def new_evidence(
    source: str,
    records: Iterable[tuple[TrialRecord, Sequence[float] | None]],
    trials: "Sequence[optuna.trial.FrozenTrial]",
    space: SearchSpace,
    amount: Callable[[Params, float], float],
) -> "tuple[list[optuna.trial.FrozenTrial], int]":
    """Finished trials of a source, each with its values, as entries that only samplers see; and how many there are of
    it in all. Left out: what `trials` have brought in before, or have as trials or queued points of their own; and what
    took weights from others, whose params did not earn its values. amount: as the ledger has it."""
    import optuna

    states = optuna.trial.TrialState
    known = [attributes_of(trial)["params"] for trial in trials if is_live(trial)]
    there = {attributes_of(trial).get("imported") for trial in trials}
    found, count = [], 0
    for record, values in records:
        key = f"{source}#{record.number}"
        if record.params in known or record.exploits or (record.state is TrialState.COMPLETE and values is None):
            continue
        count += 1
        if key in there:
            continue
        curve = {part_of(amount(record.params, at)): value for at, value in record.curve.items()}
        several = values is not None and len(values) > 1  # Optuna keeps no intermediate values of these
        found.append(
            entry(
                space,
                record.params,
                state=states.COMPLETE if values is not None else states.PRUNED,
                values=values,
                user_attrs={"hpo": {"origin": record.origin, "params": record.params, "imported": key}},
                system_attrs={
                    "fixed_params": {name: own for name, own in record.params.items() if name in space.varying}
                },
                intermediate_values={} if several else curve,
            )
        )
    return found, count


def _past(name: str, study: str, storage: "optuna.storages.BaseStorage") -> PastStudy:
    import optuna

    loaded = optuna.load_study(study_name=study, storage=storage)
    seeds, checkpoints = Seeds(init=0, order=0), Path()  # of no use to whoever reads only
    trials = [record_of(one, seeds, checkpoints) for one in loaded.get_trials(deepcopy=False) if is_trial(one)]
    all_runs = [
        one
        for known in optuna.get_all_study_names(storage)
        if known == name + RUNS
        for one in optuna.load_study(study_name=known, storage=storage).get_trials(deepcopy=False)
        if "hpo" in one.user_attrs
    ]
    mode: Mode = "max" if loaded.directions[0] is optuna.study.StudyDirection.MAXIMIZE else "min"
    said: Mapping[str, Any] = loaded.user_attrs
    return PastStudy(
        name,
        mode,
        tuple(record for record in trials if record.state.is_finished),
        tuple(run_of(one, seeds, checkpoints) for one in all_runs if has_outcome(one)),
        float(said.get(SECONDS_USED, 0.0)),
        frozenset(said.get(TAKEN, {})),
        running=tuple(record for record in trials if record.state is TrialState.RUNNING),
        running_runs=tuple(run_of(one, seeds, checkpoints) for one in all_runs if not one.state.is_finished()),
        has_changed=bool(said.get(NOTES)),
    )
