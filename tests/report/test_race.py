"""The confirmation on the screen: plain lines and the live table."""

import io

from rich.console import Console

from hpo.records import (
    Confirmed,
    Seeds,
    StudyStarted,
    TrialConfirmed,
    TrialFinished,
    TrialRecord,
    TrialReported,
    TrialStarted,
    TrialState,
)
from hpo.report import race
from hpo.report.board import Board, Budget
from hpo.report.screen import LiveScreen, PlainScreen

PARAMS = {"learning_rate": 3.14159e-5}


def searched(number, value, origin="tpe"):
    yield TrialStarted(time=0.0, number=number, origin=origin, params=PARAMS)
    yield TrialFinished(time=1.0, number=number, state=TrialState.COMPLETE, metrics={"best_accuracy": value})


def seed_run(number, replicate, value, state=TrialState.COMPLETE, reason=None):
    yield TrialStarted(time=2.0, number=number, replicate=replicate, origin="tpe", params=PARAMS)
    metrics = {"accuracy": value, "epoch": 1.0}
    yield TrialReported(time=3.0, number=number, replicate=replicate, step=40, metrics=metrics, progress=0.5)
    metrics = {"best_accuracy": value} if state is TrialState.COMPLETE else {}
    yield TrialFinished(time=4.0, number=number, replicate=replicate, state=state, metrics=metrics, reason=reason)


def story():
    yield StudyStarted(time=0.0, study="s", metric="accuracy", mode="max", document="", params={}, tags={}, datasets=())
    yield from searched(0, 0.70, "default")
    yield from searched(3, 0.80)
    for replicate, values in enumerate([(0.69, 0.77), (0.71, 0.79)], 1):
        for number, value in zip((0, 3), values, strict=True):
            yield from seed_run(number, replicate, value)


def shown(board, width=110):
    console = Console(file=io.StringIO(), width=width, record=True)
    console.print(race.table(board, ["learning_rate"], 10))
    return console.export_text()


def board_of(events, known=()):
    board = Board(Budget(trials=4, seeds=3), known)
    for event in events:
        board.apply(event)
    return board


def test_a_pipe_gets_one_plain_line_an_event_of_a_seed_run():
    stream = io.StringIO()
    screen = PlainScreen(stream, Board(Budget(trials=4, seeds=3)), ["learning_rate"], now=lambda: 0.0)
    for event in story():
        screen.apply(event)
    one = Confirmed(number=3, origin="tpe", first=0.80, values=(0.77, 0.79), mean=0.78, low=0.653, high=0.907)
    screen.apply(TrialConfirmed(time=5.0, confirmed=one, mode="max"))
    screen.apply(TrialConfirmed(time=5.0, confirmed=one.model_copy(update={"is_out": True, "failed": 1}), mode="max"))
    lines = stream.getvalue().splitlines()
    assert "00:02  trial 3 seed 2  started" in lines
    assert "00:03  trial 3 seed 2  step 40    accuracy 0.7900" in lines
    assert "00:04  trial 3 seed 2  complete   accuracy 0.7900  (mean 0.7800 of 2 seeds, first 0.8000)" in lines
    assert lines[-2] == (
        "00:05  trial 3 confirmed: accuracy 0.7800 (95 %: 0.6530 to 0.9070) over 2 fresh seeds, first 0.8000"
    )
    assert "trial 3 is out: " in lines[-1]
    assert "over 2 fresh seeds, 1 failed one besides, first" in lines[-1]


def test_seed_runs_are_no_trials_and_never_the_best_one():
    board = board_of([*story(), *seed_run(3, 3, 0.95)])
    assert set(board.rows) == {0, 3}
    assert len(board.finished) == 2
    assert board.best is not None
    assert board.best.value == 0.80


def test_the_table_has_a_row_a_leader_with_its_first_score_and_the_mean_of_its_seeds():
    board = board_of([*story(), next(seed_run(3, 3, 0.0))])
    table = [line.split() for line in shown(board).splitlines() if line.strip() and "─" not in line]
    assert table[0] == ["trial", "lr", "first", "mean", "seeds", "now", "state"]
    assert table[1] == ["3", "3.1e-05", "0.8000", "0.7800", "2/3", "seed", "3", "leads"]
    assert table[2] == ["0", "3.1e-05", "0.7000", "0.7000", "2/3", "default"]
    assert race.header(board) == [
        "confirming 1 leader and the default",
        "4 of at most 6 runs",
        "best mean accuracy 0.7800 (trial 3)",
    ]


def test_a_leader_with_a_failed_seed_is_out_of_the_race():
    board = board_of([*story(), *seed_run(3, 3, 0.1, TrialState.FAILED, "loss is nan")])
    assert [own.trial.number for own in board.leaders] == [0, 3]
    assert "2/3 + 1 failed" in shown(board)
    assert shown(board).splitlines()[-1].rstrip().endswith("out")


def test_what_the_default_runs_ahead_counts_when_the_others_have_come_to_their_round():
    ahead = [*story(), *seed_run(0, 3, 0.95), *seed_run(0, 4, 0.96)]
    leads, default = board_of(ahead).leaders
    assert (leads.trial.number, leads.mean) == (3, 0.78)
    assert default.values == (0.69, 0.71)
    assert board_of([*ahead, *seed_run(3, 3, 0.8)]).leaders[1].values == (0.69, 0.71, 0.95)
    failed = board_of([*story(), *seed_run(0, 3, 0.1, TrialState.FAILED, "loss is nan")])
    assert not any(own.is_out for own in failed.leaders)


def test_runs_of_an_earlier_driver_count_but_do_not_open_the_confirmation():
    record = TrialRecord(
        number=3,
        state=TrialState.COMPLETE,
        origin="tpe",
        params=PARAMS,
        value=0.77,
        seeds=Seeds(1, 2),
        replicate=1,
    )
    board = Board(Budget(seeds=3), [record.model_copy(update={"replicate": 0, "value": 0.8}), record])
    assert not board.is_confirming
    assert set(board.rows) == {3}
    for event in [next(iter(story())), *seed_run(3, 2, 0.79)]:
        board.apply(event)
    assert board.is_confirming
    assert board.leaders[0].values == (0.77, 0.79)


def test_the_live_screen_turns_to_the_leaders_when_the_confirmation_begins():
    screen = LiveScreen(io.StringIO(), Board(Budget(trials=2, seeds=3)), ["learning_rate"], now=lambda: 61.0)
    try:
        for place, event in enumerate(story()):
            screen.apply(event)
            if place == 4:
                assert "2 of 2 trials" in screen._header()
        assert "s  confirming 1 leader and the default  4 of at most 6 runs" in screen._header()
        console = Console(file=io.StringIO(), width=100, record=True)
        console.print(screen._render())
        assert "leads" in console.export_text()
    finally:
        screen.close()
