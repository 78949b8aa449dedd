"""The landscape of a search by Optuna: which params mattered, and how they go together. The only file that knows it.

Trials become an Optuna study in memory; its figures are brought to the look of all others. A stopped trial counts with
the last value it had, which is worse than its own end would have been: it is left out of nothing, and leads nothing.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hpo.records import StudySummary, TrialRecord
from hpo.report import words
from hpo.report.findings import best_first, last_value
from hpo.report.look import CARD, COMPLETE, INK, MUTED, WINNER, Figure, finish, plain
from hpo.space import Choice, IntRange, Varying

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optuna.distributions import BaseDistribution
    from optuna.study import Study
    from optuna.trial import FrozenTrial

ENOUGH = 20
"""Trials with a value below which no importance is said: another seed would turn the order of the params round."""

FEWEST = 8
"""Trials below which no surface is drawn."""

SPARSE = 5
"""Different values up to which a range is drawn like a choice."""

SURFACE = 120
"""Trials that a surface is drawn over, taken evenly from the best to the worst: its size is the square of them."""

NUMBER = "\uffff"
"""A param that all trials have in memory: their number, by which a line of Optuna is known again. Sorts last."""

LEADERS = 0.1
"""The part of the trials that counts as the best."""


def importances(
    summary: StudySummary, trials: Sequence[TrialRecord], varying: Mapping[str, Varying]
) -> dict[str, float]:
    """How much each param decides whether a trial is among the `top` (PED-ANOVA, Watanabe et al. 2023,
    arXiv:2304.10255): shares that add up to 1, the largest first; empty where there are too few trials to say.
    Params that exist only under a condition are included."""
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    with _quiet():
        study, names = _in_memory(summary, trials, varying)
        count = len(study.trials)
        if count < ENOUGH or len(names) < 2 or len({trial.value for trial in study.trials}) < 2:
            return {}
        evaluator = PedAnovaImportanceEvaluator(target_quantile=top(trials) / count)
        found = get_param_importances(study, evaluator=evaluator, params=list(names))
    shares = {names[name]: share for name, share in found.items()}
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def top(trials: Sequence[TrialRecord]) -> int:
    """How many trials count as the best: a tenth, and not so few that one of them decides."""
    count = sum(last_value(trial) is not None for trial in trials)
    return min(max(round(LEADERS * count), 5), max(count // 2, 1))


def draw_parallel(
    summary: StudySummary, trials: Sequence[TrialRecord], varying: Mapping[str, Varying]
) -> Figure | None:
    """A line a trial through all its params; the `top` and the winner stand out."""
    import plotly.graph_objects as go
    from optuna.visualization import plot_parallel_coordinate

    with _quiet():
        study, names = _in_memory(summary, trials, varying)
        if not names or len(study.trials) < 2:
            return None
        theirs = plot_parallel_coordinate(study, params=[*names, NUMBER], target_name=plain(summary.metric))
    integers = {short for short, name in names.items() if isinstance(varying[name], IntRange)}
    ranked = [trial.number for trial in best_first(summary, trials) if last_value(trial) is not None]
    won = [summary.best.number]
    best = top(trials)
    leaders = [number for number in ranked[:best] if number not in won]
    others = [number for number in ranked[best:] if number not in won]
    lines = _by_number(theirs, [trial.params[NUMBER] for trial in study.trials])
    figure = go.Figure(layout=theirs.layout)
    for layer, numbers, color, width in (
        ("others", others, MUTED, 1.0),
        (f"the best {best}", leaders, COMPLETE, 1.8),
        ("winner", won, WINNER, 3.2),
    ):
        numbers = [number for number in numbers if number in lines]
        if numbers:  # one trace a layer, its lines apart by a gap: a thousand traces would take a browser seconds
            figure.add_scatter(
                x=[place for number in numbers for place in (*lines[number].x[:-1], None)],
                y=[place for number in numbers for place in (*lines[number].y[:-1], None)],
                customdata=[
                    row
                    for number in numbers
                    for row in (*((*said, number) for said in lines[number].customdata[:-1]), ("", "", ""))
                ],
                mode="lines",
                name=layer,
                line={"color": color, "width": width},
                opacity=0.5 if layer == "others" else 1.0,
                hovertemplate="trial %{customdata[2]}<br>%{customdata[0]} %{customdata[1]}<extra></extra>",
            )
    axes = figure.layout.xaxis.ticktext[:-1]
    figure.layout.xaxis.update(ticktext=axes, tickvals=list(range(len(axes))), range=(-0.2, len(axes) - 0.8))
    figure.layout.shapes = figure.layout.shapes[:-1]
    whole = {place for place, label in enumerate(axes) if label in integers}
    figure.layout.annotations = [
        one for one in figure.layout.annotations if one.x < len(axes) and (one.x not in whole or "." not in one.text)
    ]
    figure.update_annotations(font={"size": 11, "color": INK}, bgcolor=CARD, opacity=0.85, borderpad=0)
    figure.update_shapes(line={"color": MUTED, "width": 1})
    return finish(figure, height=400, legend=True)


def draw_contour(
    summary: StudySummary, trials: Sequence[TrialRecord], varying: Mapping[str, Varying], pair: tuple[str, str]
) -> Figure | None:
    """The metric over two ranges; None where too few trials span them."""
    from optuna.visualization import plot_contour

    both = best_first(summary, [trial for trial in trials if all(name in trial.params for name in pair)])
    both = both[:: math.ceil(len(both) / SURFACE)]  # the best one is among them
    with _quiet():
        study, names = _in_memory(summary, both, varying)
        short = {full: name for name, full in names.items()}
        if len(study.trials) < FEWEST or not all(name in short for name in pair):
            return None
        figure = plot_contour(study, params=[short[name] for name in pair], target_name=plain(summary.metric))
    figure.update_traces(
        selector={"type": "contour"},
        colorscale="Cividis",
        reversescale=summary.mode == "min",
        contours={"coloring": "heatmap"},
        line={"width": 0.4, "color": "rgba(255,255,255,0.45)"},
        colorbar={
            "title": {"text": plain(summary.metric), "side": "right", "font": {"size": 13}},
            "thickness": 12,
            "outlinewidth": 0,
        },
        hovertemplate=f"{plain(summary.metric)} about %{{z:.4f}}<extra></extra>",
        hoverinfo=None,
    )
    figure.update_traces(
        selector={"type": "scatter"},
        marker={"color": "#FFFFFF", "size": 7, "line": {"width": 1.2, "color": "#000000"}},
    )
    surface = next(trace for trace in figure.data if trace.type == "contour")
    surface.z = [[None if z is None else round(float(z), 4) for z in row] for row in surface.z]
    best = summary.best
    if all(name in best.params for name in pair):
        place = {"x": [best.params[pair[0]]], "y": [best.params[pair[1]]]}
        if (figure.layout.xaxis.title.text or "") != short[pair[0]]:
            place = {"x": place["y"], "y": place["x"]}
        figure.add_scatter(
            **place,
            mode="markers",
            name="winner",
            marker={"symbol": "star", "size": 17, "color": WINNER, "line": {"width": 1, "color": "#000000"}},
            hovertemplate=f"trial {best.number}, the winner<extra></extra>",
        )
    for axis in (figure.layout.xaxis, figure.layout.yaxis):
        if axis.type == "log":
            axis.update(dtick=1, tickformat=".0e")
    return finish(figure, height=420)


def _by_number(figure: Figure, numbers: Sequence[int]) -> dict[int, Any]:
    """Optuna's lines by the trials' numbers, whatever order it draws them in."""
    low, high = min(numbers), max(numbers)
    lines = [trace for trace in figure.data if trace.mode == "lines" and trace.customdata is not None]
    return {round(low + trace.y[-1] * (high - low)): trace for trace in lines}


def spans(trials: Sequence[TrialRecord], own: Varying, name: str) -> bool:
    """Whether it is a range that the trials fill, so that something lies between its values."""
    tried = {trial.params[name] for trial in trials if name in trial.params}
    return not isinstance(own, Choice) and len(tried) > SPARSE


def _in_memory(
    summary: StudySummary, trials: Sequence[TrialRecord], varying: Mapping[str, Varying]
) -> "tuple[Study, dict[str, str]]":
    """All trials with a value, and the names of their params by the short ones that the figures show."""
    import optuna
    from optuna.distributions import IntDistribution

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(direction="maximize" if summary.mode == "max" else "minimize")
    finally:
        optuna.logging.set_verbosity(level)
    usable = [trial for trial in trials if last_value(trial) is not None]
    names = {
        words.short_name(name): name
        for name in varying
        if len({str(trial.params[name]) for trial in usable if name in trial.params}) > 1
    }
    spread: dict[str, BaseDistribution] = {
        short: _distribution(varying[name], name, usable) for short, name in names.items()
    }
    spread[NUMBER] = IntDistribution(0, max((trial.number for trial in usable), default=0))
    study.add_trials([_frozen(trial, names, spread) for trial in usable])
    return study, names


def _frozen(trial: TrialRecord, names: Mapping[str, str], spread: "Mapping[str, BaseDistribution]") -> "FrozenTrial":
    import optuna

    params: dict[str, Any] = {NUMBER: trial.number}
    for short, name in names.items():
        if name in trial.params:
            value = trial.params[name]
            params[short] = plain(value) if isinstance(value, str) else value
    return optuna.trial.create_trial(
        state=optuna.trial.TrialState.COMPLETE,
        value=last_value(trial),
        params=params,
        distributions={short: spread[short] for short in params},
    )


def _distribution(own: Varying, name: str, trials: Sequence[TrialRecord]) -> "BaseDistribution":
    """Wide enough for points that were tried from outside of the space: first points, earlier studies."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    tried = [trial.params[name] for trial in trials if name in trial.params]
    if isinstance(own, Choice) or any(isinstance(value, str | bool) for value in tried):
        values = [plain(value) if isinstance(value, str) else value for value in tried]
        offered = own.values if isinstance(own, Choice) else ()
        known = [plain(value) if isinstance(value, str) else value for value in offered]
        return CategoricalDistribution(tuple(dict.fromkeys([*known, *sorted(values, key=str)])))
    numbers = [float(value) for value in tried]
    low, high = min([*numbers, own.low]), max([*numbers, own.high])
    log = own.log and low > 0
    if all(float(number).is_integer() for number in (*numbers, low, high)):
        return IntDistribution(int(low), int(high), log=log)
    return FloatDistribution(low, high, log=log)


@contextmanager
def _quiet() -> "Iterator[None]":
    """Optuna warns of what is meant here: experimental figures, values that are equal."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
