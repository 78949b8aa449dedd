"""The study's page: the words on its parent run, in Markdown, for whoever opens the MLflow UI.

Pure: rows in, text out. Must not know MLflow.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hpo.records import StudyFinished, StudyStarted

_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Row:
    """A trial as its run shows it. value: of the searched metric, if it has one."""

    number: int
    state: str
    origin: str
    value: float | None
    params: Mapping[str, str]


def varying(rows: Sequence[Row]) -> tuple[str, ...]:
    """Names of the params that differ between the trials, in their order of appearance."""
    names = dict.fromkeys(name for row in rows for name in row.params)
    return tuple(name for name in names if len({row.params.get(name) for row in rows}) > 1)


def page(
    study: StudyStarted, rows: Sequence[Row], searched: Sequence[str], finished: StudyFinished | None = None
) -> str:
    """What the study is, what won, and what to compare."""
    direction = "higher" if study.mode == "max" else "lower"
    lines = [f"# {study.study}", "", f"Searches hyperparameters for `{study.metric}` ({direction} is better).", ""]
    if finished is not None:
        lines += ["## What won", "", "| | |", "| --- | --- |"]
        lines += [f"| {_cell(name)} | {_cell(value)} |" for name, value in finished.tags.items() if "." not in name]
        lines += [f"| {_cell(name)} | {_number(value)} |" for name, value in finished.metrics.items()]
        lines.append("")
    leaders = _leaders(study, rows)
    if leaders:
        lines += [f"## The best {len(leaders)} of {len(rows)} trials", ""]
        lines.append("| trial | " + " | ".join((study.metric, "origin", *map(_cell, searched))) + " |")
        lines.append("| --- " * (3 + len(searched)) + "|")
        for row in leaders:
            cells = (_number(row.value), _cell(row.origin), *(_cell(row.params.get(name, "")) for name in searched))
            lines.append(f"| {row.number} | " + " | ".join(cells) + " |")
        lines.append("")
    lines += ["## To compare", ""]
    lines.append("Open this run's children (the + beside it), select them without the parent, and press Compare.")
    if searched:
        lines.append(f"What varies: {', '.join(f'`{name}`' for name in searched)}. All other params are fixed.")
    lines.append(f"The column to sort by is `best_{study.metric}`; `{study.metric}` is its curve by optimiser step.")
    lines.append("KILLED: stopped early by the scheduler. FAILED: diverged or broken. `space.yaml` repeats the study.")
    return "\n".join(lines) + "\n"


def _leaders(study: StudyStarted, rows: Sequence[Row]) -> list[Row]:
    """Complete trials, the best first; a pruned one has no last value to be compared by."""
    sign = -1.0 if study.mode == "max" else 1.0
    valued = [row for row in rows if row.state == "complete" and row.value is not None and math.isfinite(row.value)]
    return sorted(valued, key=lambda row: (sign * (row.value or 0.0), row.number))[:_SHOWN]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
