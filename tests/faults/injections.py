"""The table of faults: what is done to a study, and what has to come of it. One row an injection.

Every injection gets a case, does its harm, and lets the study go on until its end; what has to hold then is checked by
the lab (`Case.conclude`), the same for all. Short ones are on every commit, all of them with more moments in the long
form.
"""

import shutil
import signal
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from drivers import NotReachedError, ViolationError
from lab import LINGER, Case, gone

KILLED = -signal.SIGKILL


@dataclass(frozen=True)
class Injection:
    """name: family and moment, as the table shows it. how: does the harm. exits: exit codes that it has to see, in
    words. kind: of study. same: whether the ledger has to be that of an undisturbed study. service: what it needs.
    family: what the same injection at other moments is called."""

    name: str
    how: Callable[[Case], None]
    exits: str
    kind: str = "plain"
    runner: str = "inline"
    same: bool = True
    service: str | None = None
    short: bool = True
    family: str = ""
    changes: dict[str, str] = field(default_factory=dict)


# Killed at a named point


def killed_at(*places: str) -> Callable[[Case], None]:
    """At each place one driver, and then one that comes to the end."""

    def how(case: Case) -> None:
        for turn, place in enumerate(places):
            driver = case.run(resume=turn > 0, env={"HPO_CRASH": place})
            if driver.code == 0:
                raise NotReachedError(place)
            case.expect(driver, KILLED)
        case.resume()

    return how


def killed_and_mended(place: str) -> Callable[[Case], None]:
    """The check says what is broken, mends it without training, and the study goes on as if nothing had been."""

    def how(case: Case) -> None:
        driver = case.run(resume=False, env={"HPO_CRASH": place})
        if driver.code == 0:
            raise NotReachedError(place)
        case.expect(driver, KILLED)
        case.verify(1)
        case.verify(0, "--repair")
        case.resume()

    return how


def writer_killed(place: str) -> Callable[[Case], None]:
    """The process of a trial dies while it writes; Ray starts another one, and the driver never notices."""

    def how(case: Case) -> None:
        env = {"HPO_CRASH": place, "HPO_CRASH_ONCE": str(case.folder / "once")}
        case.expect(case.run(resume=False, env=env), 0)
        if not (case.folder / "once").exists():
            raise ViolationError("nobody was killed")

    return how


# Killed, stopped, started twice from outside


def killed_after(words: str, seconds: float = 0.0) -> Callable[[Case], None]:
    def how(case: Case) -> None:
        driver = case.start(resume=False, trial=SLOW)
        driver.wait_for(words)
        time.sleep(seconds)
        driver.send(signal.SIGKILL)
        driver.wait()
        case.expect(driver, KILLED)
        if not gone(case.folder, LINGER):
            raise ViolationError(f"processes are left {LINGER:.0f} s after the kill")
        case.resume()

    return how


SLOW = {"kind": "slow", "seconds": 0.3}


def signalled(number: signal.Signals, times: int = 1) -> Callable[[Case], None]:
    def how(case: Case) -> None:
        driver = case.start(resume=False, trial=SLOW)
        driver.wait_for("trial 1 +started")
        for _ in range(times):
            driver.send(number)
            time.sleep(0.2)
        if (took := _waited(driver.wait, 60.0)) > 30.0:
            raise ViolationError(f"it took {took:.0f} s to leave")
        case.expect(driver, 128 + number)
        if not gone(case.folder, LINGER):
            raise ViolationError(f"processes are left {LINGER:.0f} s after the signal")
        case.resume()

    return how


def _waited(wait: Callable[[float], int], seconds: float) -> float:
    began = time.monotonic()
    wait(seconds)
    return time.monotonic() - began


def started_twice(case: Case) -> None:
    driver = case.start(resume=False, trial=SLOW)
    driver.wait_for("trial 1 +started")
    case.expect(case.run(), 75)
    case.verify(75)
    driver.wait()
    case.expect(driver, 0)


# What trials do


