"""What a report says after its first screen, section by section: words, figures, tables. Both pages render it.

Made from records alone. Must not know HTML or Markdown.
"""

from collections.abc import Sequence

from hpo.records import StudySummary, TrialRecord, TrialState
from hpo.report import balance, charts, landscape, words
from hpo.report.answers import gain_text, gains
from hpo.report.findings import (
    Background,
    best_first,
    chosen,
    epochs_of,
    evidence,
    expected_best,
    failures,
    finite,
    last_value,
    prunings,
    spared,
    spending,
    survivors,
    winners_confirmation,
)
from hpo.report.parts import Cell, Chart, Line, Section, Table, breakdown_table, number_cell, param_cell
from hpo.report.review import errors_section, on_test, why_section
from hpo.report.setting import set_up

ROUGH = 50
"""Trials below which an importance is a rough guess; below `landscape.ENOUGH` nothing is said of it."""


def sections(summary: StudySummary, trials: Sequence[TrialRecord], background: Background) -> list[Section]:
    """Those that have something to say. trials: those of the search, by number."""
    known = evidence(trials)
    found = [
        _winner(summary, known),
        errors_section(summary),
        why_section(summary),
        _history(summary, known),
        _pareto(summary, known),
        _params(summary, known, background),
        _curves(summary, known, background),
        _effort(summary, trials),
        failures_section(trials),
        _evidence(summary),
        _trials(summary, trials, background),
        set_up(background),
    ]
    return [section for section in found if section is not None]


def _winner(summary: StudySummary, trials: Sequence[TrialRecord]) -> Section:
    paragraphs, tables, shown = [], [], []
    own, several = winners_confirmation(summary), chosen(summary)
    who = words.leaders(len(summary.confirmed), len(summary.confirmed) - len(several))
    if own is not None:
        paragraphs.append(
            f"Trained again over fresh seeds, the same ones for each: {who}. The winner is named by its mean"
            + (
                f", the best of {own.among} means and so a little too good itself; the intervals allow for that choice"
                if own.among > 1
                else ""
            )
            + f". It was chosen for a first score of {words.metric_value(own.first)}; fresh seeds make it "
            f"{words.metric_value(own.mean)}: the first score was "
            f"{words.too_good(summary.metric, own.optimism(summary.mode))}"
            + (
                f", those of all {len(several)} leaders on average {words.too_good(summary.metric, summary.optimism)}."
                if summary.optimism is not None and len(several) > 1
                else "."
            )
        )
    else:
        paragraphs.append(
            "Nothing was trained again over fresh seeds, so the score of the winner is one draw, and the best of many: "
            "expect less of it on new data."
        )
    if figure := balance.draw_seeds(summary):
        alt = "; ".join(
            f"trial {one.number}: first score {words.metric_value(one.first)}, mean {words.metric_value(one.mean)}"
            for one in summary.confirmed
        )
        caption = f"{who[0].upper()}{who[1:]} over fresh seeds. A first score to the better side of its mean was luck."
        shown.append(Chart("seeds", figure, caption, alt))
        tables.append(_confirmed(summary))
    before = (summary.test_untrained or {}).get(summary.metric)
    if before is not None:
        paragraphs.append(
            f"With its pretrained weights alone, before any training here, its model has "
            f"{summary.metric} {words.metric_value(before)} on the test rows."
        )
    found = gains(summary, trials)
    if found:
        rows = tuple(
            Line(
                (
                    Cell(rival),
                    Cell(where),
                    Cell(words.metric_value(gain.winner), gain.winner),
                    Cell(words.metric_value(gain.rival), gain.rival),
                    Cell(gain_text(summary, gain)),
                )
            )
            for rival, where, gain in found
        )
        tables.append(Table("Gain of the winner", ("over", "on", "winner", "rival", "better by"), rows))
    if summary.test_best:
        tables.append(on_test(summary))
        paragraphs += [again] if (again := words.opened_again(summary.test_opened)) else []
    if summary.breakdown is not None:
        tables.append(breakdown_table(summary.breakdown))
    if schedule := summary.best.schedule:
        names = tuple(dict.fromkeys(name for _, values in schedule for name in values))
        lines = tuple(
            Line((Cell(f"{level:.3g}", level), *(param_cell(values, name) for name in names)))
            for level, values in schedule
        )
        tables.append(Table("Values that changed while it trained", ("from", *names), lines))
    verdict = {"promote": "Promoted, because:", "keep": "The present champion is kept, because:"}
    if summary.reasons:
        paragraphs.append(verdict.get(summary.decision or "", "The gate says:"))
    return Section("winner", "The winner", tuple(paragraphs), summary.reasons, tuple(shown), tuple(tables))


def _confirmed(summary: StudySummary) -> Table:
    rows = []
    for one in summary.confirmed:
        rows.append(
            Line(
                (
                    Cell(str(one.number), one.number),
                    Cell(one.origin),
                    Cell(words.metric_value(one.first), one.first),
                    Cell(words.metric_value(one.mean), one.mean),
                    Cell(words.interval(one)),
                    Cell(
                        ", ".join(map(words.metric_value, one.values))
                        + (f" ({one.failed} failed)" if one.failed else "")
                        + (" (out of the race)" if one.is_out else "")
                    ),
                ),
                "winner" if one.number == summary.best.number else "",
            )
        )
    heads = ("trial", "proposed by", "first score", "mean", f"{summary.confirmed[0].confidence:.0%} interval", "seeds")
    return Table("Over fresh seeds", heads, tuple(rows))


