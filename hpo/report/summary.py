"""The closing words of a study: what won, what tuning bought, where the winner is, and what to do next.

Made from a StudySummary alone. Must not know MLflow beyond the addresses that it prints.
"""

import shlex
import shutil
import sys
from html import escape
from pathlib import Path
from urllib.parse import quote

from hpo.mlflow_client import store_option, view_path, without_password
from hpo.records import StudySummary, TrialState
from hpo.report import words
from hpo.report.findings import chosen, winners_confirmation

COMMANDS = ("look at it", "predict")
"""The parts that begin with a command."""


def summary_text(summary: StudySummary, programs: str = "") -> str:
    """Plain lines for a terminal or a log. programs: the folder, with its slash, that the shell would not search."""
    lines = [_headline(summary), ""]
    for label, text in _parts(summary):
        first, *rest = text.split("\n")
        if label in COMMANDS and not first.startswith("http"):
            first = programs + first
        lines.append(f"  {label:<12}{first}")
        lines.extend(f"  {'':<12}{line}" for line in rest)
    return "\n".join(lines)


def summary_markdown(summary: StudySummary) -> str:
    """The same words in Markdown."""
    lines = [escape(_headline(summary), quote=False), ""]
    for label, text in _parts(summary):
        code = label in COMMANDS
        body = "\n".join(f"      {line}" for line in text.split("\n"))
        flat = escape("; ".join(" ".join(line.split()) for line in text.split("\n")), quote=False)
        lines.append(f"- **{label}**\n\n{body}\n" if code else f"- **{label}**: {flat}")
    return "\n".join(lines) + "\n"


def programs() -> str:
    """Where the commands of this environment lie, as seen from here; empty where the shell finds them by itself."""
    folder = Path(sys.executable).parent
    found = shutil.which("mlflow")
    if found is not None and Path(found).parent == folder:
        return ""
    return f"{_from_here(folder)}/"


def ui_command(tracking_uri: str) -> str | None:
    """The command that serves a local store; None where a server is up already."""
    if tracking_uri.startswith(("http://", "https://")):
        return None
    return f"mlflow ui --backend-store-uri {shlex.quote(without_password(tracking_uri))}"


def ui_address(summary: StudySummary) -> str:
    """The page that shows this study's trials side by side, the best one on top."""
    local = ui_command(summary.tracking_uri) is not None
    server = "http://127.0.0.1:5000" if local else without_password(summary.tracking_uri).rstrip("/")
    if summary.experiment_id is None:
        return server
    if summary.parent_run_id is None:
        return f"{server}/#/experiments/{quote(summary.experiment_id)}/runs"
    return f"{server}/{view_path(summary.experiment_id, summary.parent_run_id)}"


def _headline(summary: StudySummary) -> str:
    total = words.count(sum(summary.counts.values()), "trial")
    states = ", ".join(f"{summary.counts[state]} {state}" for state in TrialState if summary.counts.get(state))
    return f"{summary.study}: {total} in {words.duration(summary.seconds)}" + (f" ({states})" if states else "")


def _parts(summary: StudySummary) -> list[tuple[str, str]]:
    best = summary.best
    params = ", ".join(f"{name} {words.short_value(value, 3)}" for name, value in best.final_params.items())
    scored = ("confirmed", _confirmed(summary)) if summary.confirmed else ("validation", _validation(summary))
    parts = [("winner", f"trial {best.number} ({best.origin})\n{params}"), scored]
    if test := _test(summary):
        again = words.opened_again(summary.test_opened)
        parts.append(("test", f"{test}\n{again}" if again else test))
    if summary.moved and summary.baseline is not None:
        parts.append(("the default", _moved(summary)))
    if (model := model_of(summary)) is not None:
        parts.append(("model", _model(summary, model)))
    if summary.history:
        parts.append(("history", "\n".join(summary.history)))
    if summary.tracking_uri:
        command = ui_command(summary.tracking_uri)
        address = ui_address(summary)
        parts.append(("look at it", f"{command}\n{address}" if command else address))
    if command := predict_command(summary):
        parts.append(("predict", command))
    return parts


def model_of(summary: StudySummary) -> str | None:
    """What `hpo.predict` calls the winner: its name in the registry, else the folder of its checkpoint."""
    if summary.model_uri is not None:
        return summary.model_uri
    return str(_from_here(summary.checkpoint)) if summary.checkpoint is not None else None


