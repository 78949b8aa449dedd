"""The figures of report.html that weigh: seeds against first scores, budget against value, metric against metric.

plotly is imported when one is drawn. Must not know a file or a page.
"""

import math
from collections.abc import Sequence

from hpo.records import StudySummary, TrialRecord, TrialState
from hpo.report.findings import Expected, epochs_of, last_value, spared, spending
from hpo.report.look import (
    BAND,
    CARD,
    COLORS,
    COMPLETE,
    FAILED,
    INK,
    MARKERS,
    MUTED,
    STAR,
    WINNER,
    Figure,
    finish,
    plain,
)


def draw_seeds(summary: StudySummary) -> Figure | None:
    """Each leader over fresh seeds: every seed, their mean with its interval, and the first score, which it was chosen
    for; None where nothing was confirmed."""
    import plotly.graph_objects as go

    if not summary.confirmed:
        return None
    figure = go.Figure()
    names = [f"trial {one.number}<br>{plain(one.origin)}" for one in summary.confirmed]
    rows = list(zip(names, summary.confirmed, strict=True))
    won = [WINNER if one.number == summary.best.number else COMPLETE for one in summary.confirmed]
    figure.add_scatter(
        x=[value for _, one in rows for value in one.values],
        y=[name for name, one in rows for _ in one.values],
        mode="markers",
        name="a fresh seed",
        marker={"symbol": "line-ns-open", "size": 13, "color": INK, "line": {"width": 1.5}},
        hovertemplate="%{x:.4f}<extra>a fresh seed</extra>",
    )
    figure.add_scatter(
        x=[one.mean for one in summary.confirmed],
        y=names,
        mode="markers",
        name=f"mean, {summary.confirmed[0].confidence:.0%} interval",
        marker={"symbol": "circle", "size": 12, "color": won, "line": {"width": 1, "color": CARD}},
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [one.high - one.mean if one.high is not None else 0.0 for one in summary.confirmed],
            "arrayminus": [one.mean - one.low if one.low is not None else 0.0 for one in summary.confirmed],
            "thickness": 2.5,
            "width": 7,
            "color": MUTED,
        },
        hovertemplate="mean %{x:.4f}<extra></extra>",
    )
    figure.add_scatter(
        x=[one.first for one in summary.confirmed],
        y=names,
        mode="markers",
        name="first score",
        marker={"symbol": "diamond-open", "size": 11, "color": FAILED, "line": {"width": 2}},
        hovertemplate="first score %{x:.4f}<extra></extra>",
    )
    figure.update_xaxes(title=f"validation {plain(summary.metric)}")
    figure.update_yaxes(autorange="reversed", type="category", showgrid=False)
    return finish(figure, height=120 + 62 * len(names), legend=True)


def draw_expected_best(summary: StudySummary, trials: Sequence[TrialRecord], rows: Sequence[Expected]) -> Figure | None:
    """The expected best value by epochs spent (rows: of `expected_best`), with one standard deviation, and what this
    search really had by then; None where no epochs are known or one trial alone has a value."""
    import plotly.graph_objects as go

    if len(rows) < 2 or not rows[-1].epochs:
        return None
    worst, best = sorted((rows[0].mean, rows[-1].mean))
    values = [value for trial in trials if (value := last_value(trial)) is not None]
    low, high = min(*values, worst), max(*values, best)
    x = [row.epochs for row in rows]
    figure = go.Figure()
    figure.add_scatter(
        x=[*x, *reversed(x)],
        y=[
            *(min(row.mean + row.deviation, high) for row in rows),
            *(max(row.mean - row.deviation, low) for row in reversed(rows)),
        ],
        mode="lines",
        fill="toself",
        fillcolor=BAND,
        line={"width": 0},
        name="± 1 standard deviation",
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=x,
        y=[row.mean for row in rows],
        mode="lines",
        name="expected best, trials in random order",
        line={"color": COMPLETE, "width": 2.5},
        customdata=[row.draws for row in rows],
        hovertemplate="%{customdata} trials, %{x:.1f} epochs: %{y:.4f}<extra></extra>",
    )
    better = max if summary.mode == "max" else min
    spent, found = 0.0, None
    path: list[tuple[float, float]] = []
    for trial in trials:
        spent += epochs_of(trial)
        value = last_value(trial)
        if value is not None:
            found = value if found is None else better(found, value)
        if found is not None:
            path.append((spent, found))
    figure.add_scatter(
        x=[place for place, _ in path],
        y=[value for _, value in path],
        mode="lines",
        name="this search",
        line={"color": WINNER, "width": 2, "shape": "hv"},
        hovertemplate="%{x:.1f} epochs: %{y:.4f}<extra>this search</extra>",
    )
    figure.update_xaxes(title="epochs of training spent, over all trials", rangemode="tozero")
    figure.update_yaxes(title=f"validation {plain(summary.metric)}")
    return finish(figure, height=360, legend=True)


