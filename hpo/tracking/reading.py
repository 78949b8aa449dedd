"""What MLflow shows of a study, read back to be compared with what it was told. A study itself never reads it.

Must not judge: it returns the runs as they are.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Literal, TypeAlias

from hpo.errors import ServiceError
from hpo.mlflow_client import open_client, sqlite_file, translated
from hpo.records.mirrored import Mirrored, MirroredRun
from hpo.tracking.entities import key, number_of, params_of, replicate_of, search, seed_runs, study_runs, trial_runs
from hpo.tracking.link import Link

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

Kind: TypeAlias = Literal["study", "trial", "seed"]

HISTORIES = 4_000
"""So many are read of every metric, one request each; of a larger study those of the searched metric."""

_THREADS = 8

__all__ = ["experiment_name", "key", "params_of", "read_mirror", "remove_runs"]


def read_mirror(uri: str, link: Link, metric: str) -> Mirrored:
    """The runs of the study that `link` names. ServiceError where MLflow does not answer."""
    with translated(uri):
        client = _open(uri)
        places = _experiments(client)
        parents = search(client, list(places), study_runs(link.id))
        found: list[tuple[Kind, str, Run]] = [("study", run.info.run_id, run) for run in parents]
        for _, own, _ in list(found):
            found += [("trial", own, run) for run in search(client, list(places), trial_runs(own))]
            found += [("seed", own, run) for run in search(client, list(places), seed_runs(own))]
        children = [run for kind, _, run in found if kind != "study"]
        is_whole = sum(len(run.data.metrics) for run in children) <= HISTORIES
        histories = _histories(client, children, None if is_whole else key(metric))
        home = link.experiment_id or (parents[0].info.experiment_id if parents else "")
        return Mirrored(
            experiment_id=home,
            experiment=places.get(home, ""),
            study_run=link.parent_run_id,
            runs=tuple(_mirrored(kind, own, run, histories.get(run.info.run_id, {})) for kind, own, run in found),
            is_whole=is_whole,
        )


def experiment_name(uri: str, link: Link | None) -> str | None:
    """That of the study's experiment; None where nobody knows it, or MLflow does not answer."""
    try:
        with translated(uri):
            found = _experiments(_open(uri))
    except ServiceError:
        return None
    return found.get(link.experiment_id or "") if link else None


def remove_runs(uri: str, run_ids: Sequence[str]) -> None:
    """Move runs to MLflow's bin, from where `mlflow runs restore` brings them back."""
    with translated(uri):
        client = _open(uri)
        for run_id in run_ids:
            client.delete_run(run_id)


def _open(uri: str) -> "MlflowClient":
    """Of a store that is there: opening one makes an SQLite file."""
    database = sqlite_file(uri)
    if database is not None and not database.is_file():
        raise ServiceError(f"there is no {database}")
    return open_client(uri)


def _mirrored(
    kind: Kind, study_run: str, run: "Run", histories: Mapping[str, tuple[tuple[int, float], ...]]
) -> MirroredRun:
    return MirroredRun(
        run_id=run.info.run_id,
        experiment_id=run.info.experiment_id,
        kind=kind,
        study_run=study_run,
        number=number_of(run) if kind != "study" else -1,
        replicate=replicate_of(run) if kind == "seed" else 0,
        status=run.info.status,
        state=run.data.tags.get("hpo.state"),
        params=dict(run.data.params),
        metrics=dict(run.data.metrics),
        histories=dict(histories),
    )


def _histories(
    client: "MlflowClient", runs: "Sequence[Run]", only: str | None
) -> dict[str, dict[str, tuple[tuple[int, float], ...]]]:
    asked = [(run.info.run_id, name) for run in runs for name in run.data.metrics if only is None or name == only]

    def read(place: tuple[str, str]) -> tuple[tuple[int, float], ...]:
        return tuple((own.step, own.value) for own in client.get_metric_history(*place))

    with ThreadPoolExecutor(_THREADS) as pool:
        found: dict[str, dict[str, tuple[tuple[int, float], ...]]] = {}
        for (run_id, name), rows in zip(asked, pool.map(read, asked), strict=True):
            found.setdefault(run_id, {})[name] = rows
    return found


def _experiments(client: "MlflowClient") -> dict[str, str]:
    """Names by id, of all that are not deleted."""
    found: dict[str, str] = {}
    token = None
    while True:
        page = client.search_experiments(max_results=1_000, page_token=token)
        found |= {str(own.experiment_id): str(own.name) for own in page}
        if not (token := page.token):
            return found
