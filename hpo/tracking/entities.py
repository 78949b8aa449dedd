"""What MLflow takes: our records and figures as its entities, within its limits on names, sizes and batches; and by
which tags our runs are found again."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from hpo.records import DatasetRecord, StudyFinished
from hpo.space import Scalar
from hpo.tracking.page import Row

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Metric, Param, Run, RunTag

PARAM_LIMIT = 6_000
TAG_LIMIT = 8_000
_CONFIRMED = ("confirmed_mean", "optimism")
_BATCH = 100
_METRICS_BATCH = 1_000


def key(name: str) -> str:
    """MLflow takes letters, digits and `_-. :/` in names."""
    return re.sub(r"[^\w\-. :/]", "_", name)[:250]


def milliseconds(time: float) -> int:
    return int(time * 1_000)


def params_of(params: Mapping[str, Scalar]) -> dict[str, str]:
    return {key(name): str(value)[:PARAM_LIMIT] for name, value in params.items()}


def batches(
    time: float, metrics: Mapping[str, float], step: int, params: Mapping[str, str], tags: Mapping[str, str]
) -> "Iterator[tuple[list[Metric], list[Param], list[RunTag]]]":
    """All of it, in as few `log_batch` as there can be; mostly one."""
    from mlflow.entities import Metric, Param, RunTag

    own_metrics = [Metric(key(name), value, milliseconds(time), step) for name, value in metrics.items()]
    own_params = [Param(name, value) for name, value in params.items()]
    own_tags = [RunTag(key(name), str(value)[:TAG_LIMIT]) for name, value in tags.items()]
    while own_metrics or own_params or own_tags:
        yield own_metrics[: _METRICS_BATCH - 2 * _BATCH], own_params[:_BATCH], own_tags[:_BATCH]
        own_metrics = own_metrics[_METRICS_BATCH - 2 * _BATCH :]
        own_params, own_tags = own_params[_BATCH:], own_tags[_BATCH:]


def dataset_input(record: DatasetRecord) -> "DatasetInput":
    from mlflow.entities import Dataset, DatasetInput, InputTag

    columns = [{"name": name, "type": kind, "required": True} for name, kind in record.columns.items()]
    return DatasetInput(
        Dataset(
            name=f"{record.name}-{record.split}"[:500],
            digest=record.digest[:12],  # the whole is in the profile: columns are narrow
            source_type="local",
            source=json.dumps({"uri": record.source})[:65_000],
            schema=json.dumps({"mlflow_colspec": columns}),
            profile=json.dumps({"num_rows": record.rows, "sha256": record.digest}),
        ),
        tags=[InputTag("mlflow.data.context", record.split)],
    )


def study_runs(identity: str) -> str:
    """The filter for the run of a study. identity: of its `mlflow.json`."""
    return f"tags.`hpo.id` = '{identity}' and tags.`hpo.kind` = 'study'"


def trial_runs(parent: str) -> str:
    """The filter for the trials below a study's run."""
    return f"tags.`mlflow.parentRunId` = '{parent}' and tags.`hpo.kind` = 'trial'"


def seed_runs(parent: str) -> str:
    """The filter for the retrainings of all trials below a study's run."""
    return f"tags.`hpo.study_run` = '{parent}' and tags.`hpo.kind` = 'seed'"


def search(client: "MlflowClient", experiments: Sequence[str], condition: str) -> "list[Run]":
    """All that the filter finds, the oldest first."""
    found: list[Run] = []
    token: str | None = None
    while True:
        page = client.search_runs(
            list(experiments), condition, order_by=["attributes.start_time ASC"], max_results=1_000, page_token=token
        )
        found += page
        if not (token := page.token):
            return found


def number_of(run: "Run") -> int:
    """The trial that a run is of; -1 for another run."""
    text = run.data.tags.get("hpo.trial", "")
    return int(text) if text.isdecimal() else -1


def replicate_of(run: "Run") -> int:
    """Which retraining over fresh seeds a run is; 0 for a trial of the search."""
    text = run.data.tags.get("hpo.seed", "")
    return int(text) if text.isdecimal() else 0


def names_in(text: str | None) -> tuple[str, ...]:
    """Of a tag that lists them with commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip()) if text else ()


def twins(runs: "Sequence[Run]", ours: Mapping[tuple[int, int], str]) -> "list[Run]":
    """Of runs of one trial or retraining, all but the one that counts: that which is among `ours`, else the one that
    was told the most, else the oldest. runs: the oldest first."""
    best: dict[tuple[int, int], Run] = {}
    gone = []
    for run in runs:
        key = (number_of(run), replicate_of(run))
        other = best.setdefault(key, run)
        if other is not run:
            best[key] = max(other, run, key=lambda own: (own.info.run_id == ours.get(key), len(own.data.metrics)))
            gone.append(run if best[key] is other else other)
    return [run for run in gone if number_of(run) >= 0]


def row_of(run: "Run", metric: str) -> Row:
    metrics, tags = run.data.metrics, run.data.tags
    value = metrics.get(f"best_{metric}", metrics.get(metric))
    state = tags.get("hpo.state", run.info.status.lower())
    dropped = tags.get("hpo.dropped") == "true"
    return Row(number_of(run), state, tags.get("hpo.origin", ""), value, dict(run.data.params), dropped)


def also_shown(runs: "Iterable[Run]") -> tuple[str, ...]:
    """Metrics that some trials have, and that are worth a column then."""
    return tuple(name for name in _CONFIRMED if any(name in run.data.metrics for run in runs))


def best_trial(event: StudyFinished) -> int | None:
    number = event.tags.get("best_trial", event.metrics.get("best_trial"))
    return None if number is None else int(number)