def weights_of(summary: StudySummary) -> str | None:
    """`trial 8, seed 2, the best of its 3 fresh seeds on the validation rows`; None for weights of the search."""
    if not summary.replicate:
        return None
    own = winners_confirmation(summary)
    seeds = len(own.values) if own is not None else 0
    among = f", the best of its {seeds} fresh seeds on the validation rows" if seeds > 1 else ""
    return f"trial {summary.best.number}, seed {summary.replicate}{among}"


def _validation(summary: StudySummary) -> str:
    best, baseline = summary.best, summary.baseline
    if best.value is None:
        return "no value"
    text = f"{summary.metric} {words.metric_value(best.value)}{_on_rows(summary.validation_rows)}"
    if baseline is None or baseline.value is None:
        return text
    if baseline.number == best.number:
        return f"{text}; the default configuration won, so tuning bought nothing"
    return (
        f"{text}; the default reaches {words.metric_value(baseline.value)}: "
        f"{words.gain(summary.metric, best.value, baseline.value)}\n"
        "(the winner was chosen on these rows: read the test for what tuning bought)"
    )


def _confirmed(summary: StudySummary) -> str:
    """The winner by the mean of its fresh seeds, what tuning bought on the same ones, how lucky first scores were."""
    metric, best = summary.metric, summary.confirmed[0]
    seeds = words.count(len(best.values), "fresh seed")
    lines = [
        f"{metric} {words.metric_value(best.mean)}{words.spread(best)}, "
        f"the {words.best_of(best.among)} over {seeds}{_on_rows(summary.validation_rows)}"
    ]
    default = summary.confirmed_baseline
    if default is best:
        lines.append("the default configuration won, so tuning bought nothing")
    elif default is not None and best.gain is not None:
        spread = words.gain_spread(metric, best.gain_low, best.gain_high, best.confidence)
        reached = words.metric_value(default.mean)
        lines.append(f"the default reaches {reached} on the same seeds: {words.gain(metric, best.gain, 0.0)}{spread}")
    own = best.optimism(summary.mode)
    first = f"its first score, {words.metric_value(best.first)}, was {words.too_good(metric, own)}"
    if (several := len(chosen(summary))) > 1:
        first += f"; those of all {several} leaders on average {words.too_good(metric, summary.optimism or 0.0)}"
    lines.append(first)
    return "\n".join(lines)


def _test(summary: StudySummary) -> str | None:
    """None where nothing was tested."""
    best = (summary.test_best or {}).get(summary.metric)
    if best is None:
        return None
    text = f"{summary.metric} {words.metric_value(best)}{_on_rows(summary.test_rows)}"
    baseline = (summary.test_baseline or {}).get(summary.metric)
    if baseline is None:
        return text
    text += f"; the default reaches {words.metric_value(baseline)}: "
    gain = summary.test_gain
    if gain is None:
        return text + words.gain(summary.metric, best, baseline)
    spread = words.gain_spread(summary.metric, gain.low, gain.high, gain.confidence)
    return text + words.gain(summary.metric, gain.gain, 0.0) + spread


def _moved(summary: StudySummary) -> str:
    """The default is not the one that everybody knows where the space has no room for it."""
    changed = ", ".join(
        f"{name} {words.short_value(now, 3)} instead of {words.short_value(usual, 3)}"
        for name, (usual, now) in summary.moved.items()
    )
    return f"moved into the space: {changed}"


def _model(summary: StudySummary, model: str) -> str:
    verdict = {"promote": ", promoted", "keep": ", the present champion is kept"}.get(summary.decision or "", "")
    lines = [f"{model}{verdict}", *summary.reasons]
    if weights := weights_of(summary):
        lines.append(f"its weights: {weights}")
    return "\n".join(lines)


def predict_command(summary: StudySummary) -> str | None:
    """None where no weights were kept."""
    model = model_of(summary)
    if model is None:
        return None
    store = store_option(summary.tracking_uri) if summary.model_uri is not None else ""
    return f"python -m hpo.predict --model {shlex.quote(model)} --input rows.tsv --output answers.tsv{store}"


def _from_here(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _on_rows(rows: int) -> str:
    return f" on {words.count(rows, 'row')}" if rows else ""