def trial_fault(kind: str, code: int = 0, **fault: object) -> Callable[[Case], None]:
    """Of trial 1, after its first report. The search goes on without it."""

    def how(case: Case) -> None:
        once = str(case.folder / "once")
        case.expect(case.run(resume=False, trial={"kind": kind, "once": once, **fault}), code)
        if not Path(once).exists():
            raise ViolationError("the fault never struck")

    return how


# Files


def _finished(case: Case) -> None:
    case.expect(case.run(resume=False), 0)


def _best(case: Case) -> Path:
    """The folder of the best checkpoint: with `keep: 1`, the one that is not the default's if there are two."""
    folders = sorted(path for path in (case.study / "checkpoints").iterdir())
    return folders[-1]


def flip(path: Path) -> None:
    """One bit in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def cut(path: Path) -> None:
    """The second half is lost."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def checkpoint_hurt(name: str, hurt: Callable[[Path], None]) -> Callable[[Case], None]:
    """The check names it; the folder is removed, and the trial is trained again."""

    def how(case: Case) -> None:
        _finished(case)
        folder = _best(case)
        hurt(folder / name)
        checked = case.verify(1)
        if folder.name not in checked.said:
            raise ViolationError(f"verify does not name {folder.name}:\n{checked.said}")
        case.verify(1, "--repair")
        shutil.rmtree(folder)
        case.resume()

    return how


def file_hurt(name: str, hurt: Callable[[Path], None], code: int) -> Callable[[Case], None]:
    """A driver and the check refuse it with `code` and 1 or 4; what it was is restored, and all is well."""

    def how(case: Case) -> None:
        case.expect(case.run(resume=False, env={"HPO_CRASH": "tell-mirror:3"}), KILLED)
        _settle(case)
        path = case.study / name
        before = path.read_bytes()
        hurt(path)
        case.expect(case.run(), code)
        case.verify(4 if name == "study.json" else 1)
        path.write_bytes(before)
        case.resume()

    return how


def _settle(case: Case) -> None:
    """Bring the write-ahead log into the database, so that a copy of the file is a whole one."""
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(case.study / "ledger.db")) as connection:
        connection.execute("pragma wal_checkpoint(truncate)")


def value_flipped(case: Case) -> None:
    """A bit of a finished trial's value: the database is whole, and what the value has to agree with says so."""
    _finished(case)
    _settle(case)
    path = case.study / "ledger.db"
    before = path.read_bytes()
    value = next(value for _, _, value in case.ledger()[1] if value % 1.0)  # whole numbers are kept as such
    place = before.index(struct.pack(">d", value))  # SQLite keeps numbers as they are, the first byte first
    content = bytearray(before)
    content[place + 2] ^= 1
    path.write_bytes(bytes(content))
    case.verify(1)
    path.write_bytes(before)
    case.resume()


def log_hurt(hurt: Callable[[Path], None], name: str = "events.jsonl") -> Callable[[Case], None]:
    """Of what only mirrors the ledger nothing is needed that can't be made again."""

    def how(case: Case) -> None:
        case.expect(case.run(resume=False, env={"HPO_CRASH": "after-report:5"}), KILLED)
        hurt(case.study / name)
        case.verify(1)
        case.resume()

    return how


def torn(path: Path) -> None:
    with path.open("ab") as stream:
        stream.write(b'{"time":1.0,"kind":"trial_rep')


def rubbish(path: Path) -> None:
    path.write_bytes(b"\x00\xffnot a number")


def stray_line(case: Case) -> None:
    """A line that is no event is refused with its place; without it all is well."""
    case.expect(case.run(resume=False, env={"HPO_CRASH": "after-report:5"}), KILLED)
    path = case.study / "events.jsonl"
    before = path.read_bytes()
    lines = before.splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:3], b"what is this?\n", *lines[3:]]))
    case.expect(case.run(), 4)
    case.verify(1)
    path.write_bytes(path.read_bytes().replace(b"what is this?\n", b""))
    case.resume()


