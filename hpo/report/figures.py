"""The pictures of report.md and of the notebooks, from trial records. matplotlib is imported when one is drawn.

Colours are those of Okabe and Ito (2008), told apart by colour-blind readers; every state has a marker of its own too.
"""

import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from hpo.records import StudySummary, TrialRecord, TrialState
from hpo.report import words
from hpo.report.findings import best_so_far, finite, last_value
from hpo.report.look import GOLDEN
from hpo.space import Choice, Scalar, Varying

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COMPLETE, PRUNED, FAILED, BEST, INK = "#0072B2", "#8C8C8C", "#D55E00", "#E69F00", "#333333"
PIXELS_PER_INCH = 120

Space: TypeAlias = Mapping[str, Varying]


def draw_pictures(summary: StudySummary, trials: Sequence[TrialRecord], varying: Space) -> dict[str, tuple[bytes, str]]:
    """PNG and caption by file name; those for which there is something to draw.

    varying: the params to draw, as `SearchSpace.varying` has them.
    """
    drawings = {
        "report-trials.png": (draw_trials(summary, trials), "Every trial in the order of its number."),
        "report-params.png": (draw_params(summary, trials, varying), "The metric against each param that varies."),
        "report-curves.png": (draw_curves(summary, trials), "The metric while the trials learn."),
    }
    return {name: (_png(figure), caption) for name, (figure, caption) in drawings.items() if figure is not None}