def _history(summary: StudySummary, trials: Sequence[TrialRecord]) -> Section:
    states = ", ".join(f"{summary.counts[state]} {state}" for state in TrialState if summary.counts.get(state))
    alt = (
        f"{words.count(len(trials), 'trial')} ({states}); the best value is {words.metric_value(summary.best.value)}, "
        f"of trial {summary.best.number}"
    )
    caption = "Stopped trials stand at the last value they had, failed ones at the foot."
    return Section(
        "history",
        "History",
        charts=(Chart("history", charts.draw_history(summary, trials), caption, alt, f"{alt}."),),
    )


def _pareto(summary: StudySummary, trials: Sequence[TrialRecord]) -> Section | None:
    figure = balance.draw_pareto(summary, trials)
    if figure is None:
        return None
    by_number = {trial.number: trial for trial in trials}
    rows = []
    for number in summary.pareto:
        if number in by_number:
            values = [balance.objective_of(by_number[number], name) for name in summary.objectives]
            cells = [Cell("" if value is None else f"{value:.5g}", value) for value in values]
            mark = "winner" if number == summary.best.number else ""
            rows.append(Line((Cell(str(number), number), *cells), mark))
    lead = next(iter(summary.objectives))
    return Section(
        "pareto",
        "Trade-offs",
        (
            f"No trial on the front is beaten by another in every metric at once; {lead} leads where one has to be "
            "named.",
        ),
        charts=(Chart("pareto", figure, "Every complete trial.", f"Pareto front of {len(rows)} trials"),),
        tables=(Table("The Pareto front", ("trial", *summary.objectives), tuple(rows), sortable=True),),
    )


def _params(summary: StudySummary, trials: Sequence[TrialRecord], background: Background) -> Section | None:
    varying = background.varying
    shares = landscape.importances(summary, trials, varying)
    order = [*shares, *(name for name in varying if name not in shares)]
    shown = []
    if figure := charts.draw_importance(shares):
        top = ", ".join(f"{name} {share:.0%}" for name, share in list(shares.items())[:5])
        caption = (
            f"How much each param decides whether a trial is among the best {landscape.top(trials)}, whatever the "
            "others are (PED-ANOVA); stopped trials are counted in, at the last value they had."
            + ("" if len(trials) >= ROUGH else " Of so few trials it is a rough guess.")
        )
        alt = f"Importance of params: {top}"
        shown.append(Chart("importance", figure, caption, alt, f"{alt}. {caption}"))
    if figure := charts.draw_slices(summary, trials, varying, order):
        alt = f"{summary.metric} against {', '.join(order)}; the winner has " + ", ".join(
            f"{name} {words.short_value(summary.best.params[name], 3)}" for name in order if name in summary.best.params
        )
        shown.append(Chart("slices", figure, "The metric against each param.", alt))
    if figure := landscape.draw_parallel(summary, trials, varying):
        caption = "One line a trial; None stands for a param that a trial does not have."
        shown.append(Chart("parallel", figure, caption, f"Params of {words.count(len(trials), 'trial')} as lines"))
    pair = [name for name in shares if landscape.spans(trials, varying[name], name)][:2]
    if len(pair) == 2 and (figure := landscape.draw_contour(summary, trials, varying, (pair[0], pair[1]))):
        caption = f"{summary.metric} over the two ranges that matter most, filled in between the trials (dots)."
        shown.append(Chart("contour", figure, caption, f"{summary.metric} over {pair[0]} and {pair[1]}"))
    if not shown:
        return None
    valued = sum(last_value(trial) is not None for trial in trials)
    why = (
        f"{words.count(valued, 'trial')} with a value cannot say which params mattered: below {landscape.ENOUGH}, "
        "shares of importance are noise. The figures show where the good trials lie, no more."
        if valued < landscape.ENOUGH
        else "The trials do not differ enough to say which params mattered."
    )
    said = () if shares or len(varying) < 2 else (why,)
    return Section("params", "What mattered", said, charts=tuple(shown))


