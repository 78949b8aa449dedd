"""A disk that is full: the search waits, says so once, and goes on; files that could not be written are whole."""

import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hpo.records import Failure, FailureKind, Report, Seeds, TrialConfig, Verdict
from hpo.study.room import LEDGER_BYTES, Room, WaitingForRoom
from hpo.training.checkpoint import SPARE


@dataclass
class Disk(Room):
    """With as much room as is written down here."""

    left: int = 10**12

    @property
    def free(self) -> int:
        return self.left


@dataclass
class Listening:
    """A search that gives out one trial after the other, and notes what it is told."""

    stopping: bool = False
    exhausted: bool = False
    told: list[str] = field(default_factory=list)

    def ask(self) -> TrialConfig | None:
        return TrialConfig(number=0, params={}, seeds=Seeds(init=1, order=2))

    def report(self, number: int, report: Report) -> Verdict:
        self.told.append("report")
        return Verdict.CONTINUE

    def failed(self, number: int, failure: Failure) -> None:
        self.told.append("failed")


REPORT = Report(step=1, progress=0.5, metrics={"accuracy": 0.5})
LOST = Failure(kind=FailureKind.LOST, reason="its process died")


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def disk(tmp_path: Path, said: list[str]) -> Disk:
    return Disk(tmp_path, checkpoint=400_000_000, say=said.append, look_seconds=0.01)


def after(seconds: float, act: object) -> threading.Timer:
    timer = threading.Timer(seconds, act)  # type: ignore[arg-type]
    timer.start()
    return timer


def test_where_there_is_room_nothing_is_said(disk: Disk, said: list[str]) -> None:
    search = WaitingForRoom(Listening(), disk)
    assert search.ask() is not None
    assert search.report(0, REPORT) is Verdict.CONTINUE
    assert said == []


def test_a_search_waits_for_room_for_a_checkpoint_and_goes_on_by_itself(disk: Disk, said: list[str]) -> None:
    disk.left = disk.checkpoint
    timer = after(0.2, lambda: setattr(disk, "left", disk.checkpoint + SPARE))
    assert WaitingForRoom(Listening(), disk).ask() is not None
    timer.join()
    assert said == [
        f"the disk is full: {disk.folder} has 400 MB free, and a checkpoint needs 464 MB; "
        "the search waits until there is room, nothing is lost",
        "there is room again (464 MB free); the search goes on",
    ]


def test_what_trials_say_is_written_as_long_as_the_ledger_has_room(disk: Disk) -> None:
    own = Listening()
    search = WaitingForRoom(own, disk)
    disk.left = LEDGER_BYTES
    search.report(0, REPORT)
    search.failed(0, LOST)
    assert own.told == ["report", "failed"]
    disk.left = LEDGER_BYTES - 1
    timer = after(0.2, lambda: setattr(disk, "left", LEDGER_BYTES))
    assert search.report(0, REPORT) is Verdict.CONTINUE
    timer.join()
    assert own.told == ["report", "failed", "report"]


def test_a_search_that_is_stopped_while_it_waits_writes_nothing_more(disk: Disk) -> None:
    own = Listening()
    search = WaitingForRoom(own, disk)
    disk.left = 0
    timer = after(0.2, lambda: setattr(own, "stopping", True))
    assert search.ask() is None
    assert search.report(0, REPORT) is Verdict.STOP
    search.failed(0, LOST)
    timer.join()
    assert own.told == []


def test_a_full_disk_is_seen_while_nobody_asks(disk: Disk, said: list[str]) -> None:
    with disk.watched():
        disk.left = 0
        after(0.2, lambda: setattr(disk, "left", 10**12)).join()
        after(0.2, lambda: None).join()
    assert len(said) == 2


