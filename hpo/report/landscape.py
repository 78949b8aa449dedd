"""The landscape of a search by Optuna: which params mattered, and how they go together. The only file that knows it.

Trials become an Optuna study in memory; its figures are brought to the look of all others. A stopped trial counts with
the last value it had, which is worse than its own end would have been: it is left out of nothing, and leads nothing.
"""

import warnings
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hpo.records import StudySummary, TrialRecord, TrialState
from hpo.report import words
from hpo.report.findings import best_first, last_value
from hpo.report.look import COMPLETE, INK, MUTED, WINNER, Figure, finish, plain
from hpo.space import Choice, IntRange, Varying

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optuna.distributions import BaseDistribution
    from optuna.study import Study
    from optuna.trial import FrozenTrial

FEWEST = 8
"""Trials below which no importance is said: the best tenth of them would be one."""

LEADERS = 0.1
"""The part of the trials that counts as the best."""


def importances(
    summary: StudySummary, trials: Sequence[TrialRecord], varying: Mapping[str, Varying]
) -> dict[str, float]:
    """How much each param decides whether a trial is among the best tenth (PED-ANOVA, Watanabe et al. 2023,
    arXiv:2304.10255): shares that add up to 1, the largest first; empty where there are too few trials to say.
    Params that exist only under a condition are included."""
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    with _quiet():
        study, names = _in_memory(summary, trials, varying)
        count = len(study.trials)
        if count < FEWEST or len(names) < 2 or len({trial.value for trial in study.trials}) < 2:
            return {}
        evaluator = PedAnovaImportanceEvaluator(target_quantile=min(max(LEADERS, 5 / count), 0.5))
        found = get_param_importances(study, evaluator=evaluator)
    shares = {names[name]: share for name, share in found.items()}
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def draw_parallel(
    summary: StudySummary, trials: Sequence[TrialRecord], varying: Mapping[str, Varying]
) -> Figure | None:
    """A line a trial through all its params; the best tenth and the winner stand out."""
    import plotly.graph_objects as go
    from optuna.visualization import plot_parallel_coordinate

    with _quiet():
        study, names = _in_memory(summary, trials, varying)
        if not names or len(study.trials) < 2:
            return None
        theirs = plot_parallel_coordinate(study, params=list(names), target_name=plain(summary.metric))
    integers = {short for short, name in names.items() if isinstance(varying[name], IntRange)}
    ranked = [trial.number for trial in best_first(summary, trials) if last_value(trial) is not None]
    won = [summary.best.number]
    leaders = [number for number in ranked[: max(1, round(LEADERS * len(ranked)))] if number not in won]
    others = [number for number in ranked if number not in (*won, *leaders)]
    lines = dict(zip((trial.user_attrs["number"] for trial in study.trials), theirs.data, strict=False))
    figure = go.Figure(layout=theirs.layout)
    for layer, numbers, color, width in (
        ("others", others, MUTED, 1.0),
        ("the best tenth", leaders, COMPLETE, 1.8),
        ("winner", won, WINNER, 3.2),
    ):
        numbers = [number for number in numbers if number in lines]
        if numbers:  # one trace a layer, its lines apart by a gap: a thousand traces would take a browser seconds
            figure.add_scatter(
                x=[place for number in numbers for place in (*lines[number].x, None)],
                y=[place for number in numbers for place in (*lines[number].y, None)],
                customdata=[
                    row
                    for number in numbers
                    for row in (*((*said, number) for said in lines[number].customdata), ("", "", ""))
                ],
                mode="lines",
                name=layer,
                line={"color": color, "width": width},
                opacity=0.5 if layer == "others" else 1.0,
                hovertemplate="trial %{customdata[2]}<br>%{customdata[0]} %{customdata[1]}<extra></extra>",
            )
    whole = {place for place, label in enumerate(figure.layout.xaxis.ticktext) if label in integers}
    figure.layout.annotations = [one for one in figure.layout.annotations if one.x not in whole or "." not in one.text]
    figure.update_annotations(font={"size": 11, "color": INK})
    figure.update_shapes(line={"color": MUTED, "width": 1})
    return finish(figure, height=400, legend=True)


def draw_contour(
    summary: StudySummary, trials: Sequence[TrialRecord], varying: Mapping[str, Varying], pair: tuple[str, str]
) -> Figure | None:
    """The metric over two ranges; None where too few trials span them."""
    from optuna.visualization import plot_contour

    if any(name not in varying or isinstance(varying[name], Choice) for name in pair):
        return None
    both = [trial for trial in trials if all(name in trial.params for name in pair)]
    with _quiet():
        study, names = _in_memory(summary, both, varying)
        spans = [len({trial.params.get(name) for trial in study.trials}) for name in names]
        short = {full: name for name, full in names.items()}
        if len(study.trials) < FEWEST or min(spans) < 2 or not all(name in short for name in pair):
            return None
        figure = plot_contour(study, params=[short[name] for name in pair], target_name=plain(summary.metric))
    figure.update_traces(
        selector={"type": "contour"},
        colorscale="Cividis",
        reversescale=summary.mode == "min",
        contours={"coloring": "heatmap"},
        line={"width": 0.4, "color": "rgba(255,255,255,0.45)"},
        colorbar={"title": {"text": plain(summary.metric), "side": "right"}, "thickness": 12, "outlinewidth": 0},
        hovertemplate=f"{plain(summary.metric)} about %{{z:.4f}}<extra></extra>",
        hoverinfo=None,
    )
    figure.update_traces(
        selector={"type": "scatter"},
        marker={"color": "#FFFFFF", "size": 7, "line": {"width": 1.2, "color": "#000000"}},
    )
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
    return finish(figure, height=420)


def is_choice(own: Varying) -> bool:
    """Whether it is no range, so that nothing lies between its values."""
    return isinstance(own, Choice)


def _in_memory(
    summary: StudySummary, trials: Sequence[TrialRecord], varying: Mapping[str, Varying]
) -> "tuple[Study, dict[str, str]]":
    """All trials with a value, and the names of their params by the short ones that the figures show."""
    import optuna

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
    spread = {short: _distribution(varying[name], name, usable) for short, name in names.items()}
    study.add_trials([_frozen(trial, names, spread) for trial in usable])
    return study, names


def _frozen(trial: TrialRecord, names: Mapping[str, str], spread: "Mapping[str, BaseDistribution]") -> "FrozenTrial":
    import optuna

    params: dict[str, Any] = {}
    for short, name in names.items():
        if name in trial.params:
            value = trial.params[name]
            params[short] = plain(value) if isinstance(value, str) else value
    return optuna.trial.create_trial(
        state=optuna.trial.TrialState.COMPLETE,
        value=last_value(trial),
        params=params,
        distributions={short: spread[short] for short in params},
        user_attrs={"number": trial.number, "pruned": trial.state is TrialState.PRUNED},
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
