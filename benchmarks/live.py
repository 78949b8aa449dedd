"""The arms of `benchmarks.regret`, really trained: epochs until within one standard error of the recorded grid's best.

    python -m benchmarks.live --task sst2 --seeds 3 [--set resources.gpus=1 --share 0/8 --output FILE]
    python -m benchmarks.live --table [FILE ...]

One JSON line for each task, arm and seed, in benchmarks/results/live.jsonl; a line that is there is not run again.
Trials run one after the other, in the time that they really take. --table writes the section of docs/search.md.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.record import data_files, share
from benchmarks.recorded import CURVES, METRIC, RESULTS, VALIDATION_ROWS, load, write_section
from benchmarks.regret import Speed, speed, speed_table
from benchmarks.setups import ARMS, OURS, Setting
from hpo import config
from hpo.records import Objective, Report, TrialConfig
from hpo.space import Params

FILE = RESULTS / "live.jsonl"

MOST_EPOCHS = 60.0
"""Training after which a search has not arrived: a little more than all of the grid takes (54)."""


@dataclass(frozen=True)
class Unkept:
    """Trials without checkpoints: nobody asks for them here."""

    objective: Objective

    def __call__(self, config: TrialConfig) -> Iterator[Report]:
        return self.objective(replace(config, keep_above=float("inf")))


@dataclass(frozen=True)
class Live:
    """A task whose trials are trained. target, grid_points: of its recorded trials. Stands where `Recorded` does."""

    name: str
    study: config.StudyConfig
    objective: Objective
    target: float
    grid_points: list[tuple[int, Params]]

    def searched(self, **sections: Any) -> config.StudyConfig:
        return self.study.model_copy(update=sections)


def prepared(name: str, overrides: Sequence[str], folder: Path) -> Live:
    """folder: for what is read and encoded on the way."""
    from hpo.report.screen import open_screen
    from hpo.study.prepare import prepare

    recorded = load(name, overrides=overrides)
    if not recorded.grid:
        sys.exit(f"the grid of {name} is not recorded: python -m benchmarks.record --space {CURVES}/{name}.yaml --grid")
    study = config.load(CURVES / f"{name}.yaml", [*data_files(name), *overrides], folder)
    with open_screen(sys.stderr) as screen:
        ready = prepare(study, screen)
    objective = Unkept(ready.objective(study, folder / "checkpoints", gpus=study.resources.at_hand))
    return Live(name, study, objective, recorded.target, recorded.grid_points)


def run(name: str, wanted: Iterable[tuple[int, str]], overrides: Sequence[str], file: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        task = prepared(name, overrides, Path(folder))
        for seed, arm in wanted:
            setting = Setting(task, seed, slots=1, epochs=MOST_EPOCHS, target=task.target)
            found = speed(arm, setting, ARMS[arm](setting))
            with file.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps({**asdict(found), "target": round(task.target, 6)}) + "\n")
            told = f"{found.epochs:.1f} epochs, {found.hours * 3600:.0f} s, {found.trials} trials"
            print(f"{time.strftime('%H:%M:%S')} {name} {arm}, seed {seed}: {told}, {found.reached=}", flush=True)


def read(files: Iterable[Path]) -> dict[tuple[str, str, int], dict[str, Any]]:
    """By task, arm and seed."""
    lines = [json.loads(line) for file in files if file.exists() for line in file.read_text("utf-8").splitlines()]
    return {(line["task"], line["arm"], line["seed"]): line for line in lines}


def text(lines: Sequence[dict[str, Any]]) -> str:
    names = [name for name in VALIDATION_ROWS if any(line["task"] == name for line in lines)]
    found = [Speed(**{name: own for name, own in line.items() if name != "target"}) for line in lines]
    arms = [arm for arm in ARMS if any(one.arm == arm for one in found)]
    goals = ", ".join(
        f"{name} {METRIC} {max(line['target'] for line in lines if line['task'] == name):.4f}" for name in names
    )
    return (
        f"Made by `python -m benchmarks.live`, one trial at a time; target: {goals}; a search ends after "
        f"{MOST_EPOCHS:.0f} epochs. Columns as above.\n\n{speed_table(names, found, arms, OURS)}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=[*VALIDATION_ROWS])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], metavar="a.b=value", help="as for python -m hpo.run")
    parser.add_argument(
        "--share", type=share, default=(0, 1), metavar="I/N", help="every N-th search, from the I-th on"
    )
    parser.add_argument("--output", type=Path, default=FILE)
    parser.add_argument("--table", nargs="*", type=Path, metavar="FILE", help="write the table of what was run")
    arguments = parser.parse_args()
    if arguments.table is not None:
        write_section("live", text(list(read(arguments.table or [FILE]).values())))
        return
    if arguments.task is None:
        parser.error("nothing to do; give --task or --table")
    first, every = arguments.share
    wanted = [(seed, arm) for seed in range(arguments.seeds) for arm in ARMS][first::every]
    there = read([arguments.output])
    left = [(seed, arm) for seed, arm in wanted if (arguments.task, arm, seed) not in there]
    run(arguments.task, left, arguments.set, arguments.output)


if __name__ == "__main__":
    main()
