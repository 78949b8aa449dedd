"""The figures of report.html that our own records call for, drawn with plotly, which is imported when one is drawn.

Optuna's figures of a study's landscape are in `landscape`. Must not know a file or a page.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hpo.records import StudySummary, TrialRecord, TrialState
from hpo.report import words
from hpo.report.findings import (
    Background,
    best_first,
    best_so_far,
    finite,
    last_value,
    survivors,
)
from hpo.report.look import COLORS, COMPLETE, GOLDEN, INK, MARKERS, MUTED, PRUNED, STAR, WINNER, Figure, finish, plain
from hpo.space import Choice, IntRange, Varying

ORDER = ("winner", "complete", "failed", "pruned")
"""Of a legend."""

MOST_CURVES = 400
"""Curves drawn: those of the best complete trials, then of the stopped ones that came furthest up, and the winner's."""


def draw_history(summary: StudySummary, trials: Sequence[TrialRecord]) -> Figure:
    """The metric by trial number, states told apart, with the best so far and the default."""
    import plotly.graph_objects as go

    figure = go.Figure()
    path = best_so_far(summary, trials)
    if path:
        figure.add_scatter(
            x=[number for number, _ in path],
            y=[value for _, value in path],
            mode="lines",
            name="best so far",
            line={"color": INK, "width": 1.5, "shape": "hv"},
            hovertemplate="best so far %{y:.4f}<extra></extra>",
        )
    _add_states(figure, summary, [(float(trial.number), trial) for trial in trials])
    baseline = summary.baseline
    if baseline is not None and baseline.value is not None:
        figure.add_hline(
            y=baseline.value,
            line={"color": MUTED, "width": 1, "dash": "dot"},
            annotation={"text": "default", "font": {"color": MUTED}, "xanchor": "right"},
            annotation_position="bottom right",
        )
    figure.update_xaxes(title="trial", tickformat="d")
    figure.update_yaxes(title=f"validation {plain(summary.metric)}")
    return finish(figure, height=380, legend=True)


def draw_importance(shares: Mapping[str, float]) -> Figure | None:
    """A bar a param; None where nothing can be said."""
    import plotly.graph_objects as go

    if not shares:
        return None
    names = [plain(words.short_name(name)) for name in shares]
    figure = go.Figure()
    figure.add_bar(
        x=list(shares.values()),
        y=names,
        orientation="h",
        marker={"color": COMPLETE},
        text=[f"{share:.0%}" for share in shares.values()],
        textposition="outside",
        cliponaxis=False,
        customdata=[plain(name) for name in shares],
        hovertemplate="%{customdata}: %{x:.1%}<extra></extra>",
    )
    figure.update_xaxes(visible=False, range=[0, 1.12 * max(shares.values())])
    figure.update_yaxes(autorange="reversed", showgrid=False, type="category")
    figure.update_layout(bargap=0.35)
    return finish(figure, height=30 + 36 * len(names), below=10)


