"""Other studies: their ledgers, which are read and not written, and what of them is evidence for this one."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hpo.errors import ServiceError
from hpo.ledger.entries import attributes_of, is_live, is_trial, part_of, record_of
from hpo.ledger.generations import entry, latest_of
from hpo.mlflow_client import without_password
from hpo.objectives import Mode
from hpo.records import Seeds, TrialRecord, TrialState
from hpo.space import SearchSpace

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True, slots=True)
class PastStudy:
    """mode: of its leading metric. records: its finished trials, by number."""

    name: str
    mode: Mode
    records: tuple[TrialRecord, ...]


def read_studies(place: Path | str) -> list[PastStudy]:
    """Every study in a ledger: a file, or a URL as SQLAlchemy sees it. ServiceError where it can't be read."""
    import optuna
    import sqlalchemy

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    url = f"sqlite:///{place}" if isinstance(place, Path) else place
    try:
        storage = optuna.storages.RDBStorage(url, skip_table_creation=True)
        found = latest_of(storage)
        return [_past(name, study, storage) for name, study in sorted(found.items())]
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
            f"search.warm_start: {without_password(str(place))} can't be read as a ledger ({without_password(said)})"
        ) from None


def new_evidence(
    source: str,
    records: Iterable[tuple[TrialRecord, Sequence[float] | None]],
    trials: "Sequence[optuna.trial.FrozenTrial]",
    space: SearchSpace,
) -> "tuple[list[optuna.trial.FrozenTrial], int]":
    """Finished trials of a source, each with its values, as entries that only samplers see; and how many there are of
    it in all. Left out: what `trials` have brought in before, or have as trials or queued points of their own."""
    import optuna

    states = optuna.trial.TrialState
    known = [attributes_of(trial)["params"] for trial in trials if is_live(trial)]
    there = {attributes_of(trial).get("imported") for trial in trials}
    found, count = [], 0
    for record, values in records:
        key = f"{source}#{record.number}"
        if record.params in known or (record.state is TrialState.COMPLETE and values is None):
            continue
        count += 1
        if key in there:
            continue
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
                intermediate_values={} if several else {part_of(at): value for at, value in record.curve.items()},
            )
        )
    return found, count


def _past(name: str, study: str, storage: "optuna.storages.BaseStorage") -> PastStudy:
    import optuna

    loaded = optuna.load_study(study_name=study, storage=storage)
    records = [
        record_of(trial, Seeds(init=0, order=0), Path())
        for trial in loaded.get_trials(deepcopy=False)
        if trial.state.is_finished() and is_trial(trial)
    ]
    mode: Mode = "max" if loaded.directions[0] is optuna.study.StudyDirection.MAXIMIZE else "min"
    return PastStudy(name, mode, tuple(record for record in records if not record.dropped))
