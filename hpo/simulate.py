"""`python -m hpo.simulate --space PATH`: what a search set-up would do, in seconds and for nothing.

Owns the arguments and the table. Recorded learning curves, or a toy's, stand in for the training.
"""

import argparse
import json
import math
import random
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hpo.errors import ConfigError, DataError, HpoError, Problem

if TYPE_CHECKING:
    from hpo.config import StudyConfig
    from hpo.records import Objective
    from hpo.runners.replay import Curve
    from hpo.runners.simulated import Lead
    from hpo.study.simulation import Simulation

EPILOG = """examples:
  python -m hpo.simulate --space glue_sst2
  python -m hpo.simulate --space mine.yaml --curves benchmarks/curves/sst2.jsonl --slots 4
  python -m hpo.simulate --space mine.yaml --curves studies/mine --set search.scheduler=fifo --seeds 20

exit codes: 0 done; 2 your mistake; 4 a study's ledger can't be read"""

TOY = "toy"
ROWS = 1000
_DRAWS = 1000
"""Random configurations whose best stands for the best of a toy."""


@dataclass(frozen=True)
class Stage:
    """What stands in for the training. words: what it is. best: value that the search could find. rows: of validation,
    where they are known."""

    objective: "Objective"
    words: str
    best: float
    rows: int | None = None


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code. A mistake is told on stderr, one line a problem, without a traceback."""
    arguments = _parser().parse_args(argv)
    try:
        from hpo import config

        loaded = config.load(config.find(arguments.space), arguments.set)
        print(_played(loaded, arguments.curves, arguments.slots, arguments.seeds, arguments.rows))
        return 0
    except ConfigError as error:
        count = len(error.problems)
        print(f"{count} problem{'s' if count > 1 else ''} in {arguments.space}:", file=sys.stderr)
        for problem in error.problems:
            print(f"  {' '.join(str(problem).split())}", file=sys.stderr)
        return error.exit_code
    except HpoError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except ModuleNotFoundError as error:
        print(f"error: this Python has no {error.name}; first: . .venv/bin/activate", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


def _played(config: "StudyConfig", curves: str, slots: int, seeds: int, rows: int | None) -> str:
    from hpo.study.simulation import simulate

    if len(config.objectives) > 1:
        remedy = f"simulate the leading one: --set search.metric={config.metric}"
        raise ConfigError(
            [Problem("search.metric", f"{len(config.objectives)} metrics, but curves have one; {remedy}")]
        )
    if config.search.scheduler.type == "pbt":
        fault = "pbt changes values on the way, which no recorded curve has; --set search.scheduler=asha"
        raise ConfigError([Problem("search.scheduler", fault)])
    stage = _toy(config) if curves == TOY else _recorded(config, Path(curves))
    known = rows or stage.rows or ROWS
    error = standard_error(stage.best, known)
    runs = {
        seed: simulate(config, stage.objective, seed=seed, slots=slots)
        for seed in range(config.seed, config.seed + seeds)
    }
    budget = ", ".join(f"{value:g} {name}" for name, value in config.budget if value is not None)
    heading = (
        f"{config.study}: {config.search.sampler.type} + {config.search.scheduler.type}, {budget}, "
        f"{slots} at a time\n{stage.words}: {config.metric} {stage.best:.4f} at best; "
        f"reached is within one standard error of it, {error:.4f} over {known:,} rows\n"
    )
    return f"{heading}\n{table(config, runs, stage.best, error)}{_distance(stage, runs.values())}"


def standard_error(value: float, rows: int) -> float:
    """Of an accuracy over so many rows; of other metrics between 0 and 1 the order of magnitude."""
    share = min(max(abs(value), 0.0), 1.0)
    return math.sqrt(max(share * (1.0 - share), 1e-4) / rows)


Column = tuple[str, int, Callable[["Simulation"], float | None]]
"""Its head, its digits, and what it shows of a run; None where there is nothing to show."""


def table(config: "StudyConfig", runs: "Mapping[int, Simulation]", best: float, error: float) -> str:
    """A line a seed, then mean and standard deviation; a column that lacks a value has neither."""
    from hpo.records import TrialState

    sign = 1.0 if config.mode == "max" else -1.0

    def reached(run: "Simulation") -> "Lead | None":
        return next((lead for lead in run.leads if sign * (best - lead.value) <= error), None)

    columns: list[Column] = [
        ("trials", 0, lambda run: len(run.records)),
        ("complete", 0, lambda run: run.count(TrialState.COMPLETE)),
        ("pruned", 0, lambda run: run.count(TrialState.PRUNED)),
        ("epochs", 1, lambda run: run.epochs),
        ("hours", 2, lambda run: run.seconds / 3600),
        ("reached: epochs", 1, lambda run: lead.epochs if (lead := reached(run)) else None),
        ("hours", 2, lambda run: lead.seconds / 3600 if (lead := reached(run)) else None),
        (f"best {config.metric}", 4, lambda run: run.best.value if run.best else None),
        ("regret", 4, lambda run: max(0.0, sign * (best - run.best.value)) if run.best else None),
    ]
    values = {str(seed): [of(run) for _, _, of in columns] for seed, run in runs.items()}
    by_column = [[one for one in own if one is not None] for own in zip(*values.values(), strict=True)]
    whole = [own if len(own) == len(runs) else [] for own in by_column]
    values["mean"] = [statistics.fmean(own) if own else None for own in whole]
    values["spread"] = [statistics.stdev(own) if len(own) > 1 else None for own in whole]
    rows = [["seed", *(head for head, _, _ in columns)]]
    for name, own in values.items():
        finer = int(name in ("mean", "spread"))
        digits = [max(places, finer) for _, places, _ in columns]
        rows.append([name, *("-" if one is None else f"{one:.{n}f}" for one, n in zip(own, digits, strict=True))])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def _toy(config: "StudyConfig") -> Stage:
    from hpo.records import Seeds, TrialConfig
    from hpo.runners.toy import TimedToy

    objective, source = TimedToy(metric=config.metric), random.Random(0)
    if config.mode == "min":
        raise ConfigError([Problem("search.metric", f"the toy has no {config.metric}: name recorded ones by --curves")])

    def final(number: int) -> float:
        params = config.space.draw(source)
        reports = objective(TrialConfig(number, params, Seeds(number, number)))
        return max(report.metrics[config.metric] for report in reports)

    best = max(final(number) for number in range(_DRAWS))
    return Stage(objective, f"a toy in place of the training, best of {_DRAWS:,} random draws", best)


def _recorded(config: "StudyConfig", source: Path) -> Stage:
    from hpo.runners.replay import ReplayObjective, read_curves

    curves, rows = _of_a_study(source, config.metric) if source.is_dir() else (read_curves(source), None)
    known = {name for curve in curves for one in curve.evaluations for name in one.metrics}
    if any(config.metric not in one.metrics for curve in curves for one in curve.evaluations):
        raise DataError(f"{source} has no {config.metric}, only {', '.join(sorted(known))}; --set search.metric=...")
    budget = config.budget
    if "seconds" not in known and budget.trials is None and budget.epochs is None:
        raise DataError(f"{source} has no seconds, so that no hours pass; --set budget.trials=40, or budget.epochs")
    sign = 1.0 if config.mode == "max" else -1.0
    best = sign * max(sign * curve.best(config.metric, sign) for curve in curves)
    return Stage(ReplayObjective(config.space, curves), f"{len(curves)} recorded trials of {source}", best, rows)


def _of_a_study(folder: Path, metric: str) -> "tuple[list[Curve], int | None]":
    """The curves in its ledger, and its validation rows where it tells of them."""
    from hpo.config import StudyConfig
    from hpo.ledger import Ledger
    from hpo.runners.replay import curves_of

    try:
        saved = json.loads((folder / "study.json").read_text("utf-8"))["config"]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{folder} is not a study's folder ({error}); name one, or a file of curves") from None
    study = StudyConfig.from_json(json.dumps(saved))
    if study.metric != metric:
        raise DataError(f"{folder} searched for {study.metric}, not {metric}; --set search.metric={study.metric}")
    ledger = Ledger(
        folder,
        study=study.study,
        mode=study.mode,
        space=study.space,
        sampler=study.search.sampler,
        seed=study.seed,
        others={name: mode for name, mode in study.objectives.items() if name != study.metric},
    )
    curves = curves_of(ledger.records(), metric)
    if not curves:
        raise DataError(f"{folder} has no finished trial with a curve; let it run for longer, or name another one")
    return curves, _validation_rows(folder)


def _validation_rows(folder: Path) -> int | None:
    try:
        first = json.loads((folder / "events.jsonl").read_text("utf-8").splitlines()[0])
        return next(int(one["rows"]) for one in first["datasets"] if one["split"] == "validation")
    except (OSError, ValueError, KeyError, IndexError, StopIteration):
        return None


def _distance(stage: Stage, runs: "Iterable[Simulation]") -> str:
    """How far the answers were fetched."""
    from hpo.runners.replay import ReplayObjective

    if not isinstance(stage.objective, ReplayObjective):
        return ""
    far = statistics.median(stage.objective.nearest(record.params)[1] for run in runs for record in run.records)
    return f"\n\nThe nearest recorded trial lay {far:.2f} away at the median, where a whole range is 1."


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m hpo.simulate",
        description="Play a search set-up over learning curves, recorded or made up: seconds instead of hours.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--space", required=True, metavar="PATH", help="the search-space file, or a shipped one's name")
    parser.add_argument(
        "--curves",
        default=TOY,
        metavar="SOURCE",
        help="a file of benchmarks/record.py, or the folder of a finished study; a toy without it",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="a.b=value", help="set a key of the file; may be given often"
    )
    parser.add_argument("--slots", type=_count, default=1, metavar="N", help="trials beside each other (1)")
    parser.add_argument("--seeds", type=_count, default=5, metavar="N", help="simulated studies (5)")
    parser.add_argument(
        "--rows", type=_count, metavar="N", help="validation rows, for the standard error (the study's own, else 1,000)"
    )
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 10_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 10,000")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
