"""What a trial costs as a study grows, on Ray with TPE, ledger and mirror: after 100, 1,000 and 10,000 toy trials.

    python -m benchmarks.growth [--trials 10000] [--seconds 0.1] [--json FILE]

seconds, of a report: a trial has three, so that two at a time are ideal at 1.5 of it a trial. A line of the table is
about the last 100 trials before it: wall time a trial, that over the ideal, what the ledger takes for a trial's `ask`,
and for its `tell`, and the most memory that the driver has had. Must not know how a trial is run.
"""

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.arms import REPORTS, guard_ray, mirrored, search, toy_ledger
from hpo.ledger import Ledger
from hpo.records import AnyEvent, TrialFinished, TrialRecord
from hpo.runners.toy import ToyObjective

MARKS = (100, 300, 1_000, 3_000, 10_000)
WINDOW = 100
SLOTS = 2


class Timed(Ledger):
    """Notes in `spent` what each call took, in seconds."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.spent: dict[str, list[float]] = {"ask": [], "tell": []}

    def ask(self) -> TrialRecord | None:
        return self._timed("ask", super().ask)

    def tell(self, *arguments: Any, **named: Any) -> None:
        own = super().tell
        self._timed("tell", lambda: own(*arguments, **named))

    def _timed(self, name: str, call: Any) -> Any:
        began = time.perf_counter()
        found = call()
        self.spent[name].append(time.perf_counter() - began)
        return found


@dataclass
class Notes:
    """When trials ended, in seconds, and the driver's peak memory then, in MB; everything is handed on to `tell`."""

    tell: Callable[[AnyEvent], None] = lambda event: None
    ends: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)

    def __call__(self, event: AnyEvent) -> None:
        self.tell(event)
        if isinstance(event, TrialFinished):
            self.ends.append(time.monotonic())
            self.memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def measure(folder: Path, trials: int, seconds: float) -> dict[str, Any]:
    ledger, notes = toy_ledger(folder, Timed), Notes()
    assert isinstance(ledger, Timed)

    def run(tell: Callable[[AnyEvent], None]) -> None:
        notes.tell = tell
        search(ledger, folder / "clock", trials, SLOTS, notes, ToyObjective(REPORTS, seconds))

    told = mirrored(folder, trials, run, 3_600)
    ideal = REPORTS * seconds / SLOTS
    return {
        "trials": trials,
        "ideal": ideal,
        "over_ideal": (notes.ends[-1] - notes.ends[0]) / (trials - 1) / ideal,
        **told,
        "growth": notes.memory[-1] - notes.memory[WINDOW - 1],
        "lines": [_line(mark, notes, ledger.spent, ideal) for mark in MARKS if mark <= trials],
    }


def _line(mark: int, notes: Notes, spent: Mapping[str, Sequence[float]], ideal: float) -> dict[str, float]:
    first = max(1, mark - WINDOW)
    wall = (notes.ends[mark - 1] - notes.ends[first - 1]) / (mark - first)
    both = np.array(spent["ask"][first:mark]) + np.array(spent["tell"][first:mark])
    return {
        "trials": mark,
        "wall": wall,
        "over": wall / ideal,
        "median": float(np.median(both)),
        "p95": float(np.quantile(both, 0.95)),
        "memory": notes.memory[mark - 1],
    }


def table(found: Mapping[str, Any]) -> str:
    lines = [
        "| trials | s a trial | over the ideal | ask + tell, ms: median | p95 | driver, MB |",
        "| ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for one in found["lines"]:
        lines.append(
            f"| {one['trials']:,} | {one['wall']:.4f} | {one['over']:.2f} | {1e3 * one['median']:.1f} |"
            f" {1e3 * one['p95']:.1f} | {one['memory']:.0f} |"
        )
    lines.append(
        f"\nAll {found['trials']:,}: {found['over_ideal']:.2f} times the ideal of {found['ideal']:.4g} s a trial; the "
        f"driver grew by {found['growth']:.0f} MB; MLflow had taken everything {found['mirror_seconds']:.1f} s later."
    )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=MARKS[-1], help=f"at least {WINDOW} ({MARKS[-1]})")
    parser.add_argument("--seconds", type=float, default=0.1, help="of each of a trial's three reports (0.1)")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    if options.trials < WINDOW:
        parser.error(f"--trials {options.trials} is too few; at least {WINDOW}")
    guard_ray()
    with tempfile.TemporaryDirectory(prefix="growth-", dir="/tmp") as folder:
        found = measure(Path(folder), options.trials, options.seconds)
    print(table(found))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
