import contextlib
import io
import math
import os
import pty
import random
import re
import threading

import pytest
from rich.console import Console

from hpo.records import (
    DatasetRecord,
    StudyStarted,
    StudyStopped,
    TrialFinished,
    TrialNoted,
    TrialReported,
    TrialStarted,
    TrialState,
)
from hpo.report.board import Board, Budget
from hpo.report.screen import LiveScreen, PlainScreen, open_screen


def started(time=0.0):
    rows = DatasetRecord(name="d", split="train", rows=4000, digest="0", source="here")
    return StudyStarted(
        time=time, study="s", metric="accuracy", mode="max", document="", params={}, tags={}, datasets=(rows,)
    )


def trial_events(number, values, state=TrialState.COMPLETE, time=0.0, reason=None):
    yield TrialStarted(time=time, number=number, origin="tpe", params={"learning_rate": 3.14159e-5})
    for index, value in enumerate(values, 1):
        metrics = {"accuracy": value, "epoch": float(index)}
        yield TrialReported(time=time + index, number=number, step=10 * index, metrics=metrics, progress=index / 3)
    metrics = {"best_accuracy": max(values)} if state is TrialState.COMPLETE else {}
    yield TrialFinished(time=time + len(values), number=number, state=state, metrics=metrics, reason=reason)


def plain(board=None):
    stream = io.StringIO()
    return stream, PlainScreen(stream, board or Board(Budget(trials=4)), ["learning_rate"], now=lambda: 0.0)


def lines_of(stream):
    return stream.getvalue().splitlines()


def test_a_pipe_gets_one_plain_line_an_event():
    stream, screen = plain()
    screen.apply(started())
    for event in trial_events(7, [0.5, 0.7421]):
        screen.apply(event)
    screen.apply(StudyStopped(time=75.0, reason="SIGINT"))

    lines = lines_of(stream)
    assert lines[0] == "00:00  study s: accuracy (max), 4 trials; rows: train 4,000"
    assert lines[1] == "00:00  trial 7    started    lr 3.1e-05  (tpe)"
    assert lines[3] == "00:02  trial 7    step 20    accuracy 0.7421"
    assert lines[4] == "00:02  trial 7    complete   accuracy 0.7421  (best complete 0.7421, trial 7)"
    assert lines[5] == "01:15  stopped: SIGINT; go on with --resume"
    assert "\x1b" not in stream.getvalue()


def test_a_note_about_a_trial_is_one_line():
    stream, screen = plain()
    screen.apply(TrialNoted(time=61.0, number=7, text="it goes on after step 12 of 90"))
    screen.apply(TrialNoted(time=62.0, number=7, replicate=2, text="its process died (killed); it is trained again"))
    assert lines_of(stream) == [
        "01:01  trial 7: it goes on after step 12 of 90",
        "01:02  trial 7 seed 2: its process died (killed); it is trained again",
    ]


def test_a_traceback_becomes_one_line():
    told = "Traceback (most recent call last):\n  File x, line 1\nValueError: " + "so it is " * 100 + "\n"
    stream, screen = plain()
    for event in trial_events(7, [0.5], TrialState.FAILED, reason=told):
        screen.apply(event)
    last = lines_of(stream)[-1]
    assert len(lines_of(stream)) == 3
    assert "  ValueError: so it is so it" in last
    assert last.endswith("...")
    assert len(last) < 220


def test_a_pruned_trial_is_never_the_best():
    stream, screen = plain()
    screen.apply(started())
    for event in [*trial_events(0, [0.6]), *trial_events(1, [0.9], TrialState.PRUNED, reason="rung 1 of 3")]:
        screen.apply(event)
    assert lines_of(stream)[-1].endswith("pruned     accuracy 0.9000  (best complete 0.6000, trial 0)  rung 1 of 3")


def test_plain_progress_says_where_it_begins_and_ends():
    stream, screen = plain()
    with screen.progress("tokenising train", 4000) as advance:
        advance(1500)
        advance(2500)
    assert lines_of(stream) == ["00:00  tokenising train", "00:00  tokenising train  4,000 of 4,000, done"]


def test_plain_progress_speaks_up_when_it_takes_long():
    stream, ticks = io.StringIO(), iter([0.0, 0.0, 6.0, 6.0, 7.0])
    screen = PlainScreen(stream, Board(Budget()), now=lambda: next(ticks))
    with screen.progress("download", None) as advance:
        advance(3)
    assert lines_of(stream) == ["00:00  download", "00:06  download  3", "00:07  download  3, done"]


def test_the_earlier_of_two_equal_trials_is_the_best():
    board = Board(Budget())
    for event in [started(), *trial_events(3, [0.7]), *trial_events(1, [0.7])]:
        board.apply(event)
    assert board.best.number == 1


def test_the_smallest_error_is_the_best():
    board = Board(Budget())
    board.apply(started().model_copy(update={"metric": "accuracy", "mode": "min"}))
    for event in [*trial_events(0, [0.3]), *trial_events(1, [0.2])]:
        board.apply(event)
    assert board.best.number == 1


def test_the_time_left_follows_the_pace_of_finished_trials():
    board = Board(Budget(trials=4))
    board.apply(started())
    assert board.seconds_left(5.0) is None
    for event in trial_events(0, [0.5]):
        board.apply(event)
    assert board.seconds_left(10.0) == pytest.approx(30.0)


