"""Where the winner is wrong on the test rows, whether its probabilities can be believed, and why it answers so: the
sections and figures of both pages, and the files that hold all of it. Must not know HTML or Markdown.
"""

import csv
import io
import math
from collections.abc import Sequence

from hpo.records import Bin, Confusion, Explained, Mistakes, Reliability, StudySummary
from hpo.report import words
from hpo.report.look import CARD, COMPLETE, INK, MUTED, Figure, finish, plain
from hpo.report.parts import Cell, Chart, Line, Section, Shaded, Table

SHOWN = 12
"""Rows on the page; the file has more."""

TEXT = 280
"""Characters of a row's text on the page."""

MOST_CLASSES = 30
"""Of a matrix that can be read; of more, the commonest confusions are listed."""

ERRORS, MATRIX = "report-errors.jsonl", "report-confusion.csv"


def errors_section(summary: StudySummary) -> Section | None:
    """None where nothing was looked at."""
    review = summary.review
    if review is None:
        return None
    paragraphs, charts, tables = [], [], []
    if review.mistakes is not None:
        paragraphs.append(_how_many(review.mistakes, summary.test_rows))
    if review.confusion is not None:
        is_small = len(review.confusion.labels) <= MOST_CLASSES
        if is_small:
            charts.append(_matrix(review.confusion))
        if len(review.confusion.labels) > 2:
            tables.append(_pairs(review.confusion, SHOWN // 2 if is_small else SHOWN))
    if review.reliability is not None:
        paragraphs.append(_believed(review.reliability))
        charts.append(_reliability(review.reliability))
    if review.mistakes is not None and review.mistakes.rows:
        tables.append(_worst(review.mistakes))
    tables = [table for table in tables if table.rows]
    if not paragraphs and not charts and not tables:
        return None
    return Section("errors", "Where it is wrong", tuple(paragraphs), charts=tuple(charts), tables=tuple(tables))


def why_section(summary: StudySummary) -> Section | None:
    """None where nothing was to be explained."""
    review = summary.review
    if review is None or not (review.explained or review.unexplained):
        return None
    if not review.explained:
        return Section("why", "Why it answers so", (f"Not explained: {review.unexplained}.",))
    gap = max(abs(own.gap) for own in review.explained)
    least = min(abs(own.logit - own.baseline) for own in review.explained)
    paragraphs = (
        "Some answers on the test rows, the worst ones and right ones, token by token.",
        "These are integrated gradients (Sundararajan et al. 2017) over the word embeddings, from nothing but padding "
        "to the text itself. The weights of a row should add up to the difference that the text makes to the answer's "
        f"logit: they miss it by {gap:.2g} at most, and the smallest of these differences is {least:.2g}.",
    )
    return Section("why", "Why it answers so", paragraphs, shaded=tuple(map(_shaded, review.explained)))


def _shaded(own: Explained) -> Shaded:
    verdict = "right"
    if own.truth != own.said:
        verdict = f"{'close' if own.is_right else 'wrong'}, it is {_cut(own.truth)}"
    note = f"logit of {_cut(own.output)} {own.logit:.2f}, without any words {own.baseline:.2f}"
    return Shaded(f"Row {own.row}: {_cut(own.said)} ({verdict})", note, own.pieces)


def on_test(summary: StudySummary) -> Table:
    """Before and after: the winner, the default configuration, and the model without any training."""
    sides = {"winner": summary.test_best, "default": summary.test_baseline, "untrained": summary.test_untrained}
    there = {name: found for name, found in sides.items() if name != "untrained" or found}
    rows = tuple(
        Line((Cell(name), *(_figure((found or {}).get(name)) for found in there.values())))
        for name in summary.test_best or {}
    )
    often = f"{len(summary.test_opened)} times" if len(summary.test_opened) > 1 else "once"
    title = f"On the test split ({words.count(summary.test_rows, 'row')}), opened {often}"
    return Table(title, ("metric", *there), rows)


def _figure(value: float | None) -> Cell:
    return Cell(words.metric_value(value), value)


def review_files(summary: StudySummary) -> dict[str, bytes]:
    """Contents by file name: the worst rows, one JSON object a line; the whole confusion matrix, true classes down."""
    found: dict[str, bytes] = {}
    review = summary.review
    if review is None:
        return found
    if review.mistakes is not None:
        found[ERRORS] = "".join(f"{row.model_dump_json()}\n" for row in review.mistakes.rows).encode()
    if review.confusion is not None:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["true class", *review.confusion.labels])
        for name, row in zip(review.confusion.labels, counts_of(review.confusion), strict=True):
            writer.writerow([name, *row])
        found[MATRIX] = text.getvalue().encode()
    return found


def counts_of(confusion: Confusion) -> list[list[int]]:
    """One list for each true class: rows by what was said."""
    counts = [[0] * len(confusion.labels) for _ in confusion.labels]
    for true, said, rows in confusion.cells:
        counts[true][said] = rows
    return counts


def _how_many(mistakes: Mistakes, rows: int) -> str:
    kept = len(mistakes.rows)
    more = f" {'All' if kept == mistakes.wrong else f'The worst {kept}'} are in {ERRORS}." if kept > SHOWN else ""
    if mistakes.wrong is None:
        return f"The largest errors of the winner on {words.count(rows, 'test row')}.{more}"
    if mistakes.wrong == 0:
        return f"Of {words.count(rows, 'test row')} the winner answers none wrong."
    return f"Of {words.count(rows, 'test row')} the winner answers {mistakes.wrong:,} wrong.{more}"


def _worst(mistakes: Mistakes) -> Table:
    rows = tuple(
        Line(
            (
                Cell(str(own.row), own.row),
                Cell(_cut(own.text)),
                Cell(_cut(own.truth)),
                Cell(_cut(own.said)),
                Cell(f"{own.score:.4g}", own.score),
            )
        )
        for own in mistakes.rows[:SHOWN]
    )
    return Table("The worst answers on the test split", ("row", "text", "truth", "answer", mistakes.score), rows)


def _cut(text: str) -> str:
    return text if len(text) <= TEXT else f"{text[: TEXT - 3]}..."


def _pairs(confusion: Confusion, most: int) -> Table:
    """The commonest confusions: for who cannot see the matrix, or where it would be too large."""
    wrong = sorted((own for own in confusion.cells if own[0] != own[1]), key=lambda own: -own[2])
    of = {number: sum(row) for number, row in enumerate(counts_of(confusion))}
    rows = tuple(
        Line(
            (
                Cell(confusion.labels[true]),
                Cell(confusion.labels[said]),
                Cell(f"{count:,}", count),
                Cell(f"{count / of[true]:.1%}", count / of[true]),
            )
        )
        for true, said, count in wrong[:most]
    )
    return Table("What is taken for what", ("true class", "taken for", "rows", "of its class"), rows)


def _matrix(confusion: Confusion) -> Chart:
    counts = counts_of(confusion)
    right = sum(row[number] for number, row in enumerate(counts))
    alt = f"Confusion matrix of {len(counts)} classes: {right:,} of {sum(map(sum, counts)):,} rows on the diagonal"
    caption = "Rows by true class (down) and by answer (across); the colour is the share of the true class."
    said = f"{alt} ({MATRIX})."
    return Chart("confusion", draw_confusion(confusion.labels, counts), caption, alt, said)


def draw_confusion(labels: Sequence[str], counts: Sequence[Sequence[int]]) -> Figure:
    """counts: one list for each true class."""
    import plotly.graph_objects as go

    places = list(range(len(labels)))
    names = [plain(name if len(name) <= 24 else f"{name[:21]}...") for name in labels]
    shares = [[count / max(1, sum(row)) for count in row] for row in counts]
    figure = go.Figure()
    figure.add_heatmap(
        x=places,
        y=places,
        z=shares,
        zmin=0.0,
        zmax=1.0,
        colorscale=[[0.0, CARD], [1.0, COMPLETE]],
        showscale=False,
        xgap=2,
        ygap=2,
        text=[[f"{count:,}" if count else "" for count in row] for row in counts],
        texttemplate="%{text}",
        customdata=[[f"{plain(true)} as {plain(said)}" for said in labels] for true in labels],
        hovertemplate="%{customdata}: %{text} rows, %{z:.1%} of the class<extra></extra>",
    )
    ticks = {"tickmode": "array", "tickvals": places, "ticktext": names, "showgrid": False}
    figure.update_xaxes(title="answer", constrain="domain", constraintoward="left", **ticks)
    figure.update_yaxes(title="true class", autorange="reversed", scaleanchor="x", constrain="domain", **ticks)
    return finish(figure, height=140 + max(4, len(labels)) * (44 if len(labels) <= 12 else 28), below=90)


def _believed(own: Reliability) -> str:
    text = (
        f"Its probabilities are off by {_points(own.error)} on average (expected calibration error of the test rows); "
        f"on the whole it is {_side(own.bins)}."
    )
    rows = words.count(own.fitted_on, "validation row")
    if own.temperature == 1.0:
        return f"{text} No temperature was fitted: it answers all {rows} right."
    return (
        f"{text} With its logits divided by {own.temperature:.2f}, the temperature that fits {rows} best (Guo et al. "
        f"2017), they are off by {_points(own.error_after)}; the answers stay what they are."
    )


def _points(error: float) -> str:
    return f"{100 * error:.1f} points"


def _side(bins: Sequence[Bin]) -> str:
    """Whether it claims too much or too little, over all rows."""
    rows = sum(own.rows for own in bins)
    gap = sum(own.rows * (own.sure - own.right) for own in bins) / max(1, rows)
    if math.isclose(gap, 0.0, abs_tol=0.002):
        return "neither too sure nor too modest"
    return f"{_points(abs(gap))} too {'sure' if gap > 0 else 'modest'}"


def _reliability(own: Reliability) -> Chart:
    alt = f"Reliability: calibration error {own.error:.4f}, {own.error_after:.4f} at temperature {own.temperature:.2f}"
    caption = (
        "How often answers are right against how sure they are. Below the line the model is too sure of itself. The "
        "more rows a dot stands for, the larger it is."
    )
    return Chart("reliability", draw_reliability(own), caption, alt)


def draw_reliability(own: Reliability) -> Figure:
    import plotly.graph_objects as go

    figure = go.Figure()
    lowest = min((one.sure for one in (*own.bins, *own.bins_after)), default=0.0)
    start = max(0.0, math.floor(10 * lowest) / 10)
    figure.add_scatter(
        x=[start, 1.0],
        y=[start, 1.0],
        mode="lines",
        name="as sure as right",
        line={"color": MUTED, "width": 1, "dash": "dot"},
        hoverinfo="skip",
    )
    shown = [("as it is", own.bins, MUTED, "diamond")]
    if own.temperature != 1.0:
        shown.append((f"temperature {own.temperature:.2f}", own.bins_after, COMPLETE, "circle"))
    most = max((one.rows for one in (*own.bins, *own.bins_after)), default=1)
    for name, bins, color, symbol in shown:
        figure.add_scatter(
            x=[one.sure for one in bins],
            y=[one.right for one in bins],
            mode="lines+markers",
            name=name,
            line={"color": color, "width": 1.5},
            marker={
                "symbol": symbol,
                "color": color,
                "size": [7 + 15 * math.sqrt(one.rows / most) for one in bins],
                "line": {"width": 1, "color": INK},
            },
            customdata=[one.rows for one in bins],
            hovertemplate="%{customdata} rows: %{x:.1%} sure, %{y:.1%} right<extra></extra>",
        )
    figure.update_xaxes(title="probability of the answer", tickformat=".0%", range=[start - 0.02, 1.02])
    figure.update_yaxes(title="share that is right", tickformat=".0%", range=[-0.03, 1.05])
    return finish(figure, height=380, legend=True)
