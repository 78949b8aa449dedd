"""What MLflow takes: our records and figures as its entities, within its limits on names, sizes and batches."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from hpo.records import DatasetRecord
from hpo.space import Scalar

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput, Metric, Param, Run, RunTag

PARAM_LIMIT = 6_000
TAG_LIMIT = 8_000
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