def draw_slices(
    summary: StudySummary, trials: Sequence[TrialRecord], varying: Mapping[str, Varying], order: Sequence[str]
) -> Figure | None:
    """The metric against each param that varies, one panel each; None where none does. Choices are spread a bit."""
    from plotly.subplots import make_subplots

    names = [name for name in order if any(name in trial.params for trial in trials)]
    if not names:
        return None
    columns = min(3, len(names))
    rows = math.ceil(len(names) / columns)
    figure = make_subplots(
        rows, columns, shared_yaxes=True, horizontal_spacing=0.03, vertical_spacing=min(0.9 / rows, 70 / (250 * rows))
    )
    for place, name in enumerate(names):
        row, column = place // columns + 1, place % columns + 1
        own = varying[name]
        points = []
        for trial in trials:
            if name in trial.params:
                value = trial.params[name]
                if isinstance(own, Choice):
                    value = own.values.index(own.nearest(value)) + 0.3 * (trial.number * GOLDEN % 1 - 0.5)
                points.append((float(value), trial))
        _add_states(figure, summary, points, legend=place == 0, where={"row": row, "col": column}, param=name)
        axis = {"title": plain(words.short_name(name)), "row": row, "col": column}
        if isinstance(own, Choice):
            labels = [plain(words.short_value(value)) for value in own.values]
            ends = [-0.6, len(labels) - 0.4]
            figure.update_xaxes(tickvals=list(range(len(labels))), ticktext=labels, range=ends, **axis)
        else:
            scale: dict[str, Any] = {"nticks": 6}
            if isinstance(own, IntRange):
                scale = {"tickformat": "d", "dtick": max(1, (own.high - own.low) // 5)}
            if own.log:
                scale = {"type": "log", "dtick": "D2" if own.high < 30 * own.low else 1}
                if own.high <= 1:
                    scale["tickformat"] = ".0e"
            figure.update_xaxes(**axis, **scale)
        if column == 1:
            figure.update_yaxes(title=plain(summary.metric), row=row, col=column)
    return finish(figure, height=90 + 250 * rows, legend=True)


def with_curves(summary: StudySummary, trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Those of which a curve is drawn, the winner last."""
    there = [trial for trial in trials if finite(trial.curve) and trial.number != summary.best.number]
    drawn = best_first(summary, there)[: MOST_CURVES - 1]
    return [*drawn, summary.best] if finite(summary.best.curve) else drawn


def draw_curves(summary: StudySummary, trials: Sequence[TrialRecord]) -> Figure | None:
    """The metric while the trials learn, over epochs, which trials of any batch size share; None without a curve."""
    import plotly.graph_objects as go

    drawn = with_curves(summary, trials)
    if not drawn:
        return None
    by_epochs = all("num_train_epochs" in trial.params for trial in drawn)
    figure = go.Figure()
    for state in (TrialState.FAILED, TrialState.PRUNED, TrialState.COMPLETE):
        own = [trial for trial in drawn if trial.state is state and trial.number != summary.best.number]
        x: list[float | None] = []
        y: list[float | None] = []
        said: list[int | None] = []
        ends: list[tuple[float, float, int]] = []
        for trial in own:
            whole = float(trial.params["num_train_epochs"]) if by_epochs else 1.0
            curve = finite(trial.curve)
            x += [*(part * whole for part in curve), None]
            y += [*curve.values(), None]
            said += [trial.number] * len(curve) + [None]
            ends.append((max(curve) * whole, curve[max(curve)], trial.number))
        if not own:
            continue
        figure.add_scatter(
            x=x,
            y=y,
            customdata=said,
            mode="lines",
            name=str(state),
            line={"color": COLORS[state], "width": 1.3 if state is TrialState.COMPLETE else 1.0},
            opacity=0.75 if state is TrialState.COMPLETE else 0.6,
            hovertemplate="trial %{customdata}: %{y:.4f}<extra></extra>",
        )
        if state is not TrialState.COMPLETE:
            figure.add_scatter(
                x=[place for place, _, _ in ends],
                y=[value for _, value, _ in ends],
                customdata=[number for _, _, number in ends],
                mode="markers",
                name="stopped here" if state is TrialState.PRUNED else "failed here",
                marker=MARKERS[state],
                hovertemplate="trial %{customdata} ends at %{y:.4f}<extra></extra>",
            )
    best = finite(summary.best.curve)
    if best:
        whole = float(summary.best.params["num_train_epochs"]) if by_epochs else 1.0
        figure.add_scatter(
            x=[part * whole for part in best],
            y=list(best.values()),
            mode="lines+markers",
            name=f"trial {summary.best.number}, the winner",
            line={"color": WINNER, "width": 3},
            marker={"size": 6},
            hovertemplate="the winner: %{y:.4f}<extra></extra>",
        )
    longest = max(
        max(finite(trial.curve)) * (float(trial.params["num_train_epochs"]) if by_epochs else 1.0) for trial in drawn
    )
    title = "epochs trained" if by_epochs else "part of the trial's own training"
    figure.update_xaxes(title=title, range=[0, 1.03 * longest])
    figure.update_yaxes(title=f"validation {plain(summary.metric)}")
    return finish(figure, height=400, legend=True)


def draw_survivors(trials: Sequence[TrialRecord], background: Background) -> Figure | None:
    """How many trials reached each rung, and how many were stopped there; None where none was stopped."""
    import plotly.graph_objects as go

    rungs = survivors(trials, background.rungs, background.level)
    if not any(rung.stopped for rung in rungs):
        return None
    names = ["start" if not rung.level else f"{rung.level:.3g}" for rung in rungs]
    figure = go.Figure()
    figure.add_bar(
        x=names,
        y=[rung.reached - rung.stopped for rung in rungs],
        name="went on",
        marker={"color": COMPLETE},
        text=[str(rung.reached - rung.stopped) for rung in rungs],
        hovertemplate="%{y} went on<extra></extra>",
    )
    figure.add_bar(
        x=names,
        y=[rung.stopped for rung in rungs],
        name="stopped here",
        marker={"color": PRUNED},
        text=[str(rung.stopped) if rung.stopped else "" for rung in rungs],
        hovertemplate="%{y} stopped here<extra></extra>",
    )
    figure.update_layout(barmode="stack", bargap=0.3)
    figure.update_xaxes(title="rung: part of the training done", type="category", showgrid=False)
    figure.update_yaxes(title="trials")
    return finish(figure, height=300, legend=True)


def _add_states(
    figure: Figure,
    summary: StudySummary,
    points: Sequence[tuple[float, TrialRecord]],
    *,
    legend: bool = True,
    where: Mapping[str, int] | None = None,
    param: str | None = None,
) -> None:
    """Complete trials full, stopped ones hollow at the last value they had, failed ones crossed at the foot (the
    worst value shown), the winner starred."""
    known = [value for _, trial in points if (value := last_value(trial)) is not None]
    foot = (min if summary.mode == "max" else max)(known, default=0.0)
    groups: dict[str, list[tuple[float, float, TrialRecord]]] = {}
    for place, trial in points:
        value = last_value(trial)
        if trial.number == summary.best.number:
            groups.setdefault("winner", []).append((place, foot if value is None else value, trial))
        elif trial.state is TrialState.FAILED:
            groups.setdefault(str(trial.state), []).append((place, foot, trial))
        elif trial.state in MARKERS and value is not None:
            groups.setdefault(str(trial.state), []).append((place, value, trial))
    for name in reversed(ORDER):  # the winner lies on top
        if own := groups.get(name):
            figure.add_scatter(
                x=[place for place, _, _ in own],
                y=[value for _, value, _ in own],
                customdata=[[trial.number, _hover(trial, param)] for _, _, trial in own],
                mode="markers",
                name=name,
                legendgroup=name,
                cliponaxis=False,
                legendrank=ORDER.index(name),
                showlegend=legend,
                marker=STAR if name == "winner" else MARKERS[TrialState(name)],
                hovertemplate="trial %{customdata[0]}%{customdata[1]}<extra></extra>",
                **(where or {}),
            )


def _hover(trial: TrialRecord, param: str | None) -> str:
    value = last_value(trial)
    lines = [f": {words.metric_value(value)} ({trial.state})"]
    if param is not None:
        lines.append(f"{plain(param)} {plain(words.short_value(trial.params[param], 3))}")
    else:
        lines += [f"{plain(name)} {plain(words.short_value(own, 3))}" for name, own in list(trial.params.items())[:12]]
    return "<br>".join(lines)
