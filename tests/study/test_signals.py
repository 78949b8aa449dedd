"""Signals: the first one asks, with a deadline; the second one ends."""

import signal
import subprocess
import sys
import time

import pytest

PROGRAM = """
import time
from hpo.study.folder import Deadline, on_signal

def first(number):
    print("stopping", flush=True)

with Deadline({seconds}) as deadline, on_signal(first, deadline):
    print("ready", flush=True)
    while True:
        time.sleep(60)  # hangs, whatever was asked
"""


@pytest.mark.parametrize(("signals", "seconds"), [([signal.SIGTERM], 1.0), ([signal.SIGINT, signal.SIGTERM], 60.0)])
def test_a_driver_that_hangs_ends_at_its_deadline_or_at_the_second_signal(
    signals: list[signal.Signals], seconds: float
) -> None:
    program = [sys.executable, "-c", PROGRAM.format(seconds=seconds)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        began = time.monotonic()
        for number in signals:
            process.send_signal(number)
            time.sleep(0.2)
        assert process.wait(timeout=20) == 128 + signals[-1]
        assert time.monotonic() - began < 10
        assert process.stdout.read() == "stopping\n"