def draw_pareto(summary: StudySummary, trials: Sequence[TrialRecord]) -> Figure | None:
    """The first two searched metrics against each other, the front joined; None where one alone is searched."""
    import plotly.graph_objects as go

    if len(summary.objectives) < 2:
        return None
    first, second = list(summary.objectives)[:2]
    points = {
        trial.number: (one, other)
        for trial in trials
        if trial.state is TrialState.COMPLETE
        and (one := objective_of(trial, first)) is not None
        and (other := objective_of(trial, second)) is not None
    }
    if not points:
        return None
    front = sorted((number for number in summary.pareto if number in points), key=lambda number: points[number][1])
    rest = [number for number in points if number not in front]
    figure = go.Figure()
    for name, numbers, style in (
        ("beaten by another", rest, {"mode": "markers", "marker": {**MARKERS[TrialState.COMPLETE], "color": MUTED}}),
        (
            "Pareto front",
            front,
            {"mode": "lines+markers", "marker": {"size": 10, "color": COMPLETE}, "line": {"color": COMPLETE}},
        ),
        (
            "winner",
            [number for number in (summary.best.number,) if number in points],
            {"mode": "markers", "marker": STAR},
        ),
    ):
        if numbers:
            figure.add_scatter(
                x=[points[number][1] for number in numbers],
                y=[points[number][0] for number in numbers],
                customdata=numbers,
                name=name,
                hovertemplate="trial %{customdata}: %{y:.4g} at %{x:.4g}<extra></extra>",
                **style,
            )
    better = {"max": "higher is better", "min": "lower is better"}
    figure.update_xaxes(title=f"{plain(second)} ({better[summary.objectives[second]]})")
    figure.update_yaxes(title=f"{plain(first)} ({better[summary.objectives[first]]})")
    return finish(figure, height=400, legend=True)


def objective_of(trial: TrialRecord, name: str) -> float | None:
    """What a trial reached in one of several searched metrics."""
    value = trial.metrics.get(f"best_{name}", trial.metrics.get(name))
    return value if value is not None and math.isfinite(value) else None


def draw_cost(trials: Sequence[TrialRecord]) -> Figure | None:
    """Epochs by state, and those that stopping early has spared; None where no epochs are known, or all of one kind."""
    import plotly.graph_objects as go

    figure = go.Figure()
    rows = [(str(spent.state), spent.epochs, COLORS.get(spent.state, MUTED)) for spent in spending(trials)]
    saved = spared(trials).epochs
    if not sum(epochs for _, epochs, _ in rows) or (len(rows) == 1 and not saved):
        return None
    for name, epochs, color in [*rows, *([("spared", saved, BAND)] if saved else [])]:
        figure.add_bar(
            x=[epochs],
            y=["epochs"],
            orientation="h",
            name=name,
            marker={"color": color},
            text=[f"{epochs:,.1f}"],
            textposition="inside",
            textangle=0,
            insidetextanchor="middle",
            insidetextfont={"color": INK if name == "spared" else CARD},
            hovertemplate=f"{name}: %{{x:.1f}} epochs<extra></extra>",
        )
    figure.update_layout(barmode="stack")
    figure.update_xaxes(title="epochs of training", showgrid=False)
    figure.update_yaxes(visible=False)
    return finish(figure, height=170, legend=True)
