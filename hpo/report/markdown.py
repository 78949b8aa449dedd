"""`report.md`: the words and tables of report.html, for whoever reads a text. Pictures stand in for its figures."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from hpo.records import StudySummary, TrialRecord, TrialState
from hpo.report.answers import answers, can_i_have_it
from hpo.report.parts import Section, Table
from hpo.report.summary import summary_markdown

ROWS = 25
"""Of a table that can be sorted, the page has all rows and this one the first ones."""

WITH_PICTURE = {"history": "report-trials.png", "params": "report-params.png", "curves": "report-curves.png"}
"""Sections that show a picture."""


def report_markdown(
    summary: StudySummary, trials: Sequence[TrialRecord], parts: Sequence[Section], pictures: Mapping[str, str]
) -> str:
    """pictures: captions by the names of the files that lie beside the page."""
    said = answers(summary, trials)
    lines = [f"# {_text(summary.study)}", "", f"**{_text(said.headline)}**", ""]
    lines += [f"- {tile.question}: **{_text(tile.figure)}**, {_text(tile.note)}" for tile in said.tiles]
    lines += [f"- Can I have it? {_text(can_i_have_it(summary))}", ""]
    if said.caution:
        lines += [f"> Read with care. {_text(said.caution)}", ""]
    lines += [summary_markdown(summary).rstrip(), ""]
    for part in parts:
        lines += _section(part, pictures)
    return "\n".join(lines)


def failures_markdown(study: str, trials: Sequence[TrialRecord], failures: Section | None) -> str:
    """Of a study in which no trial finished."""
    counts = Counter(trial.state for trial in trials)
    states = ", ".join(f"{counts[state]:,} {state}" for state in TrialState if counts[state])
    lines = [f"# {_text(study)}", "", f"**No trial finished, so there is no winner** ({states or 'none began'}).", ""]
    return "\n".join([*lines, *(_section(failures, {}) if failures else [])])


def _section(part: Section, pictures: Mapping[str, str]) -> list[str]:
    lines = [f"## {part.title}", ""]
    for paragraph in part.paragraphs:
        lines += [_text(paragraph), ""]
    if part.points:
        lines += [*(f"- {_text(point)}" for point in part.points), ""]
    picture = WITH_PICTURE.get(part.anchor)
    if picture is not None and picture in pictures:
        lines += [f"![{pictures[picture]}]({picture})", ""]
    for chart in part.charts:
        lines += [_text(chart.said), ""] if chart.said else []
    for table in part.tables:
        lines += [*_table(table), ""]
    for own in part.shaded:
        weighed = f"for it {own.heaviest(1)}; against it {own.heaviest(-1)}"
        lines += [f"- **{_text(own.title)}** ({_text(own.note)}): {_text(weighed)}"]
    lines += [""] if part.shaded else []
    for title, text in part.listings:
        lines += [f"{title}:", "", *(f"    {line}" for line in text.splitlines()), ""]
    return lines


def _table(table: Table) -> list[str]:
    rows = table.rows[:ROWS] if table.sortable else table.rows
    shown = f" ({ROWS} of {len(table.rows):,})" if len(rows) < len(table.rows) else ""
    lines = [f"**{_text(table.title)}**{shown}", ""]
    lines += ["| " + " | ".join(map(_text, table.heads)) + " |", "|" + " --- |" * len(table.heads)]
    return lines + ["| " + " | ".join(_text(cell.text) for cell in row.cells) + " |" for row in rows]


def _text(text: str) -> str:
    """One line that stays text: neither HTML nor a cell's end."""
    flat = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")
    return re.sub(r"([*`\[\]])", r"\\\1", flat)
