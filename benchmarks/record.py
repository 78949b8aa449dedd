"""Full trials for the replay data set: each trained to its end, and evaluated at every rung that is to be compared.

    python -m benchmarks.record --space benchmarks/curves/sst2.yaml
    python -m benchmarks.record --space benchmarks/curves/sst2.yaml --grid
    python -m benchmarks.record --space benchmarks/curves/sst2.yaml --inline --set resources.gpus=1 --share 0/8

writes one JSON line a trial beside the space file, or into --output. A trial that is there already is not trained
again. --inline needs no Ray: several such processes share a GPU, each with every n-th trial.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpo import config
from hpo.records import Report, Seeds, TrialConfig, Verdict
from hpo.runners.inline import InlineRunner
from hpo.space import Choice, FloatRange, IntRange, Scalar, Varying
from hpo.study.steps import TrialLength

PARTS = (1 / 16, 1 / 9, 1 / 8, 1 / 4, 1 / 3, 1 / 2, 3 / 4, 1.0)
"""Rungs by progress: of reduction factors 2, 3 and 4, and three quarters for the shape of the curve."""

LONGEST = 4
"""Epochs of the longest trial in the spaces; rungs by samples are the same fractions of it."""

GRID = 1_000
"""Number of the first point of the BERT paper's grid."""


@dataclass
class Recorder:
    """Hands out points, and notes their curves in `file`. Implements `runners.Search`."""

    points: list[tuple[int, str, dict[str, Scalar]]]
    rows: int
    file: Path
    curves: dict[int, list[dict[str, float]]] = field(default_factory=dict)
    configs: dict[int, tuple[str, TrialConfig]] = field(default_factory=dict)
    stopping: bool = False

    @property
    def exhausted(self) -> bool:
        return not self.points

    def ask(self) -> TrialConfig | None:
        if not self.points:
            return None
        number, origin, params = self.points.pop(0)
        length = TrialLength.of(params, self.rows)
        samples = (part * LONGEST * self.rows for part in PARTS)
        by_samples = {step / length.total_steps for own in samples if (step := round(own / length.batch))}
        rungs = sorted({*PARTS, *(part for part in by_samples if part < 1)})
        seeds = Seeds(init=number * 2 + 1, order=number * 2 + 2)
        one = TrialConfig(number, params, seeds, tuple(rungs), keep_above=float("inf"))
        self.configs[number] = origin, one
        return one

    def report(self, number: int, report: Report) -> Verdict:
        origin, one = self.configs[number]
        length = TrialLength.of(one.params, self.rows)
        names = ("accuracy", "loss", "train_loss", "seconds")
        point = {name: round(report.metrics[name], 5) for name in names if name in report.metrics}
        samples = min(report.step * length.batch * length.accumulation, int(length.epochs * self.rows))
        self.curves.setdefault(number, []).append(
            {"step": report.step, "progress": round(report.progress, 6), "samples": samples, **point}
        )
        if report.done:
            line = {"number": number, "origin": origin, "params": dict(one.params), "rows": self.rows}
            with self.file.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(line | {"curve": self.curves[number]}) + "\n")
            best = max(point["accuracy"] for point in self.curves[number])
            print(f"{time.strftime('%H:%M:%S')} {number:5} {best:.4f} {line['params']}", flush=True)
        return Verdict.CONTINUE

    def failed(self, number: int, reason: str) -> None:
        print(f"{number:5} failed: {reason}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", type=Path, required=True)
    parser.add_argument("--grid", action="store_true", help="the BERT paper's grid instead of random points")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=value", help="as for python -m hpo.run")
    parser.add_argument("--inline", action="store_true", help="one after the other in this process, without Ray")
    parser.add_argument("--share", type=share, default=(0, 1), metavar="I/N", help="every N-th point, from the I-th on")
    parser.add_argument("--output", type=Path, help="beside the space file by default")
    arguments = parser.parse_args()
    file = arguments.output or arguments.space.with_suffix(".jsonl")
    overrides = [*data_files(arguments.space.stem), *arguments.set]
    if arguments.grid:
        overrides.append("search.first=[bert-paper-grid]")
    with tempfile.TemporaryDirectory() as folder:
        study = config.load(arguments.space, overrides, Path(folder))
        there = {json.loads(line)["number"] for line in file.read_text().splitlines()} if file.exists() else set()
        first, every = arguments.share
        points = list(grid(study) if arguments.grid else draws(study))[first::every]
        points = [point for point in points if point[0] not in there]
        record(study, points, file, Path(folder), inline=arguments.inline)


def share(text: str) -> tuple[int, int]:
    """`0/8`: the first of eight."""
    first, _, every = text.partition("/")
    if not (first.isdigit() and every.isdigit() and int(first) < int(every)):
        raise argparse.ArgumentTypeError(f"{text!r} is not like 0/8: which one, from 0 on, of how many")
    return int(first), int(every)


def data_folder(name: str) -> Path:
    """Of the data set `name` of HPO_DATA."""
    data = Path(os.environ.get("HPO_DATA", "../shared/data")).resolve() / name
    if not data.is_dir():
        sys.exit(f"{data} is not there: set HPO_DATA to the folder of the data sets")
    return data


def data_files(name: str) -> list[str]:
    """What makes a space read it."""
    data = data_folder(name)
    return [f"data.files.{split}={data / split}.tsv" for split in ("train", "validation")]


def draws(study: config.StudyConfig) -> Iterator[tuple[int, str, dict[str, Scalar]]]:
    source = random.Random(study.seed)
    for number in range(study.budget.trials or 24):
        yield number, "random", study.space.assign(lambda _, own: drawn(own, source))


def drawn(own: Varying, source: random.Random) -> Scalar:
    match own:
        case Choice():
            return source.choice(own.values)
        case IntRange():
            return source.randint(own.low, own.high)
        case FloatRange(low, high, log=True):
            return float(f"{low * (high / low) ** source.random():.4g}")
        case FloatRange(low, high):
            return round(source.uniform(low, high), 4)


def grid(study: config.StudyConfig) -> Iterator[tuple[int, str, dict[str, Scalar]]]:
    for index, (origin, params) in enumerate(study.first_points()):
        yield GRID + index, "bert-paper-grid" if origin == "default" else origin, params


def record(study: config.StudyConfig, points: list[Any], file: Path, folder: Path, *, inline: bool) -> None:
    from hpo.report.screen import open_screen
    from hpo.study.devices import settle
    from hpo.study.prepare import prepare

    with open_screen(sys.stderr) as screen:
        prepared = prepare(study, screen)
        resources = settle(study, prepared, screen.say)
    recorder = Recorder(points, len(prepared.splits.train), file)
    objective = prepared.objective(study, folder / "checkpoints", gpus=resources.gpus)
    if inline:
        InlineRunner(objective).run(recorder)
    else:
        from hpo.runners.ray import RayRunner

        RayRunner(objective, gpus=resources.gpus).run(recorder)


if __name__ == "__main__":
    main()
