"""What MLflow shows of a study, read back to be compared with what it was told. A study itself never reads it.

Must not judge: it returns the runs as they are.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Literal

from hpo.errors import ServiceError
from hpo.mlflow_client import open_client, sqlite_file, translated
from hpo.records.mirrored import Mirrored, MirroredRun
from hpo.tracking.entities import key, number_of, params_of, replicate_of
from hpo.tracking.link import Link

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

HISTORIES = 4_000
"""So many are read of every metric, one request each; of a larger study those of the searched metric."""

_THREADS = 8

__all__ = ["experiment_name", "key", "params_of", "read_mirror", "remove_runs"]


def read_mirror(uri: str, link: Link, metric: str) -> Mirrored:
    """The runs of the study that `link` names. ServiceError where MLflow does not answer."""
    with translated(uri):
        client = _open(uri)
        places = _experiments(client)
        parents = _search(client, list(places), f"tags.`hpo.id` = '{link.id}' and tags.`hpo.kind` = 'study'")
        found: list[tuple[Literal["study", "trial", "seed"], Run]] = [("study", run) for run in parents]
        for parent in parents:
            own = parent.info.run_id
            trials = f"tags.`mlflow.parentRunId` = '{own}' and tags.`hpo.kind` = 'trial'"
            seeds = f"tags.`hpo.study_run` = '{own}' and tags.`hpo.kind` = 'seed'"
            found += [("trial", run) for run in _search(client, list(places), trials)]
            found += [("seed", run) for run in _search(client, list(places), seeds)]
        children = [run for kind, run in found if kind != "study"]
        is_whole = sum(len(run.data.metrics) for run in children) <= HISTORIES
        histories = _histories(client, children, None if is_whole else key(metric))
        home = link.experiment_id or (parents[0].info.experiment_id if parents else "")
        return Mirrored(
            experiment_id=home,
            experiment=places.get(home, ""),
            runs=tuple(_mirrored(kind, run, histories.get(run.info.run_id, {})) for kind, run in found),
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
    kind: Literal["study", "trial", "seed"], run: "Run", histories: Mapping[str, tuple[tuple[int, float], ...]]
) -> MirroredRun:
    return MirroredRun(
        run_id=run.info.run_id,
        experiment_id=run.info.experiment_id,
        kind=kind,
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


def _search(client: "MlflowClient", places: list[str], condition: str) -> "list[Run]":
    """The oldest first."""
    found: list[Run] = []
    token = None
    while True:
        page = client.search_runs(
            places, condition, order_by=["attributes.start_time ASC"], max_results=1_000, page_token=token
        )
        found += page
        if not (token := page.token):
            return found