SHORT_KILLS = {
    "plain": "after-ask:3 before-report:4 after-report:2 at-rung:1 tell-mirror:4 retain:3 checkpoint:2 "
    "checkpoint-rename:1 mirror-create:2 mirror-cursor:1 finish:1",
    "confirm": "confirm-ask:2 confirm-report:1 confirm-tell:2",
    "promote": "promotion-model:1 promotion-version:1 promotion-alias:1 promotion-outcome:1",
}
"""Where a driver is killed, and for which time it comes by, on every commit."""

INJECTIONS: list[Injection] = [
    *(
        Injection(
            f"kill -9 of the driver, {place}",
            killed_at(place),
            "-9, then 0",
            kind=kind,
            family=f"kill -9 of the driver, {place.partition(':')[0]}",
        )
        for kind, places in SHORT_KILLS.items()
        for place in places.split()
    ),
    Injection("kill -9 during the resume of a killed one", killed_at("after-report:3", "resume"), "-9, -9, then 0"),
    Injection(
        "kill -9 of three drivers, one after the other",
        killed_at("before-report:3", "tell-mirror:1", "after-ask:2"),
        "-9, -9, -9, then 0",
    ),
    Injection(
        "kill -9, verify --repair, after-report:4",
        killed_and_mended("after-report:4"),
        "-9, 1, 0, then 0",
        family="kill -9, verify --repair",
    ),
    Injection("SIGTERM", signalled(signal.SIGTERM), "143, then 0"),
    Injection("SIGINT", signalled(signal.SIGINT), "130, then 0", short=False),
    Injection("the same study started twice", started_twice, "75 for the second, 0 for the first"),
    Injection("a metric is NaN", trial_fault("nan"), "0, the trial failed", same=False),
    Injection("a metric is infinite", trial_fault("inf"), "0, the trial failed", same=False, short=False),
    Injection("a metric is missing", trial_fault("missing"), "0, the trial failed", same=False),
    Injection("a flipped bit in the best weights", checkpoint_hurt("model.safetensors", flip), "verify 1", same=False),
    Injection(
        "the best manifest cut in half", checkpoint_hurt("manifest.json", cut), "verify 1", same=False, short=False
    ),
    Injection("the ledger cut in half", file_hurt("ledger.db", cut, 4), "-9, 4, verify 1, then 0"),
    Injection("a flipped bit in a value of the ledger", value_flipped, "verify 1, then 0", short=False),
    Injection("study.json cut in half", file_hurt("study.json", cut, 4), "-9, 4, verify 4, then 0"),
    Injection("the last event half-written", log_hurt(torn), "-9, verify 1, then 0"),
    Injection("a line that is no event", stray_line, "-9, 4, verify 1, then 0"),
    Injection("the mirror's cursor overwritten", log_hurt(rubbish, "mlflow.cursor"), "-9, verify 1, then 0"),
    Injection("Ray: kill -9 of the driver", killed_after("trial 1 +started"), "-9, then 0", runner="ray"),
    Injection("Ray: SIGINT", signalled(signal.SIGINT), "130, then 0", runner="ray"),
    Injection("Ray: Ctrl-C twice", signalled(signal.SIGINT, 2), "130, then 0", runner="ray"),
    Injection("Ray: kill -9 of a trial's process", trial_fault("kill"), "0", runner="ray"),
    Injection("Ray: kill -9 of a writer of checkpoints", writer_killed("checkpoint:1"), "0", runner="ray", short=False),
    Injection("Ray: a trial raises MemoryError", trial_fault("memory"), "0", runner="ray", same=False, short=False),
    Injection("Ray: a trial raises CUDA out of memory", trial_fault("cuda"), "0", runner="ray", same=False),
    Injection(
        "Ray: a trial hangs (resources.silent_minutes: 1)",
        trial_fault("hang", seconds=3_600.0),
        "0",
        runner="ray",
        short=False,
        changes={"resources": "{max_concurrent_trials: 1, silent_minutes: 1}"},
    ),
    Injection("Ray: a trial raises anything", trial_fault("raise"), "0", runner="ray", same=False, short=False),
]
