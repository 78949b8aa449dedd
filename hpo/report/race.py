"""What a person sees of the confirmation while it runs: its lines, and its table. Made from a board alone."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hpo.records import BASELINE, Confirmed, TrialState
from hpo.report import words
from hpo.report.board import Board, Leader, Row

if TYPE_CHECKING:
    from rich.table import Table

WIDTHS = (len("trial"), len("0.1234"), len("0.1234"), len("seeds"), len("seed 1 100 % 0.1234"), len("default"))
"""Of the table's columns, those of the params left out."""


def run_line(row: Row, board: Board, *, ended: bool) -> str:
    """`trial 3 seed 1  complete  accuracy 0.7421  (mean 0.7390 of 2 seeds, first 0.7533)`"""
    name = f"trial {row.number} seed {row.replicate:<2}"
    if ended:
        reason = f"  {words.brief(row.reason)}" if row.reason else ""
        return f"{name} {row.state:<10} {board.metric} {words.metric_value(row.value):<6}{_so_far(row, board)}{reason}"
    if row.value is None:
        return f"{name} started"
    return f"{name} {f'step {row.step}':<10} {board.metric} {words.metric_value(row.value)}"


def confirmed_line(one: Confirmed, metric: str) -> str:
    """`trial 3 confirmed: accuracy 0.7390 (95 %: 0.7301 to 0.7479) over 3 fresh seeds, first 0.7533`"""
    verdict = "is out" if one.is_out else "confirmed"
    failed = f", {words.count(one.failed, 'failed one')} besides" if one.failed else ""
    return (
        f"trial {one.number} {verdict}: {metric} {words.metric_value(one.mean)}"
        f"{words.spread(one)} over {words.count(len(one.values), 'fresh seed')}{failed}, "
        f"first {words.metric_value(one.first)}"
    )


def header(board: Board) -> list[str]:
    """The parts of the line above the table."""
    leaders = board.leaders
    ended = sum(row.state.is_finished for row in board.runs.values())
    most = f" of at most {len(leaders) * board.budget.seeds}" if board.budget.seeds else ""
    defaults = sum(leader.trial.origin == BASELINE for leader in leaders)
    parts = [f"confirming {words.leaders(len(leaders), defaults)}", f"{ended}{most} runs"]
    if leaders and leaders[0].mean is not None:
        parts.append(
            f"best mean {board.metric} {words.metric_value(leaders[0].mean)} (trial {leaders[0].trial.number})"
        )
    return parts


def table(board: Board, varying: Sequence[str], height: int) -> "Table":
    """One row a candidate, the best mean first. height: rows at most. varying: the params worth a column."""
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in ("trial", *(words.short_name(name) for name in varying), "first", "mean", "seeds"):
        made.add_column(name, justify="right", no_wrap=True)
    made.add_column("now", no_wrap=True)
    made.add_column("state", no_wrap=True)
    for place, leader in enumerate(board.leaders[: max(height, 1)]):
        params = leader.trial.params
        made.add_row(
            str(leader.trial.number),
            *(words.short_value(params[name]) if name in params else "" for name in varying),
            words.metric_value(leader.trial.value),
            words.metric_value(leader.mean),
            _seeds(leader, board.budget.seeds),
            "  ".join(_now(row) for row in leader.running),
            _state(leader, place),
            style="dim" if leader.is_out else "cyan" if leader.running else "",
        )
    return made


def _so_far(row: Row, board: Board) -> str:
    own = next(leader for leader in board.leaders if leader.trial.number == row.number)
    if row.state is not TrialState.COMPLETE or own.mean is None:
        return ""
    mean = f"mean {words.metric_value(own.mean)} of {words.count(len(own.values), 'seed')}"
    return f"  ({mean}, first {words.metric_value(own.trial.value)})"


def _seeds(leader: Leader, seeds: int | None) -> str:
    failed = f" + {leader.failed} failed" if leader.failed else ""
    return f"{len(leader.values)}{f'/{seeds}' if seeds else ''}{failed}"


def _now(row: Row) -> str:
    value = f" {words.metric_value(row.value)}" if row.value is not None else ""
    progress = f" {100 * row.progress:.0f} %" if row.progress is not None else ""
    return f"seed {row.replicate}{progress}{value}"


def _state(leader: Leader, place: int) -> str:
    if leader.is_out:
        return "out"
    if place == 0 and leader.mean is not None:
        return "leads"
    return "default" if leader.trial.origin == BASELINE else ""
