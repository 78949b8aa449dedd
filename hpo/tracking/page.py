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
    """A trial as its run shows it. value: of the searched metric, if it has one. dropped: the space has no room for it
    any more."""

    number: int
    state: str
    origin: str
    value: float | None
    params: Mapping[str, str]
    dropped: bool = False


def varying(rows: Sequence[Row]) -> tuple[str, ...]:
    """Names of the params that differ between the trials, in their order of appearance."""
    names = dict.fromkeys(name for row in rows for name in row.params)
    return tuple(name for name in names if len({row.params.get(name) for row in rows}) > 1)


def page(
    study: StudyStarted,
    rows: Sequence[Row],
    searched: Sequence[str],
    address: str,
    finished: StudyFinished | None = None,
) -> str:
    """What won, what to look at, what the study is. The UI folds all but the first lines, so the answer comes first.

    address: of the page that shows the trials side by side.
    """
    direction = "higher" if study.mode == "max" else "lower"
    links = f"[All trials side by side]({address}), [in charts]({address}&compareRunsMode=CHART)."
    lines = [links if finished is None else f"{_winner(study, finished)} {links}", ""]
    lines += [f"Searches hyperparameters for `{study.metric}` ({direction} is better).", ""]
    leaders, dropped = _leaders(study, rows), sum(row.dropped for row in rows)
    if leaders:
        lines += [f"## The best {len(leaders)} of {len(rows) - dropped} trials", ""]
        lines.append("| trial | " + " | ".join((study.metric, "origin", *map(_cell, searched))) + " |")
        lines.append("| --- " * (3 + len(searched)) + "|")
        for row in leaders:
            cells = (_number(row.value), _cell(row.origin), *(_short(row.params.get(name, "")) for name in searched))
            lines.append(f"| {row.number} | " + " | ".join(cells) + " |")
        lines.append("")
    if dropped:
        lines += [f"History only (the space was changed, and has no room for them any more): {dropped} trials.", ""]
    lines += ["## To compare", ""]
    lines.append("Open the trials by the links above. Or select them without this run, and press Compare.")
    if searched:
        lines.append(f"What varies: {', '.join(f'`{name}`' for name in searched)}. All other params are fixed.")
    lines.append(f"The column to sort by is `best_{study.metric}`; `{study.metric}` is its curve by optimiser step.")
    lines.append("KILLED: stopped early by the scheduler. FAILED: diverged or broken. `space.yaml` repeats the study.")
    return "\n".join(lines) + "\n"


def _winner(study: StudyStarted, finished: StudyFinished) -> str:
    """`Trial 6 won: accuracy 0.8150 (default 0.6967), on the test rows 0.8033 (default 0.7111).`"""
    metric, figures, tags = study.metric, finished.metrics, finished.tags
    if "best_trial" not in tags or f"best_{metric}" not in figures:
        return "**No trial won.**"
    if (mean := figures.get("confirmed_mean")) is not None:
        text = f"**Trial {tags['best_trial']} won: {metric} {mean:.4f}**{_between(figures)} on average over fresh seeds"
        text += f" (first score {figures[f'best_{metric}']:.4f})"
    else:
        text = f"**Trial {tags['best_trial']} won: {metric} {figures[f'best_{metric}']:.4f}**"
        text += _default(figures.get(f"default_{metric}"))
    if (test := figures.get(f"test_{metric}")) is not None:
        text += f", on the test rows {test:.4f}{_default(figures.get(f'default_test_{metric}'))}"
    if "model" in tags:
        verdict = {"promote": ", promoted", "keep": ", not promoted"}.get(tags.get("decision", ""), "")
        text += f". It is `{tags['model']}`{verdict}"
    return f"{text}."


def _between(figures: Mapping[str, float]) -> str:
    low, high = figures.get("confirmed_low"), figures.get("confirmed_high")
    return "" if low is None or high is None else f", {low:.4f} to {high:.4f},"


def _default(value: float | None) -> str:
    return "" if value is None else f" (default {value:.4f})"


def _leaders(study: StudyStarted, rows: Sequence[Row]) -> list[Row]:
    """Complete trials, the best first; a pruned one has no last value to be compared by."""
    sign = -1.0 if study.mode == "max" else 1.0
    complete = [row for row in rows if row.state == "complete" and not row.dropped]
    valued = [row for row in complete if row.value is not None and math.isfinite(row.value)]
    return sorted(valued, key=lambda row: (sign * (row.value or 0.0), row.number))[:_SHOWN]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _short(text: str) -> str:
    """A param as a cell: a number in a few digits, anything else as it is."""
    try:
        return f"{float(text):.4g}"
    except ValueError:
        return _cell(text)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