def _curves(summary: StudySummary, trials: Sequence[TrialRecord], background: Background) -> Section | None:
    shown, tables, points = [], [], []
    if figure := charts.draw_curves(summary, trials):
        alt = f"Learning curves; the winner ends at {words.metric_value(summary.best.value)}"
        drawn, there = len(charts.with_curves(summary, trials)), sum(bool(finite(trial.curve)) for trial in trials)
        caption = "The metric while the trials learn."
        if drawn < there:
            caption += f" Drawn are the {drawn:,} best of {there:,} trials that have a curve, complete ones first."
        shown.append(Chart("curves", figure, caption, alt))
    if figure := charts.draw_survivors(trials, background):
        rungs = survivors(trials, background.rungs, background.level)
        alt = "; ".join(f"level {rung.level:.3g}: {rung.reached} reached, {rung.stopped} stopped" for rung in rungs)
        shown.append(Chart("survivors", figure, "How many trials each rung let pass.", alt))
        rows = tuple(
            Line(
                tuple(
                    Cell(text, own)
                    for text, own in (
                        (f"{rung.level:.3g}", rung.level),
                        (str(rung.reached), rung.reached),
                        (str(rung.stopped), rung.stopped),
                    )
                )
            )
            for rung in rungs
        )
        tables.append(Table("Survivors by rung", ("part of the training", "reached", "stopped here"), rows))
        kinds = prunings(trials).most_common(6)
        points = [f"{reason}: {words.count(count, 'trial')}" for reason, count in kinds if len(kinds) > 1]
    return Section("curves", "Learning curves", (), tuple(points), tuple(shown), tuple(tables)) if shown else None


def _effort(summary: StudySummary, trials: Sequence[TrialRecord]) -> Section:
    paragraphs, shown = [], []
    total = sum(map(epochs_of, trials))
    clock = sum(trial.seconds or 0.0 for trial in trials)
    paragraphs.append(
        f"The study took {words.duration(summary.seconds)}; all trials together "
        f"{words.duration(clock)} of training and {total:,.1f} epochs."
    )
    saved = spared(trials)
    if saved.epochs:
        paragraphs.append(
            f"Run to their own ends, the stopped trials would have taken {saved.epochs:,.1f} epochs and about "
            f"{words.duration(saved.seconds)} more: stopping early spared {saved.share:.0%} of the training."
        )
    if figure := balance.draw_cost(trials):
        alt = "; ".join(f"{own.state}: {own.epochs:.1f} epochs" for own in spending(trials))
        shown.append(Chart("cost", figure, "Where the training went.", alt))
    rows = expected_best(summary, trials)
    if figure := balance.draw_expected_best(summary, trials, rows):
        half = min(rows, key=lambda row: abs(2 * row.draws - rows[-1].draws - 1))
        side = "Above" if summary.mode == "max" else "Below"
        caption = (
            "What a budget buys (Dodge et al. 2019): the best value to expect of trials picked at random from these, "
            f"against what this search had by then. {side} the band, the search was better than chance at choosing "
            "what to try first. Stopped trials count with what they reached and what they took."
        )
        alt = ", ".join(f"{row.mean:.4f} after {row.epochs:.0f} epochs" for row in (half, rows[-1]))
        said = f"The best to expect of trials picked at random from these (Dodge et al. 2019): {alt}."
        shown.append(Chart("expected", figure, caption, f"Expected best: {alt}", said))
    lines = tuple(
        Line(
            (
                Cell(str(own.state)),
                Cell(f"{own.trials:,}", own.trials),
                Cell(f"{own.epochs:,.1f}", own.epochs),
                Cell(words.duration(own.seconds), own.seconds),
            )
        )
        for own in spending(trials)
    )
    table = Table("Spent, by state", ("state", "trials", "epochs", "training time"), lines)
    return Section("cost", "What it cost", tuple(paragraphs), charts=tuple(shown), tables=(table,))


def failures_section(trials: Sequence[TrialRecord]) -> Section | None:
    """By kind; None where nothing failed."""
    found = failures(trials)
    if not found:
        return None
    rows = tuple(
        Line((Cell(f"{len(own.numbers):,}", len(own.numbers)), Cell(own.example), Cell(_some(own.numbers))))
        for own in found
    )
    return Section("failures", "Failures", tables=(Table("By kind", ("trials", "such as", "numbers"), rows),))


def _some(numbers: Sequence[int], most: int = 20) -> str:
    rest = len(numbers) - most
    return ", ".join(map(str, numbers[:most])) + (f" and {rest:,} more" if rest > 0 else "")


def _evidence(summary: StudySummary) -> Section | None:
    return Section("evidence", "From other studies", points=summary.history) if summary.history else None


def _trials(summary: StudySummary, trials: Sequence[TrialRecord], background: Background) -> Section:
    names = list(background.varying)
    searched = map(words.short_name, names)
    heads = ("trial", "state", summary.metric, *searched, "trained", "minutes", "proposed by", "why")
    rows = []
    for trial in best_first(summary, trials):
        value = last_value(trial)
        cells = [Cell(str(trial.number), trial.number), Cell(str(trial.state)), number_cell(value, "{:.4f}")]
        cells += [param_cell(trial.params, name) for name in names]
        done = epochs_of(trial)
        cells += [number_cell(done or None, "{:.2f}"), number_cell(trial.seconds, "{:.1f}", 1 / 60)]
        reason = (trial.reason or "").strip().splitlines()
        why = "dropped: the space was changed and has no room for it" if trial.dropped else ""
        cells += [Cell(trial.origin), Cell(reason[-1] if reason else why)]
        mark = "winner" if trial.number == summary.best.number else str(trial.state)
        rows.append(Line(tuple(cells), mark))
    return Section("trials", "All trials", tables=(Table("The best first", heads, tuple(rows), sortable=True),))
