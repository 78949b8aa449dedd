"""What the MLflow UI shows of a study's trials: which columns, which charts, in which order.

The UI keeps a view that people share as a tag of the experiment, in JSON, and opens it by the tag's key; without one
it shows neither a metric nor a param. Pure: names in, tags out. Must not know MLflow's client.
"""

import json
from collections.abc import Sequence
from typing import Any

from hpo.mlflow_client import VIEW_TAG

KIND_TAG = {"mlflow.experimentKind": "custom_model_development"}
"""Says that the experiment trains models and is no GenAI app."""

TAG_LIMIT = 5_000
"""Characters that MLflow takes in a tag of an experiment: 5,000 before version 3, 20,000 from then on."""

_COLORS = ("#077a9d", "#e2740f", "#2f7d32", "#c2185b", "#6a4fbf", "#8c6d1f", "#00897b", "#d32f2f", "#3f51b5", "#7b8b00")


def run_color(number: int) -> str:
    """Neighbours differ; the UI's own colours come from the run's id and meet at random."""
    return _COLORS[number % len(_COLORS)]


def view_tag(
    parent_run_id: str,
    metric: str,
    mode: str,
    searched: Sequence[str],
    everywhere: Sequence[str],
    more: Sequence[str] = (),
) -> tuple[str, str]:
    """Name and value of the tag under which `parent_run_id` keeps the view. The last names go where all do not fit.

    everywhere: those of `searched` that every trial has; the charts would leave out trials that lack one. more:
    metrics with a column beside the searched one.
    """
    columns, axes = list(searched), list(everywhere)
    while len(text := _text(_view(parent_run_id, metric, mode, columns, axes, more))) > TAG_LIMIT:
        (columns if len(columns) >= len(axes) else axes).pop()
    return f"{VIEW_TAG}{parent_run_id}", text


def _text(view: dict[str, Any]) -> str:
    return json.dumps(view, separators=(",", ":"))


def _view(
    parent_run_id: str, metric: str, mode: str, searched: Sequence[str], axes: Sequence[str], more: Sequence[str]
) -> dict[str, Any]:
    best = f"best_{metric}"
    columns = [f"metrics.`{name}`" for name in (best, *more)]
    columns += [*(f"params.`{name}`" for name in searched), "tags.`hpo.state`", "tags.`hpo.origin`"]
    wide = [{"type": "PARALLEL", "selectedParams": list(axes), "selectedMetrics": [best], "showAllRuns": True}]
    small: list[dict[str, Any]] = [
        {"type": "LINE", "metricKey": metric, "lineSmoothness": 0, "useGlobalLineSmoothing": True, "xAxisKey": "step"},
        {"type": "BAR", "metricKey": best, "runsCountToCompare": 20},
        *(
            {"type": "SCATTER", "xaxis": {"key": name, "type": "PARAM"}, "yaxis": {"key": best, "type": "METRIC"}}
            for name in axes
        ),
    ]
    return {
        "searchFilter": f"tags.`mlflow.parentRunId` = '{parent_run_id}'",
        "orderByKey": f"metrics.`{best}`",
        "orderByAsc": mode == "min",
        "selectedColumns": columns,
        "runsHiddenMode": "SHOW_ALL",
        "isAccordionReordered": True,  # else the sections are sorted by name
        "compareRunCharts": [*_charts("wide", wide), *_charts("small", small)],
        "compareRunSections": [
            _section("wide", "Params and outcome", isGenerated=False, columns=1, cardHeight=420),
            _section("small", "One by one", isGenerated=False),
            _section("rest", "Model metrics", isGenerated=True),
        ],
    }


def _charts(section: str, charts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    own = {"metricSectionId": section, "deleted": False, "isGenerated": False}
    return [{"uuid": f"{section}-{place}", **own, **chart} for place, chart in enumerate(charts)]


def _section(uuid: str, name: str, **more: Any) -> dict[str, Any]:
    return {"uuid": uuid, "name": name, "display": True, "isReordered": False, "deleted": False, **more}
