"""What a study answers, in words for a first screen: what won, how sure, what it bought, what it cost, can I have it.

Made from records alone; both pages say it. Must not know HTML or Markdown.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hpo.records import StudySummary, TrialRecord
from hpo.report import words
from hpo.report.findings import (
    GRID,
    Gain,
    best_of,
    epochs_of,
    gain_on_test,
    gain_over,
    gain_over_seeds,
    spared,
    winners_confirmation,
)
from hpo.report.summary import model_of, weights_of

FEW_ROWS = 300
"""Rows below which chance moves a share of them by up to six points, and more: what that comes to is said."""

SHARES = frozenset({"accuracy", "exact_match"})
"""Metrics that are the share of rows that are right."""


@dataclass(frozen=True, slots=True)
class Tile:
    """One big figure. question: what it answers. note: what it is of, in a line or two."""

    question: str
    figure: str
    note: str


@dataclass(frozen=True, slots=True)
class Answers:
    """headline: the study in one sentence. caution: why not to read more into it; None where there is no reason."""

    headline: str
    tiles: tuple[Tile, ...]
    caution: str | None = None


def answers(summary: StudySummary, trials: Sequence[TrialRecord]) -> Answers:
    """trials: those of the search."""
    tiles = (_won(summary), _sure(summary), _bought(summary, trials), _cost(summary, trials))
    return Answers(_headline(summary), tiles, _caution(summary))


def can_i_have_it(summary: StudySummary) -> str:
    """A sentence or two; the reasons are in the summary."""
    if (model := model_of(summary)) is None:
        return "This study promotes nothing, and no checkpoint was kept."
    weights = weights_of(summary)
    of = f" Its weights are those of {weights}." if weights else ""
    if summary.model_uri is None:
        return f"This study promotes nothing; the winner's checkpoint is {model}.{of}"
    if summary.decision == "promote":
        return f"Yes: it is the champion now, {model}.{of}"
    if summary.decision == "keep":
        return f"Not as champion: the present one is kept. It is registered as {model}.{of}"
    return f"It is registered as {model}.{of}"


def gains(summary: StudySummary, trials: Sequence[TrialRecord]) -> list[tuple[str, str, Gain]]:
    """(over whom, on what, how much): the most trustworthy first."""
    rows: list[tuple[str, str, Gain | None]] = [
        ("the default", f"test split{_rows(summary.test_rows)}", gain_on_test(summary)),
        (
            "the default",
            f"validation{_rows(summary.validation_rows)}, means over fresh seeds",
            gain_over_seeds(summary),
        ),
        (
            "the default",
            f"validation{_rows(summary.validation_rows)}, first scores",
            gain_over(summary, summary.baseline),
        ),
        (
            "the best of the BERT paper's grid",
            f"validation{_rows(summary.validation_rows)}, first scores",
            gain_over(summary, best_of(summary, trials, GRID)),
        ),
    ]
    return [(rival, rows_, gain) for rival, rows_, gain in rows if gain is not None]


def gain_text(summary: StudySummary, gain: Gain) -> str:
    """`+2.2 points (95 %: +0.4 to +4.0)`, above zero where the winner is better."""
    text = words.gain(summary.metric, _better_by(summary, gain), 0.0)
    return text + words.gain_spread(summary.metric, gain.low, gain.high, gain.confidence)


def gain_in_words(summary: StudySummary, gain: Gain) -> str:
    """`2.2 points better than`."""
    better = _better_by(summary, gain)
    if not better:
        return "level with"
    size = words.gain(summary.metric, abs(better), 0.0).removeprefix("+")
    return f"{size} {'better' if better > 0 else 'worse'} than"


def _better_by(summary: StudySummary, gain: Gain) -> float:
    return gain.winner - gain.rival if summary.mode == "max" else gain.rival - gain.winner


def _headline(summary: StudySummary) -> str:
    best = summary.best
    who = "The default configuration" if summary.is_default_best else f"Trial {best.number}"
    own = winners_confirmation(summary)
    on_test = (summary.test_best or {}).get(summary.metric)
    if on_test is not None:
        score = f"{words.metric_value(on_test)} on the test rows"
    elif own is not None:
        score = f"{words.metric_value(own.mean)} over {words.count(len(own.values), 'fresh seed')}"
    else:
        score = f"{words.metric_value(best.value)} on the validation rows"
    gain = gain_on_test(summary) or gain_over_seeds(summary) or gain_over(summary, summary.baseline)
    if gain is None or summary.is_default_best:
        return f"{who} wins with {summary.metric} {score}."
    return f"{who} wins with {summary.metric} {score}, {gain_in_words(summary, gain)} the default."


def _won(summary: StudySummary) -> Tile:
    best = summary.best
    note = f"trial {best.number}, proposed by {best.origin}"
    on_test = (summary.test_best or {}).get(summary.metric)
    if on_test is not None:
        of = f"{summary.metric} on {words.count(summary.test_rows, 'test row')}" if summary.test_rows else "test"
        return Tile("What won", words.metric_value(on_test), f"{of}; {note}")
    own = winners_confirmation(summary)
    if own is not None:
        return Tile(
            "What won", words.metric_value(own.mean), f"validation {summary.metric}, mean of fresh seeds; {note}"
        )
    return Tile("What won", words.metric_value(best.value), f"validation {summary.metric}; {note}")


def _sure(summary: StudySummary) -> Tile:
    own = winners_confirmation(summary)
    if own is None:
        return Tile("How sure", "one seed", "not retrained over fresh seeds: the score holds some luck")
    seeds = words.count(len(own.values), "fresh seed")
    optimism = f"the first score was {words.too_good(summary.metric, own.optimism(summary.mode))}"
    if own.is_alike:
        note = f"validation, {seeds}: they say nothing of how far it may stray"
        return Tile("How sure", words.interval(own), note)
    if own.low is None:
        return Tile("How sure", words.metric_value(own.mean), f"validation, mean of {seeds}, no interval; {optimism}")
    of = f"{own.confidence:.0%} interval of the validation mean over {seeds}, on the same rows"
    return Tile("How sure", words.interval(own, ".3f"), f"{of}; {optimism}")


def _bought(summary: StudySummary, trials: Sequence[TrialRecord]) -> Tile:
    if summary.is_default_best:
        return Tile("What it bought", "nothing", "the default configuration won: nothing tried here beats it")
    found = gains(summary, trials)
    if not found:
        return Tile("What it bought", "unknown", "no default was trained beside it; search.first can ask for one")
    rival, where, gain = found[0]
    figure = words.gain(summary.metric, _better_by(summary, gain), 0.0).replace(" points", " pts")
    note = f"over {rival} on the {where}{words.gain_spread(summary.metric, gain.low, gain.high, gain.confidence)}"
    grid = next((one for one in found if "grid" in one[0] and one[0] != rival), None)
    if grid is not None:
        note += f"; {gain_text(summary, grid[2])} over {grid[0]} on the validation rows"
    return Tile("What it bought", figure, note)


def _cost(summary: StudySummary, trials: Sequence[TrialRecord]) -> Tile:
    each = {trial.number: epochs_of(trial) for trial in trials}
    epochs = sum(each.values())
    again = sum(len(own.values) * each.get(own.number, 0.0) for own in summary.confirmed)
    note = words.count(len(trials), "trial") + (f", {epochs:,.0f} epochs of search" if epochs else "")
    note += f" and {again:,.0f} of confirmation" if again else ""
    saved = spared(trials)
    if saved.epochs:
        note += f"; early stopping spared {saved.share:.0%} of the search"
    return Tile("What it cost", words.duration(summary.seconds), note)


def _caution(summary: StudySummary) -> str | None:
    return " ".join(filter(None, (_luck(summary), _few_rows(summary)))) or None


def _few_rows(summary: StudySummary) -> str | None:
    """How far chance goes where few rows judge."""
    on_test = (summary.test_best or {}).get(summary.metric)
    scores = (("test", summary.test_rows, on_test), ("validation", summary.validation_rows, summary.best.value))
    found = []
    for split, rows, score in scores:
        if score is None or not 0 < rows < FEW_ROWS:
            continue
        said = f"{words.count(rows, split + ' row')} {'is' if rows == 1 else 'are'} few"
        if summary.metric not in SHARES:
            found.append(f"{said}: others would give another {summary.metric}.")
            continue
        reach = 100 * chance(score, rows)
        found.append(
            f"{said}: by the choice of rows alone, a share of {score:.2f} of them is uncertain by {reach:.0f} points "
            "to either side (95 %)."
        )
    return " ".join(found) or None


def chance(share: float, rows: int) -> float:
    """Half the width of Wilson's 95 % interval (1927) of a share of so many rows."""
    z = 1.96
    return z * math.sqrt(share * (1 - share) / rows + z**2 / (4 * rows**2)) / (1 + z**2 / rows)


def _luck(summary: StudySummary) -> str | None:
    gain = gain_on_test(summary)
    if gain is not None and gain.low is not None and gain.high is not None and gain.low <= 0.0 <= gain.high:
        return (
            "On so few test rows the gain over the default lies within what chance alone makes of two equal models"
            f"{words.gain_spread(summary.metric, gain.low, gain.high, gain.confidence)}."
        )
    if gain is None and winners_confirmation(summary) is None:
        return (
            "The winner was chosen on the rows it is scored on, by one seed. "
            "Confirmation over fresh seeds and a test split would say how much of it is luck."
        )
    return None


def _rows(count: int) -> str:
    return f" ({words.count(count, 'row')})" if count else " rows"