def test_the_time_left_is_that_of_the_tightest_budget():
    board = Board(Budget(trials=100, seconds=60.0, epochs=5))
    board.apply(started())
    for event in trial_events(0, [0.5, 0.6]):
        board.apply(event)
    assert board.seconds_left(10.0) == pytest.approx(15.0)  # 3 of 5 epochs left, 5 s each
    assert board.seconds_left(59.0) == pytest.approx(1.0)


def test_trials_of_an_earlier_run_count_but_set_no_pace(trials):
    board = Board(Budget(trials=13), known=trials)
    board.apply(started())
    assert len(board.finished) == 12
    assert board.seconds_left(10.0) is None
    assert board.best.number == 10


def test_events_applied_twice_change_nothing():
    board = Board(Budget())
    events = [started(), *trial_events(0, [0.5]), *trial_events(1, [0.6])]
    for event in events:
        board.apply(event)
    once = dict(board.rows)
    for event in events:
        board.apply(event)
    assert board.rows == once


def test_what_is_kept_at_hand_is_what_all_trials_add_up_to(trials):
    board = Board(Budget(epochs=1000), known=trials)
    board.apply(started())
    draw = random.Random(0)
    for number in (0, 3, *range(40, 60), 45, 46):  # some are trained again
        state = draw.choice([TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED])
        events = list(trial_events(number, [draw.choice([0.2, 0.5, 0.9, math.nan]) for _ in range(3)], state))
        for event in events[: draw.choice([2, 3, 9])]:
            board.apply(event)
    rows = board.rows.values()
    ended = [row for row in rows if row.state.is_finished]
    assert list(board.finished) == sorted(ended, key=board.rank)
    assert {row.number for row in board.running} == {row.number for row in rows} - {row.number for row in ended}
    assert board.best == board.finished[0]
    used, here = (sum(row.epoch for row in rows if not row.earlier or every) for every in (True, False))
    assert board.seconds_left(50.0) == pytest.approx(50.0 / here * (1000 - used))


def test_a_frame_goes_through_no_more_trials_than_it_shows():
    looked = []

    class Counting(Board):
        def rank(self, row):
            looked.append(row.number)
            return super().rank(row)

    board = Counting(Budget(trials=4000))
    board.apply(started())
    for number in range(2000):
        for event in trial_events(number, [number % 97 / 97]):
            board.apply(event)
    assert len(looked) < 2000 * 30
    looked.clear()
    live_frame(board, 100, 30)
    assert looked == []


def live_frame(board, width, height, varying=("learning_rate",), rungs=()):
    """The live table, drawn once into text of the given size."""
    screen = LiveScreen(io.StringIO(), board, varying, rungs, now=lambda: 40.0)
    screen.close()
    screen.console = Console(file=io.StringIO(), width=width, height=height, force_terminal=False)
    screen.console.print(screen._render())
    return screen.console.file.getvalue()


def test_the_live_table_shows_running_trials_first_and_then_the_best(trials):
    board = Board(Budget(trials=20), known=trials)
    board.apply(started())
    for event in list(trial_events(40, [0.1, 0.2]))[:-1]:
        board.apply(event)
    frame = live_frame(board, 100, 30, rungs=(1 / 9, 1 / 3, 1.0))
    assert "12 of 20 trials" in frame
    assert "best accuracy 0.7751 (trial 10)" in frame
    numbers = [int(match) for match in re.findall(r"^ *(\d+)   ", frame, re.MULTILINE)]
    assert numbers[:3] == [40, 10, 0]
    assert "2/3" in frame


def test_the_live_table_never_outgrows_the_terminal(trials):
    board = Board(Budget(), known=trials)
    board.apply(started())
    names = ["learning_rate", "per_device_train_batch_size", "loss", "focal_gamma"]
    frame = live_frame(board, 64, 12, names).splitlines()
    assert len(frame) <= 11
    assert max(map(len, frame)) <= 64
    assert "not shown: 7 trials, 2 params" in frame[-1]


def test_a_terminal_gets_the_live_table_and_anything_else_plain_lines():
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb"), os.fdopen(theirs, "w", encoding="utf-8") as terminal:
        with open_screen(terminal, environment={"TERM": "xterm"}) as screen:
            assert isinstance(screen, LiveScreen)
        assert isinstance(open_screen(terminal, environment={"TERM": "dumb"}), PlainScreen)
    assert isinstance(open_screen(io.StringIO()), PlainScreen)


def test_a_terminal_keeps_what_was_said_and_gets_its_cursor_back():
    ours, theirs = pty.openpty()
    seen = []
    reader = threading.Thread(target=drain, args=(ours, seen))
    reader.start()
    with (
        os.fdopen(theirs, "w", encoding="utf-8") as terminal,
        open_screen(terminal, budget=Budget(trials=2), environment={"TERM": "xterm"}) as screen,
    ):
        screen.say("reading")
        screen.apply(started())
        with screen.progress("tokenising", 10) as advance:
            advance(10)
        for event in trial_events(0, [0.5], TrialState.FAILED, reason="loss is nan"):
            screen.apply(event)
        screen.apply(StudyStopped(time=9.0, reason="SIGINT"))
    reader.join()
    os.close(ours)
    text = b"".join(seen).decode()
    assert "reading" in text
    assert "trial 0 failed: loss is nan" in text
    assert "stopped: SIGINT; go on with --resume" in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


def drain(terminal, seen):
    """Everything written to the other end, until it is closed."""
    with contextlib.suppress(OSError):  # Linux ends a pty so
        while chunk := os.read(terminal, 4096):
            seen.append(chunk)
