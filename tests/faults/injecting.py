"""`python tests/faults/injecting.py [--long] [--only WORDS] [--write FILE]`: all injections, and the table of them.

With --results FILE each outcome is kept as a line of JSON, and what has held is not run again: the long form takes
hours, and may be run in parts (--seconds).
"""

import argparse
import json
import os
import platform
import re
import sys
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import fmean

from drivers import TRAINED, NotReachedError, ViolationError
from injections import INJECTIONS, Injection
from lab import Bench, bench, trained_again
from machines import MACHINES
from moments import more_moments
from outages import OUTAGES
from services import can_mount, postgres_binaries

WORKERS = 2
"""Cases at a time: each keeps a core busy."""


@dataclass(frozen=True)
class Outcome:
    """Of the injection `name`. violation: None where everything held. was_reached: whether the study came to the moment
    of the fault. begun_again: trials that had to be begun again for it. rows_again: rows that were trained again, and
    part_again: of how many whole trials they are."""

    name: str
    seconds: float
    violation: str | None = None
    was_reached: bool = True
    begun_again: int = 0
    rows_again: int = 0
    part_again: float = 0.0


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
        return Outcome(injection.name, time.monotonic() - began, was_reached=False)
    except ViolationError as error:
        return Outcome(injection.name, time.monotonic() - began, str(error))
    except Exception:  # of the harness itself: it counts as a violation, with its place
        return Outcome(injection.name, time.monotonic() - began, traceback.format_exc())
    finally:
        case.stop()
    rows, part = trained_again(case.folder / TRAINED)
    return Outcome(injection.name, time.monotonic() - began, None, True, case.begun_again(), rows, part)


def _slug(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name.lower())[:40].strip("-")


def read(results: Path | None) -> dict[str, Outcome]:
    """By name, of each the last one."""
    if results is None or not results.exists():
        return {}
    kept = [Outcome(**json.loads(line)) for line in results.read_text("utf-8").splitlines()]
    return {own.name: own for own in kept}


def run(chosen: Sequence[Injection], workers: int, results: Path | None, seconds: float) -> dict[str, Outcome]:
    """What has not held yet, by `results`; none is begun after so many seconds."""
    known = read(results)
    left = [own for own in chosen if own.name not in known or known[own.name].violation]
    if not left or seconds <= 0:
        return known
    end = time.monotonic() + seconds
    with bench() as own, ThreadPoolExecutor(workers) as pool:

        def one(injection: Injection) -> None:
            if time.monotonic() > end:
                return
            outcome = known[injection.name] = inject(own, injection)
            if results is not None:
                with results.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(outcome)) + "\n")
            held = "VIOLATED" if outcome.violation else "held" if outcome.was_reached else "no moment"
            print(f"{held:9} {outcome.seconds:6.1f} s  {injection.name}", flush=True)
            if outcome.violation:
                print(outcome.violation, flush=True)

        list(pool.map(one, left))
    return known


def one_by_one(chosen: Sequence[Injection], known: dict[str, Outcome]) -> str:
    """A line an injection."""
    lines = ["| injected | exit codes | held | trials begun again | trained again | seconds |"]
    lines += ["| --- | --- | --- | --- | --- | --- |"]
    for injection in chosen:
        own = known[injection.name]
        held = "yes" if own.violation is None else "**no**"
        again = f"{own.rows_again} rows, {own.part_again:.2f} of a trial" if own.rows_again else "nothing"
        lines.append(f"| {own.name} | {injection.exits} | {held} | {own.begun_again} | {again} | {own.seconds:.0f} |")
    return "\n".join(lines)


def by_family(chosen: Sequence[Injection], known: dict[str, Outcome]) -> str:
    """A line for all moments and seeds of an injection."""
    families: dict[str, list[Outcome]] = {}
    for injection in chosen:
        families.setdefault(injection.family or injection.name, []).append(known[injection.name])
    lines = ["| injected | times | held | trials begun again | trained again, of a trial: mean | at most |"]
    lines += ["| --- | --- | --- | --- | --- | --- |"]
    for family, own in families.items():
        held, parts = [one for one in own if one.violation is None], [one.part_again for one in own]
        begun = fmean(one.begun_again for one in own)
        lines.append(f"| {family} | {len(own)} | {len(held)} | {begun:.2g} | {fmean(parts):.2f} | {max(parts):.2f} |")
    return "\n".join(lines)


def write(page: Path, mark: str, text: str) -> None:
    """Between <!-- mark --> and <!-- /mark --> of a page that has them."""
    begin, end = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    before, found, rest = page.read_text("utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise SystemExit(f"{page} has no {begin} and {end}")
    page.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")


def versions() -> str:
    """When, and on what."""
    named = ", ".join(f"{name} {version(name)}" for name in ("torch", "ray", "optuna", "mlflow"))
    return f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, {named}, {os.cpu_count()} cores"


def table_of(*, long: bool) -> list[Injection]:
    """All injections of a form."""
    every = [*INJECTIONS, *MACHINES, *OUTAGES]
    return [*every, *more_moments()] if long else [own for own in every if own.short]


POSSIBLE = {None: lambda: True, "postgres": lambda: postgres_binaries() is not None, "mount": can_mount}


def is_possible(injection: Injection) -> bool:
    """Whether this machine has what it needs."""
    return POSSIBLE[injection.service]()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--long", action="store_true", help="all of them, not the short selection")
    parser.add_argument("--only", default="", help="those whose name this pattern matches")
    parser.add_argument("--workers", type=int, default=WORKERS)
    parser.add_argument("--results", type=Path, help="a file of outcomes, which this run goes on with")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin none after so long; 0: table only")
    parser.add_argument("--write", type=Path, help="a page for the table")
    given = parser.parse_args()
    every = [own for own in table_of(long=given.long) if re.search(given.only, own.name)]
    chosen = [own for own in every if is_possible(own)]
    began = time.monotonic()
    known = run(chosen, given.workers, given.results, given.seconds)
    reached = [own for own in chosen if own.name not in known or known[own.name].was_reached]
    done = [own for own in reached if own.name in known]
    held = sum(known[own.name].violation is None for own in done)
    said = f"{len(done)} of {len(reached)} injected, {held} held"
    if skipped := [own.name for own in every if own not in chosen]:
        said += f"; not possible here: {', '.join(skipped)}"
    table = (by_family if given.long else one_by_one)(done, known)
    print(f"\n{table}\n\n{said}; {time.monotonic() - began:.0f} s")
    if given.write:
        load = os.getloadavg()[0]
        write(
            given.write,
            "all injections" if given.long else "injections",
            f"{said} ({versions()}; load {load:.0f}).\n\n{table}",
        )
    return 1 if held < len(done) else 0


if __name__ == "__main__":
    sys.exit(main())