FULL = """
import errno, os, sys
from pathlib import Path
import torch
from hpo.errors import ServiceError
from hpo.ledger import Ledger
from hpo.records import Seeds, TrialReported, TrialState
from hpo.samplers import RandomConfig
from hpo.space import FloatRange, SearchSpace
from hpo.tracking.spool import Spool
from hpo.training import checkpoint
from hpo.training.bookmarks import Bookmark, Bookmarks

class Nobody:
    def apply(self, event): pass
    def close(self): pass

folder = Path(sys.argv[1])
space = SearchSpace({"learning_rate": FloatRange(1e-5, 1e-1, log=True)})

def ledger():
    return Ledger(folder, study="s", mode="max", space=space, sampler=RandomConfig(), seed=1)

def fill():
    with open(folder / "filler", "ab", buffering=0) as file:
        while True:
            try:
                file.write(b"x" * 4096)
            except OSError as error:
                assert error.errno == errno.ENOSPC
                return

own, spool = ledger(), Spool(folder, Nobody)
for number in range(3):
    own.ask()
    own.tell(number, TrialState.COMPLETE, value=0.5)
event = TrialReported(time=1.0, number=0, step=1, metrics={"accuracy": 0.5})
spool.append(event)
weights = {"part": torch.zeros(1000)}
kept = dict(about={}, model_config={}, tokenizer_folder=folder / "none", trial=0, step=1, metrics={}, params={},
            seeds=Seeds(init=1, order=2))
(folder / "checkpoints").mkdir()
checkpoint.write(folder / "checkpoints" / "trial-0000", weights=weights, **kept)
fill()
for act in (own.ask, lambda: [spool.append(event) for _ in range(100)]):
    try:
        for _ in range(100):
            act()
    except ServiceError as error:
        print(type(error).__name__)
    else:
        raise AssertionError("there was room")
try:
    checkpoint.write(folder / "checkpoints" / "trial-0000", weights={"part": torch.ones(10**6)}, **kept)
except OSError as error:
    print(errno.errorcode[error.errno])
mark = Bookmark(
    of="x", step=1, seen=0, seconds=0.0, trained=0.0, elapsed=0.0, reports=(), best=None, params={}, source=0
)
print(Bookmarks(folder / "running").write("trial-0000", mark, 10, lambda path: path.write_bytes(b"0" * 10)))
checkpoint.verify(folder / "checkpoints" / "trial-0000")
assert [path.name for path in (folder / "checkpoints").iterdir()] == ["trial-0000"]
os.unlink(folder / "filler")
spool.append(event)
assert spool.close(10.0)
again = ledger()
done = [record for record in again.records() if record.state is TrialState.COMPLETE]
assert [record.value for record in done] == [0.5, 0.5, 0.5]
record = again.ask()
again.tell(record.number, TrialState.COMPLETE, value=0.6)
lines = Spool(folder, Nobody)
print(len({event.step for event in lines.events()}), "whole")
lines.close(10.0)
"""


@pytest.fixture
def own_mounts() -> None:
    """Skips where this user can't mount a file system of its own."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("no user namespaces here; a small disk can't be mounted")


@pytest.mark.usefixtures("own_mounts")
def test_ledger_log_checkpoint_and_bookmark_survive_a_disk_that_fills_up(tmp_path: Path) -> None:
    program = tmp_path / "full.py"
    program.write_text(FULL)
    disk = tmp_path / "disk"
    disk.mkdir()
    script = f"mount -t tmpfs -o size=24m tmpfs {disk} && exec {sys.executable} {program} {disk}"
    done = subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["ServiceError", "ServiceError", "ENOSPC", "False", "1 whole"]


STUDY = """
mount -t tmpfs -o size=100m tmpfs {disk}
dd if=/dev/zero of={disk}/filler bs=1M count=60 status=none
{python} -u -m hpo.run --space {space} --storage {disk} > {log} 2>&1 &
pid=$!
for _ in $(seq 600); do grep -q "the disk is full" {log} && break; sleep 0.1; done
sleep 1
rm {disk}/filler
wait $pid
"""


@pytest.mark.service
@pytest.mark.usefixtures("own_mounts")
def test_a_study_on_a_full_disk_waits_and_then_goes_on(films: Path) -> None:
    disk, log = films.parent / "disk", films.parent / "log"
    disk.mkdir()
    script = STUDY.format(disk=disk, python=sys.executable, space=films, log=log)
    done = subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, timeout=200)
    said = log.read_text()
    assert done.returncode == 0, said + done.stderr
    assert f"the disk is full: {disk / 'films'} has " in said, said
    assert said.index("the disk is full") < said.index("there is room again") < said.index("trial 0")
    assert "models:/films@champion" in said
