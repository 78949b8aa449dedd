"""What the machinery costs a trial: our whole stack against plain Ray Tune, interleaved in one run.

    python -m benchmarks.overhead [--trials 100] [--repetitions 3] [--plain-trials 12] [--json FILE]

A trial is the toy: three reports of 10 ms each. Two figures an arm, in seconds a trial:
total   wall time of the whole process, imports and Ray's start-up and the mirror's last event included, / trials
steady  (last trial's end - first trial's begin - ideal) / trials, where ideal is trials x 0.03 s / slots
Must not know what an arm consists of.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.arms import REPORTS, SECONDS

ROOT = Path(__file__).resolve().parent.parent
TITLES = {
    "ours": "ours: ledger + TPE + MLflow mirror",
    "unmirrored": "ours, without the mirror",
    "reuse": "tune.Tuner, OptunaSearch, reuse_actors",
    "plain": "tune.Tuner, OptunaSearch, defaults",
}
Result = dict[str, Any]


def measure(arm: str, trials: int, slots: int) -> Result:
    """Run one arm in a process of its own; its chatter is shown only if it fails."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir="/tmp") as folder:
        command = [sys.executable, "-m", "benchmarks.arms", arm, str(trials), str(slots), folder]
        load = os.getloadavg()[0]
        started = time.monotonic()
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        seconds = time.monotonic() - started
        if done.returncode:
            raise SystemExit(f"{arm} exits with {done.returncode}:\n{done.stdout[-4000:]}")
        result = json.loads((Path(folder) / "result.json").read_text())
    ideal = trials * REPORTS * SECONDS / slots
    return {
        "arm": arm,
        "trials": trials,
        "load": load,
        "total": seconds / trials,
        "steady": (result["span_seconds"] - ideal) / trials,
        **{name: value for name, value in result.items() if name != "span_seconds"},
    }


def plan(trials: int, plain_trials: int, repetitions: int) -> list[tuple[str, int]]:
    """Arms by turns, so that a busy minute hits all of them; the slow one once, in the middle."""
    rounds = [[(arm, trials) for arm in ("ours", "unmirrored", "reuse")] for _ in range(repetitions)]
    rounds.insert((repetitions + 1) // 2, [("plain", plain_trials)] if plain_trials else [])
    return [one for turn in rounds for one in turn]


def table(results: Sequence[Result]) -> str:
    """One line an arm: min / median / max over its repetitions."""
    lines = [f"{'s / trial':<42}{'trials':>8}{'total':>24}{'steady':>24}"]
    for arm, title in TITLES.items():
        own = [result for result in results if result["arm"] == arm]
        if own:
            figures = "".join(f"{_spread([result[name] for result in own]):>24}" for name in ("total", "steady"))
            lines.append(f"{title:<42}{own[0]['trials']:>4} x {len(own)}{figures}")
    return "\n".join(lines)


def _spread(values: Sequence[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{min(values):.3f} / {statistics.median(values):.3f} / {max(values):.3f}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead", description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--plain-trials", type=int, default=12, help="fewer, at seconds a trial; 0 leaves it out")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write every repetition's figures here")
    options = parser.parse_args(arguments)
    slots = os.cpu_count() or 1
    results = []
    for arm, trials in plan(options.trials, options.plain_trials, options.repetitions):
        results.append(measure(arm, trials, slots))
        last = results[-1]
        print(
            f"  {arm:<10} total {last['total']:.3f}  steady {last['steady']:.3f}  load {last['load']:.1f}", flush=True
        )
    print(f"\n{slots} slots, min / median / max\n{table(results)}", flush=True)
    if options.json:
        temporary = options.json.with_name(f".{options.json.name}.{os.getpid()}")
        temporary.write_text(json.dumps({"slots": slots, "results": results}, indent=1))
        temporary.rename(options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