def draw_trials(summary: StudySummary, trials: Sequence[TrialRecord]) -> "Figure":
    """The metric by trial number, with the best so far and the default."""
    from matplotlib.ticker import MaxNLocator

    figure = _figure(7.5, 4.2)
    axes = figure.add_subplot()
    ordered = sorted(trials, key=lambda trial: trial.number)
    _scatter(axes, summary, [(trial.number, trial) for trial in ordered])
    path = best_so_far(summary, ordered)
    if path:
        axes.step(*zip(*path, strict=True), where="post", color=INK, linewidth=1.2, label="best so far", zorder=1)
    if summary.baseline is not None and summary.baseline.value is not None:
        axes.axhline(summary.baseline.value, color=INK, linewidth=0.9, linestyle=":", label="default", zorder=0)
    axes.set(xlabel="trial", ylabel=f"validation {summary.metric}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(figure, axes)
    return figure


def draw_params(summary: StudySummary, trials: Sequence[TrialRecord], varying: Space) -> "Figure | None":
    """One small panel a param; None where nothing varies."""
    names = [name for name in varying if any(name in trial.params for trial in trials)]
    if not names:
        return None
    columns = 2 if len(names) in (2, 4) else min(len(names), 3)
    rows = math.ceil(len(names) / columns)
    figure = _figure(3.1 * columns + 0.6, 2.5 * rows + 0.6)
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    panels = list(grid.flat)
    for axes, name in zip(panels, names, strict=False):
        place = _places(axes, varying[name])
        _scatter(axes, summary, [(place(trial, trial.params[name]), trial) for trial in trials if name in trial.params])
        axes.set_xlabel(name)
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    for row in grid:
        row[0].set_ylabel(summary.metric)
    _legend(figure, panels[0])
    return figure


def draw_curves(summary: StudySummary, trials: Sequence[TrialRecord]) -> "Figure | None":
    """The metric against the epochs trained, which trials of any batch size share; None without a curve."""
    drawn = [trial for trial in trials if finite(trial.curve)]
    if not drawn:
        return None
    figure = _figure(7.5, 4.2)
    axes = figure.add_subplot()
    by_epochs = all("num_train_epochs" in trial.params for trial in drawn)
    styles: dict[TrialState, dict[str, Any]] = {
        TrialState.COMPLETE: {"color": COMPLETE, "alpha": 0.75, "linewidth": 1.3, "zorder": 3},
        TrialState.PRUNED: {"color": PRUNED, "alpha": 0.6, "linewidth": 1.0, "linestyle": "--", "zorder": 2},
        TrialState.FAILED: {"color": FAILED, "alpha": 0.8, "linewidth": 1.0, "linestyle": ":", "zorder": 2},
    }
    labelled = set()
    for trial in sorted(drawn, key=lambda trial: trial.number == summary.best.number):
        won = trial.number == summary.best.number
        style: dict[str, Any] | None = (
            {"color": BEST, "linewidth": 2.4, "zorder": 4} if won else styles.get(trial.state)
        )
        if style is None:
            continue
        label = f"trial {trial.number}, the winner" if won else str(trial.state)
        parts, values = zip(*finite(trial.curve).items(), strict=True)
        whole = float(trial.params["num_train_epochs"]) if by_epochs else 1.0
        seen = [part * whole for part in parts]
        axes.plot(seen, values, marker="o", markersize=3.2, label=None if label in labelled else label, **style)
        labelled.add(label)
    _open_frame(axes)
    axes.set(
        xlabel="epochs trained" if by_epochs else "part of the trial's own training",
        ylabel=f"validation {summary.metric}",
    )
    axes.set_xlim(left=0)
    _legend(figure, axes)
    return figure


def _figure(width: float, height: float) -> "Figure":
    """Without pyplot: no window, no global state, any thread."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=PIXELS_PER_INCH, layout="constrained", facecolor="white")


def _scatter(axes: "Axes", summary: StudySummary, points: Sequence[tuple[float, TrialRecord]]) -> None:
    """Complete trials full, pruned ones hollow at the value they had when they were stopped, failed ones as ticks
    at the foot, the winner starred."""
    from matplotlib.transforms import blended_transform_factory

    _open_frame(axes)
    groups: dict[TrialState, list[tuple[float, float]]] = {TrialState.COMPLETE: [], TrialState.PRUNED: []}
    for place, trial in points:
        value = last_value(trial)
        if trial.state in groups and value is not None and trial.number != summary.best.number:
            groups[trial.state].append((place, value))
    _mark(axes, groups[TrialState.COMPLETE], s=30, color=COMPLETE, label="complete", zorder=3)
    _mark(
        axes,
        groups[TrialState.PRUNED],
        s=26,
        marker="v",
        facecolors="none",
        edgecolors=PRUNED,
        label="pruned",
        zorder=2,
    )
    failed = [place for place, trial in points if trial.state is TrialState.FAILED]
    if failed:
        foot = blended_transform_factory(axes.transData, axes.transAxes)
        axes.scatter(
            failed, [0.02] * len(failed), s=30, marker="x", color=FAILED, label="failed", transform=foot, zorder=3
        )
    for place, trial in points:
        if trial.number == summary.best.number and trial.value is not None:
            axes.scatter(
                place,
                trial.value,
                s=170,
                marker="*",
                color=BEST,
                edgecolors=INK,
                linewidths=0.6,
                label="winner",
                zorder=4,
            )


def _mark(axes: "Axes", points: Sequence[tuple[float, float]], **style: Any) -> None:
    if points:
        axes.scatter([place for place, _ in points], [value for _, value in points], **style)


def _places(axes: "Axes", parameter: Varying) -> Callable[[TrialRecord, Scalar], float]:
    """Where a trial with this value lies on the horizontal axis, which is set up for it; choices are spread a bit."""
    if isinstance(parameter, Choice):
        names = [words.short_value(value) for value in parameter.values]
        axes.set_xticks(range(len(names)), names)
        axes.set_xlim(-0.6, len(names) - 0.4)
        return lambda trial, value: (
            parameter.values.index(parameter.nearest(value)) + 0.3 * (trial.number * GOLDEN % 1 - 0.5)
        )
    if parameter.log:
        from matplotlib.ticker import LogLocator, NullFormatter

        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0), numticks=5))
        axes.xaxis.set_major_formatter("{x:.0e}")
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.locator_params(axis="x", nbins=5)
    return lambda trial, value: float(value)


def _open_frame(axes: "Axes") -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#E5E5E5", linewidth=0.7)
    axes.set_axisbelow(True)


def _legend(figure: "Figure", axes: "Axes") -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=len(labels), frameon=False, fontsize=9)


def _png(figure: "Figure") -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})  # the same trials give the same bytes
    return buffer.getvalue()
