"""`report.html`, one file that needs no network, and the writing of a study's report. Owns how sections become files.

The page holds plotly's own library once, compressed, which a browser unpacks. All text goes through Jinja's escaping.
"""

import base64
import gzip
import json
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from hpo.durable import replacing
from hpo.records import StudySummary, TrialRecord
from hpo.report import words
from hpo.report.answers import answers, can_i_have_it
from hpo.report.figures import draw_pictures
from hpo.report.findings import Background, of_search
from hpo.report.markdown import failures_markdown, report_markdown
from hpo.report.parts import Section
from hpo.report.review import review_files
from hpo.report.sections import failures_section, sections
from hpo.report.summary import predict_command, ui_command
from hpo.space import Scalar

ASSETS = Path(__file__).parent / "assets"


def write_report(
    folder: Path, summary: StudySummary, trials: Sequence[TrialRecord], background: Background
) -> tuple[Path, ...]:
    """Write `report.html`, `report.md`, the pictures of the latter and the winner's errors under `folder`, over those
    of an earlier run.

    trials: as the ledger has them; retrainings over fresh seeds among them are left out.
    """
    searched = of_search(trials)
    parts = sections(summary, searched, background)
    pictures = draw_pictures(summary, searched, background.varying)
    page = folder / "report.html"
    text = folder / "report.md"
    _replace(page, report_html(summary, searched, background, parts).encode())
    _replace(
        text, report_markdown(summary, searched, parts, {name: said for name, (_, said) in pictures.items()}).encode()
    )
    files = {name: content for name, (content, _) in pictures.items()} | review_files(summary)
    for name, content in files.items():
        _replace(folder / name, content)
    return (page, text, *(folder / name for name in files))


def write_failures(folder: Path, study: str, trials: Sequence[TrialRecord]) -> Path:
    """Write `report.md` of a study in which no trial finished, in place of the report of any earlier winner."""
    text = folder / "report.md"
    _replace(text, failures_markdown(study, trials, failures_section(of_search(trials))).encode())
    (folder / "report.html").unlink(missing_ok=True)
    return text


def report_html(
    summary: StudySummary, trials: Sequence[TrialRecord], background: Background, parts: Sequence[Section]
) -> str:
    """The whole page. parts: the sections below the first screen."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(loader=FileSystemLoader(ASSETS), autoescape=True, undefined=StrictUndefined)
    drawn = {chart.name: json.loads(chart.figure.to_json()) for part in parts for chart in part.charts}
    for figure in drawn.values():
        figure["layout"].pop("template", None)
    return environment.get_template("page.html").render(
        summary=summary,
        about=_about(summary, background),
        answers=answers(summary, trials),
        have=can_i_have_it(summary),
        commands=_commands(summary),
        params=_params(summary, background),
        sections=parts,
        footer=f"Written by bert-hpo{_release()} from the trials of the study. Works without a network.",
        style=Markup((ASSETS / "page.css").read_text("utf-8")),
        script=Markup((ASSETS / "page.js").read_text("utf-8")),
        figures=Markup(_as_script(drawn)),
        library=Markup(_library()),
    )


def _release() -> str:
    """Nothing where the program runs from its checkout without being installed."""
    try:
        return f" {version('bert-hpo')}"
    except PackageNotFoundError:
        return ""


def _as_script(values: object) -> str:
    """JSON that cannot end the script element that it lies in."""
    text = json.dumps(values, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@cache
def _library() -> str:
    """plotly.js, gzip in base64: 2 MB instead of 5. The same bytes every time."""
    from plotly.offline import get_plotlyjs

    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), 9, mtime=0)).decode()


def _about(summary: StudySummary, background: Background) -> str:
    named = [
        str(background.params[name]) for name in ("model", "task", "sampler", "scheduler") if name in background.params
    ]
    direction = "higher" if summary.mode == "max" else "lower"
    return " · ".join([*named, f"{summary.metric}, {direction} is better"])


def _commands(summary: StudySummary) -> list[str]:
    commands = [command] if (command := predict_command(summary)) else []
    if summary.tracking_uri and (command := ui_command(summary.tracking_uri)):
        commands.append(command)
    return commands


def _params(summary: StudySummary, background: Background) -> list[tuple[str, str, bool]]:
    """(name, value, whether it was searched) of the winner, the searched ones first."""
    params: dict[str, Scalar] = summary.best.final_params
    rows = [(name, words.short_value(value, 3), name in background.varying) for name, value in params.items()]
    return sorted(rows, key=lambda row: not row[2])


def _replace(path: Path, content: bytes) -> None:
    with replacing(path) as stream:
        stream.write(content)
