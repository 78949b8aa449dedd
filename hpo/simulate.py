"""`python -m hpo.simulate --space PATH`: what a search set-up would do, in seconds and for nothing.

Owns the arguments and the table. Recorded learning curves, or a toy's, stand in for the training.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hpo.errors import ConfigError, Problem, exit_code_of

if TYPE_CHECKING:
    from hpo.config import StudyConfig
    from hpo.runners.simulated import Lead
    from hpo.study.simulation import Simulation

EPILOG = """examples:
  python -m hpo.simulate --space glue_sst2
  python -m hpo.simulate --space mine.yaml --curves benchmarks/curves/sst2.jsonl --slots 4
  python -m hpo.simulate --space mine.yaml --curves studies/mine --set search.scheduler=fifo --seeds 20

exit codes: 0 done; 2 your mistake; 4 a study's ledger can't be read"""

TOY = "toy"
FAR_FROM = 0.5
FAR = "\nThat is far: these figures tell more of the recorded trials than of this space. Record some of it."
ROWS = 1000


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code. A mistake is told on stderr, one line a problem, without a traceback."""
    arguments = _parser().parse_args(argv)
    return exit_code_of(lambda: _simulate(arguments), file=arguments.space)


def _simulate(arguments: argparse.Namespace) -> int:
    from hpo import config

    loaded = config.load(config.find(arguments.space), arguments.set)
    print(_played(loaded, arguments.curves, arguments.slots, arguments.seeds, arguments.rows))
    return 0


def _played(config: "StudyConfig", curves: str, slots: int, seeds: int, rows: int | None) -> str:
    from hpo.study import simulation

    if len(config.objectives) > 1:
        remedy = f"simulate the leading one: --set search.metric={config.metric}"
        raise ConfigError(
            [Problem("search.metric", f"{len(config.objectives)} metrics, but curves have one; {remedy}")]
        )
    if config.search.scheduler.type == "pbt" and curves != TOY:
        remedy = "leave out --curves for the toy, or --set search.scheduler=asha"
        fault = f"pbt changes values on the way, which no recorded curve has; {remedy}"
        raise ConfigError([Problem("search.scheduler", fault)])
    stage = simulation.toy(config) if curves == TOY else simulation.recorded(config, Path(curves))
    known = rows or stage.rows or ROWS
    error = simulation.standard_error(stage.best, known)
    runs = {
        seed: simulation.simulate(config, stage.objective, seed=seed, slots=slots)
        for seed in range(config.seed, config.seed + seeds)
    }
    budget = ", ".join(f"{value:g} {name}" for name, value in config.budget if value is not None)
    heading = (
        f"{config.study}: {config.search.sampler.type} + {config.search.scheduler.type}, {budget}, "
        f"{slots} at a time\n{stage.words}: {config.metric} {stage.best:.4f} at best; "
        f"reached is within one standard error of it, {error:.4f} over {known:,} rows\n"
    )
    distance = simulation.distance(stage, runs.values())
    text = f"{heading}{_left_out(config)}\n{table(config, runs, stage.best, error)}"
    if distance is None:
        return text
    said = f"The nearest recorded trial lay {distance:.2f} away at the median, where a whole range is 1."
    return f"{text}\n\n{said}{FAR if distance > FAR_FROM else ''}"


def _left_out(config: "StudyConfig") -> str:
    """What of the file is no part of a search, in words."""
    asked = {
        "search.warm_start": config.search.warm_start,
        "confirm": config.confirm,
        "promotion.limits": config.limits.limits,
    }
    named = [key for key, value in asked.items() if value]
    return f"not played: {', '.join(named)}\n" if named else ""


Column = tuple[str, int, Callable[["Simulation"], float | None]]
"""Its head, its digits, and what it shows of a run; None where there is nothing to show."""


def table(config: "StudyConfig", runs: "Mapping[int, Simulation]", best: float, error: float) -> str:
    """A line a seed, then mean and standard deviation; a column that lacks a value has neither."""
    from hpo.records import TrialState

    sign = 1.0 if config.mode == "max" else -1.0

    def reached(run: "Simulation") -> "Lead | None":
        return run.reached(best - sign * error, sign)

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
