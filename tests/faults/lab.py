"""The place where studies are hurt: prepared folders, forked drivers, and what has to hold afterwards.

A `Bench` is made once and holds what all cases share: a tiny BERT, encoded rows, an empty MLflow store, a zygote. A
`Case` is one study in a folder of its own. Owns no faults: those are in `injections`.
"""

import os
import re
import shutil
import signal
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drivers import CANARY, HERE, MARK, Driver, ViolationError, Zygote

SPACE = """\
study: {name}
seed: 3
model: {{name: {model}}}
task: {{type: sequence-classification, text: sentence, label: label, max_length: 16}}
data:
  files: {{train: {data}/train.tsv, validation: {data}/validation.tsv}}
  test: {{from: train, rows: 60}}
space:
  learning_rate: {{low: 1e-4, high: 1e-2, log: true}}
  num_train_epochs: [1, 2]
  per_device_train_batch_size: 16
  hidden_dropout_prob: {{low: 0.0, high: 0.2}}
search: {{sampler: {{type: tpe, n_startup_trials: 3}}, scheduler: {{type: asha, rungs: 2, reduction_factor: 2}}}}
budget: {{trials: 5}}
resources: {{max_concurrent_trials: 1}}
checkpoints: {{keep: 1}}
tracking: {{uri: "{uri}"}}
storage: {storage}
"""

KINDS = {
    "plain": "",
    "confirm": "confirm: {top: 2, seeds: 2}\nbudget: {trials: 3}\n",
    "promote": "promotion: {model: NAME, confidence: null}\nbudget: {trials: 3}\n",
}
"""What is added to the space file; a key that is there already is replaced."""


LINGER = 120.0
"""Seconds that a process may outlive its study: a killed driver's Ray takes up to a minute to notice."""


@dataclass
class Bench:
    """What all cases share. folder: of everything that is made here. server: of MLflow, made by the first
    that needs it; one case at a time has its turn at it."""

    folder: Path
    zygote: Zygote = field(default_factory=Zygote)
    references: dict[tuple[str, str], Any] = field(default_factory=dict)
    server: Any = None
    turn: Any = field(default_factory=threading.Lock)
    first: Any = field(default_factory=threading.Lock)
    _count: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        sys.path.insert(0, str(HERE.parent))
        from films import write_films
        from tiny_bert import write_tiny_bert

        from hpo.mlflow_client import open_client

        write_films(self.folder / "data")
        write_tiny_bert(self.folder / "bert")
        open_client(f"sqlite:///{self.folder / 'mlflow.db'}")
        self.reference("plain", "3")

    def reference(self, kind: str, seed: str) -> Any:
        """The ledger of a study that is never disturbed."""
        with self.first:
            if (kind, seed) not in self.references:
                case = self.case(f"reference-{kind}", kind, seed=seed)
                case.expect(case.run(resume=False), 0)
                self.references[kind, seed] = case.ledger()
                if not (self.folder / "cache" / seed).exists():
                    shutil.copytree(case.storage / ".cache", self.folder / "cache" / seed)
            return self.references[kind, seed]

    def case(self, name: str, kind: str = "plain", uri: str | None = None, **changes: str) -> "Case":
        with self._lock:
            self._count += 1
            number = self._count
        study = f"s{number:03d}-{name}"[:60]
        folder = self.folder / study
        (folder / "tmp").mkdir(parents=True)
        if uri is None:
            shutil.copy(self.folder / "mlflow.db", folder / "mlflow.db")
            uri = f"sqlite:///{folder / 'mlflow.db'}"
        case = Case(self, folder, study, kind, uri, changes.get("seed", "3"))
        case.write(**changes)
        cache = self.folder / "cache" / case.seed
        if cache.exists():
            shutil.copytree(cache, case.storage / ".cache", copy_function=os.link)
        return case

    def close(self) -> None:
        self.zygote.close()
        if self.server is not None:
            self.server.kill()


