"""Injections into the machine under a study: its disk, its memory, its clock."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

from drivers import ViolationError
from injections import KILLED, SLOW, Injection
from lab import Case
from services import small_disk


def files_too_large(case: Case) -> None:
    """No file may grow beyond 20 kB: no ledger, no checkpoint. As on a full disk, nothing that was written is lost."""
    driver = case.run(resume=False, file_bytes=20_000)
    if driver.code not in (1, 4):
        raise ViolationError(f"it ended with {driver.code}:\n{driver.said}")
    case.resume()


def file_limit_later(case: Case) -> None:
    """The same in a study that goes on: the limit is below what its ledger has already."""
    case.expect(case.run(resume=False, env={"HPO_CRASH": "tell-mirror:2"}), KILLED)
    case.expect(case.run(file_bytes=60_000), 4)
    case.resume()


def fill(folder: Path) -> Path:
    """Until not one more byte has room; the file that takes it."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4_096))
        except OSError:
            return filler


def disk_filled(*, killed: bool) -> Callable[[Case], None]:
    """A small disk fills up to the last byte in the middle of a trial, and has room again later. killed: the driver
    dies meanwhile. Where the last byte goes between its look and its write, it leaves with 4."""

    def how(case: Case) -> None:
        with small_disk(case.storage, 160):
            driver = case.start(resume=False, trial=SLOW)
            driver.wait_for("trial 1 +started")
            filler = fill(case.storage)
            time.sleep(5.0)
            if driver.code is None:
                driver.wait_for("the disk is full")
            if killed and driver.code is None:
                driver.send(signal.SIGKILL)
            else:
                filler.unlink()
            driver.wait()
            if driver.code not in ((KILLED, 4) if killed else (0, 4)):
                raise ViolationError(f"it ended with {driver.code}:\n{driver.said}")
            filler.unlink(missing_ok=True)
            case.resume()
            case.conclude()
            case.is_concluded = True

    return how


def clock(seconds: float) -> Callable[[Case], None]:
    """The second driver lives in another hour."""

    def how(case: Case) -> None:
        case.expect(case.run(resume=False, env={"HPO_CRASH": "after-report:5"}), KILLED)
        case.expect(case.run(clock=seconds), 0)

    return how


SPARE = 3.0
"""GB that everybody else may take meanwhile before Ray begins to kill."""


def memory_eaten(case: Case) -> None:
    """A trial takes memory until Ray's own killer ends its process; it is trained again with fewer rows at a time."""
    lines = [line.split() for line in Path("/proc/meminfo").read_text().splitlines()]
    memory = {name.rstrip(":"): int(kilobytes) * 1_024 for name, kilobytes, *_ in lines}
    free = memory["MemAvailable"]
    if free < (SPARE + 2.0) * 1e9:
        raise ViolationError(f"{free / 1e9:.1f} GB are free, too few to eat {SPARE + 2.0} of them")
    threshold = 1.0 - (free - SPARE * 1e9) / memory["MemTotal"]
    env = {"RAY_memory_usage_threshold": f"{threshold:.3f}", "RAY_memory_monitor_refresh_ms": "100"}
    once = str(case.folder / "once")
    driver = case.run(resume=False, env=env, trial={"kind": "eat", "once": once, "seconds": SPARE + 2.0})
    case.expect(driver, 0)
    if not Path(once).exists() or "out of memory with 16 rows at a time; again with 8" not in driver.said:
        raise ViolationError(f"Ray did not kill it:\n{driver.said}")


MACHINES: list[Injection] = [
    Injection("files may not grow (RLIMIT_FSIZE), from the start", files_too_large, "4, then 0", short=False),
    Injection("files may not grow (RLIMIT_FSIZE), in a later run", file_limit_later, "-9, 4, then 0"),
    Injection(
        "the disk is full to the last byte for 5 s",
        disk_filled(killed=False),
        "0, or 4, then 0",
        service="mount",
        short=False,
    ),
    Injection(
        "the disk is full to the last byte, and kill -9",
        disk_filled(killed=True),
        "-9, or 4, then 0",
        service="mount",
        short=False,
    ),
    Injection("the clock an hour ahead", clock(3600.0), "-9, then 0"),
    Injection("the clock an hour behind", clock(-3600.0), "-9, then 0", short=False),
    Injection("Ray's killer ends a trial that eats memory", memory_eaten, "0", runner="ray", same=False, short=False),
]
