"""How the figures of report.html look, so that all are of one piece: colours by meaning, one layout, plain text.

Colours are names that the page resolves (`var(--complete)`), once for light and once for dark; they are those of Okabe
and Ito (2008), told apart by colour-blind readers, and every state has a marker of its own too.
"""

import html
from typing import Any, TypeAlias

from hpo.records import TrialState
from hpo.space import Scalar

Figure: TypeAlias = Any
"""plotly's, which ships no types."""

COMPLETE, PRUNED, FAILED, WINNER = "var(--complete)", "var(--pruned)", "var(--failed)", "var(--winner)"
INK, MUTED, GRID, BAND, CARD = "var(--ink)", "var(--muted)", "var(--grid)", "var(--band)", "var(--card)"

GOLDEN = 0.618
"""Multiples of it, taken modulo 1, lie apart: a spread that is the same every time."""

COLORS = {TrialState.COMPLETE: COMPLETE, TrialState.PRUNED: PRUNED, TrialState.FAILED: FAILED}
MARKERS: dict[TrialState, dict[str, Any]] = {
    TrialState.COMPLETE: {"symbol": "circle", "size": 8, "color": COMPLETE, "line": {"width": 1, "color": CARD}},
    TrialState.PRUNED: {"symbol": "triangle-down-open", "size": 8, "color": PRUNED, "line": {"width": 1.4}},
    TrialState.FAILED: {"symbol": "x-thin", "size": 8, "color": FAILED, "line": {"width": 2, "color": FAILED}},
}
STAR: dict[str, Any] = {"symbol": "star", "size": 18, "color": WINNER, "line": {"width": 1, "color": INK}}


def plain(text: Scalar) -> str:
    """As text of a figure: what looks like markup stays what it is, also to plotly."""
    return html.escape(str(text), quote=False)


def finish(figure: Figure, *, height: int, legend: bool = False, below: int = 56) -> Figure:
    """The one layout of all figures. below: pixels for the words of the horizontal axis."""
    figure.update_layout(
        title=None,
        template="none",
        height=height,
        margin={"l": 64, "r": 20, "t": 44 if legend else 14, "b": below},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 13, "color": INK},
        hoverlabel={"bgcolor": CARD, "bordercolor": GRID, "font": {"color": INK}},
        showlegend=legend,
        legend={"orientation": "h", "x": 0, "xanchor": "left", "y": 1.0, "yanchor": "bottom", "traceorder": "normal"},
        hovermode="closest",
    )
    axis: dict[str, Any] = {
        "gridcolor": GRID,
        "linecolor": GRID,
        "zeroline": False,
        "automargin": True,
        "tickcolor": GRID,
    }
    axis["title"] = {"font": {"size": 13, "color": MUTED}, "standoff": 8}
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
    return figure