@dataclass
class Case:
    """One study. runner: where its trials run, unless an injection says otherwise. env: of all its drivers."""

    bench: Bench
    folder: Path
    name: str
    kind: str
    uri: str
    seed: str = "3"
    runner: str = "inline"
    is_concluded: bool = False
    env: dict[str, str] = field(default_factory=dict)
    drivers: list[Driver] = field(default_factory=list)
    _runs: int = 0

    @property
    def storage(self) -> Path:
        return self.folder / "studies"

    @property
    def study(self) -> Path:
        return self.storage / self.name

    @property
    def space(self) -> Path:
        return self.folder / "space.yaml"

    def write(self, **changes: str) -> None:
        """The space file; changes: lines by key, in place of those that are there."""
        text = SPACE.format(
            name=self.name,
            model=self.bench.folder / "bert",
            data=self.bench.folder / "data",
            uri=self.uri,
            storage=self.storage,
        )
        lines = text.splitlines()
        added = KINDS[self.kind].replace("NAME", self.name).splitlines()
        for line in [*added, *(f"{key}: {value}" for key, value in {"seed": self.seed, **changes}.items())]:
            key = line.partition(":")[0]
            lines = [own for own in lines if not own.startswith(f"{key}:")] + [line]
        self.space.write_text("\n".join(lines) + "\n")

    def start(self, *, resume: bool = True, program: str = "run", runner: str | None = None, **asked: Any) -> Driver:
        """The driver; `env`, `trial`, `clock`, `file_bytes` as the zygote takes them."""
        self._runs += 1
        arguments = ["--space", str(self.space), *(["--resume"] if resume else []), *asked.pop("more", ())]
        if program == "verify":
            arguments = ["--study", str(self.study), "--tracking-uri", self.uri, *asked.pop("options", ())]
        environment = {"TMPDIR": str(self.folder / "tmp"), MARK: str(self.folder), **self.env, **asked.pop("env", {})}
        driver = self.bench.zygote.fork(
            self.folder / f"{self._runs:02d}-{program}.txt",
            program=program,
            arguments=arguments,
            runner=runner or self.runner,
            cwd=str(self.folder),
            env=environment,
            **asked,
        )
        self.drivers.append(driver)
        return driver

    def stop(self) -> None:
        """End what a violation has left running."""
        for driver in self.drivers:
            if driver.code is None:
                driver.send(signal.SIGKILL)

    def run(self, *, seconds: float = 240.0, **asked: Any) -> Driver:
        """The same, waited for."""
        driver = self.start(**asked)
        driver.wait(seconds)
        return driver

    def expect(self, driver: Driver, code: int) -> None:
        if driver.code != code:
            raise ViolationError(f"it ended with {driver.code}, not {code}:\n{driver.said[-3_000:]}")
        if code in (2, 4, 75) and "Traceback" in driver.said:
            raise ViolationError(f"a traceback was shown:\n{driver.said[-3_000:]}")

    def resume(self, **asked: Any) -> None:
        """Go on until the end, without a fault."""
        self.expect(self.run(**asked), 0)

    def verify(self, code: int | None = 0, *options: str) -> Driver:
        """`hpo.verify` on the study. code: what it has to end with, None for anything."""
        checked = self.run(program="verify", options=options)
        if code is not None and checked.code != code:
            raise ViolationError(f"verify ended with {checked.code}, not {code}:\n{checked.said}")
        return checked

    def ledger(self) -> list[Any]:
        """What the ledger says, to the last digit: states, values, params and curves of trials and seed runs."""
        with closing(sqlite3.connect(self.study / "ledger.db")) as connection:
            return [
                connection.execute(query).fetchall()
                for query in (
                    "select study_id, number, state from trials order by 1, 2",
                    "select trial_id, objective, value from trial_values order by 1, 2",
                    "select trial_id, param_name, param_value from trial_params order by 1, 2",
                    "select trial_id, step, intermediate_value from trial_intermediate_values order by 1, 2",
                )
            ]

    def begun_again(self) -> int:
        """How many trials and seed runs were begun more than once, each time counted: what the fault has cost."""
        said = "".join(path.read_text("utf-8", "replace") for path in sorted(self.folder.glob("*-run.txt")))
        begun = Counter(re.findall(r"(?m)^\S+ +(trial \d+(?: +seed \d+)?) +started", said))
        return sum(count - 1 for count in begun.values())

    def conclude(self, *, same: bool = True) -> None:
        """What has to hold at the end of every case. same: the ledger is that of a study that was never disturbed."""
        self.verify(0)
        if same and self.ledger() != self.bench.reference(self.kind, self.seed):
            raise ViolationError(f"the ledger differs from an undisturbed one:\n{self.ledger()}")
        self.check_canary()
        left = sorted(path.name for path in (self.folder / "tmp").glob("hpo-*"))
        if left:
            raise ViolationError(f"temporary files are left: {', '.join(left)}")
        if not gone(self.folder, LINGER):
            raise ViolationError(f"processes are left: {processes(self.folder)}")

    def check_canary(self) -> None:
        """The secret of the environment is in no file."""
        for path in self.folder.rglob("*"):
            if path.is_file() and not path.is_symlink() and CANARY.encode() in path.read_bytes():
                raise ViolationError(f"the canary secret is in {path.relative_to(self.folder)}")


def trained_again(log: Path) -> tuple[int, float]:
    """Rows that trials and seed runs have trained more than once, by what they wrote down (`programs.Counted`), and of
    how many whole trials they are."""
    beginnings: dict[tuple[str, str], Counter[str]] = {}
    whole: dict[str, int] = {}
    for line in log.read_text().splitlines() if log.exists() else ():
        name, beginning, step, rows, all_rows = line.split()
        beginnings.setdefault((name, step), Counter())[beginning] += int(rows)
        whole[name] = int(all_rows)
    again = Counter[str]()
    for (name, _), by_beginning in beginnings.items():
        again[name] += by_beginning.total() - max(by_beginning.values())
    return again.total(), sum(rows / whole[name] for name, rows in again.items())


def processes(folder: Path) -> list[str]:
    """Command lines of all processes that belong to the case in this folder, be they whose child they may."""
    mark = f"{MARK}={folder}".encode()
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (place / "environ").read_bytes().split(b"\0"):
                command = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
                found.append(f"{place.name} {command[:80]}")
        except OSError:
            continue
    return found


def gone(folder: Path, seconds: float) -> bool:
    """Whether no process of the case is left after so many seconds."""
    deadline = time.monotonic() + seconds
    while processes(folder):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


@contextmanager
def bench() -> Iterator[Bench]:
    folder = Path(tempfile.mkdtemp(prefix="faults-", dir=os.environ.get("HPO_FAULTS_DIR")))
    own = Bench(folder)
    try:
        yield own
    finally:
        own.close()
        if not os.environ.get("HPO_FAULTS_KEEP"):
            shutil.rmtree(folder, ignore_errors=True)


How = Callable[[Case], None]
