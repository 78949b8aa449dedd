"""`python tests/faults/injecting.py [--long] [--only WORDS] [--write FILE]`: all injections, and the table of them."""

import argparse
import os
import platform
import re
import sys
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from drivers import NotReachedError, ViolationError
from injections import INJECTIONS, Injection
from lab import Bench, bench
from moments import more_moments
from outages import OUTAGES
from services import postgres_binaries

WORKERS = 2
"""Cases at a time: each keeps a core busy."""

BEGIN, END = "<!-- injections -->", "<!-- /injections -->"


@dataclass(frozen=True)
class Outcome:
    """violation: None where everything held. was_reached: whether the study came to the moment of the fault.
    begun_again: trials that had to be begun again for it."""

    injection: Injection
    seconds: float
    violation: str | None = None
    was_reached: bool = True
    begun_again: int = 0


def inject(own: Bench, injection: Injection) -> Outcome:
    """One injection on a new study."""
    began = time.monotonic()
    case = own.case(_slug(injection.name), injection.kind, **injection.changes)
    try:
        case.runner = injection.runner
        injection.how(case)
        if not case.is_concluded:
            case.conclude(same=injection.same)
    except NotReachedError:
        return Outcome(injection, time.monotonic() - began, was_reached=False)
    except ViolationError as error:
        return Outcome(injection, time.monotonic() - began, str(error))
    except Exception:  # of the harness itself: it counts as a violation, with its place
        return Outcome(injection, time.monotonic() - began, traceback.format_exc())
    finally:
        case.stop()
    return Outcome(injection, time.monotonic() - began, begun_again=case.begun_again())


def _slug(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name.lower())[:40].strip("-")


def run(chosen: Sequence[Injection], workers: int) -> list[Outcome]:
    with bench() as own, ThreadPoolExecutor(workers) as pool:

        def one(injection: Injection) -> Outcome:
            outcome = inject(own, injection)
            held = "VIOLATED" if outcome.violation else "held" if outcome.was_reached else "no moment"
            print(f"{held:9} {outcome.seconds:6.1f} s  {injection.name}", flush=True)
            if outcome.violation:
                print(outcome.violation, flush=True)
            return outcome

        return [outcome for outcome in pool.map(one, chosen) if outcome.was_reached]


def table(outcomes: Sequence[Outcome]) -> str:
    lines = ["| injected | exit codes | held | trials begun again | seconds |", "| --- | --- | --- | --- | --- |"]
    lines += [
        f"| {own.injection.name} | {own.injection.exits} | {'yes' if own.violation is None else '**no**'} "
        f"| {own.begun_again} | {own.seconds:.0f} |"
        for own in outcomes
    ]
    return "\n".join(lines)


def write(page: Path, text: str) -> None:
    """Between the two marks of a page that has them."""
    before, mark, rest = page.read_text("utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not mark or not end:
        raise SystemExit(f"{page} has no {BEGIN} and {END}")
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def versions() -> str:
    """When, and on what."""
    named = ", ".join(f"{name} {version(name)}" for name in ("torch", "ray", "optuna", "mlflow"))
    return f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, {named}, {os.cpu_count()} cores"


def table_of(*, long: bool) -> list[Injection]:
    """All injections of a form."""
    every = [*INJECTIONS, *OUTAGES]
    return [*every, *more_moments()] if long else [own for own in every if own.short]


def is_possible(injection: Injection) -> bool:
    """Whether this machine has what it needs."""
    return injection.service != "postgres" or postgres_binaries() is not None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--long", action="store_true", help="all of them, not the short selection")
    parser.add_argument("--only", default="", help="those whose name this pattern matches")
    parser.add_argument("--workers", type=int, default=WORKERS)
    parser.add_argument("--write", type=Path, help="a file for the table")
    given = parser.parse_args()
    chosen = [own for own in table_of(long=given.long) if re.search(given.only, own.name)]
    skipped = [own for own in chosen if not is_possible(own)]
    chosen = [own for own in chosen if is_possible(own)]
    began = time.monotonic()
    outcomes = run(chosen, given.workers)
    violated = [own for own in outcomes if own.violation]
    said = f"{len(outcomes)} injections in {time.monotonic() - began:.0f} s, {len(violated)} violations"
    said += f"; not possible here: {', '.join(own.name for own in skipped)}" if skipped else ""
    print(f"\n{table(outcomes)}\n\n{said}")
    if given.write:
        write(given.write, f"{said} ({versions()}; load {os.getloadavg()[0]:.0f}).\n\n{table(outcomes)}")
    return 1 if violated else 0


if __name__ == "__main__":
    sys.exit(main())
