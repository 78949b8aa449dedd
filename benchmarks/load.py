"""What the stores bear, with exact counts: many writers on one ledger, studies on one server, promoters of one name.

    python -m benchmarks.load [--short] [--only ledger,restart,simulated,server,promoters] [--write FILE]

ledger      100 threads x 5 trials that report and end all at once, and 8 processes x 20 that take turns as drivers
restart     a killed study of 1,000 finished trials: how long until it is open, and until the command begins a trial
simulated   a study of 1,000 toy trials in simulated time
server      8 studies x 25 trials mirrored to one MLflow server: runs, values and requests a report
promoters   16 promoters x 50 rounds on one registered name: the champion's score never falls

Every figure is a count that has to be exact, or a time. Must not know how the rooms do it.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks.restart import REPORTS, ROOT, SPACE, Figures, opened, reopened, resumed, search_on
from hpo.ledger import Ledger
from hpo.records import StudyStarted, TrialState
from hpo.runners.inline import InlineRunner
from hpo.runners.toy import ToyObjective


class NotExactError(AssertionError):
    """A count differs."""


def exact(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise NotExactError(f"{what}: {found}, not {wanted}")


def all_at_once(works: list[Callable[[], None]]) -> None:
    """Each in a thread of its own; what one raises is raised."""
    raised: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if raised:
        raise raised[0]


def check_ledger(folder: Path, trials: int) -> None:
    """Every number once, every trial complete, every report there, every value the one of its own params."""
    records = opened(folder).records()
    exact("numbers", [own.number for own in records], list(range(trials)))
    exact("states", Counter(own.state for own in records), Counter({TrialState.COMPLETE: trials}))
    exact("reports", sum(len(own.curve) for own in records), trials * REPORTS)
    exact("values", [own.value for own in records], [own.params["learning_rate"] for own in records])


def one_trial(ledger: Ledger, asking: "threading.Lock | None" = None) -> None:
    with asking or threading.Lock():
        record = ledger.ask()
    assert record is not None
    value = float(record.params["learning_rate"])
    for step in range(1, REPORTS + 1):
        ledger.report(record.number, step / REPORTS, value)
    ledger.tell(record.number, TrialState.COMPLETE, value=value, metrics={"accuracy": value})


def threads_on_a_ledger(threads: int, each: int) -> Figures:
    """One ledger object. A driver asks from one thread; reports and ends come from all of them."""
    with tempfile.TemporaryDirectory() as folder:
        ledger, asking = opened(Path(folder)), threading.Lock()

        def work() -> None:
            for _ in range(each):
                one_trial(ledger, asking)

        began = time.monotonic()
        all_at_once([work] * threads)
        seconds = time.monotonic() - began
        check_ledger(Path(folder), threads * each)
    return {"figure": f"{threads} threads x {each} trials on one ledger", "count": threads * each, "seconds": seconds}


DRIVER = """
import sys, time
from pathlib import Path
from benchmarks.load import one_trial, opened
from hpo.errors import StudyLockedError
from hpo.study.lease import driver_lock
folder, left, refused = Path(sys.argv[1]), int(sys.argv[2]), 0
while left:
    try:
        with driver_lock(folder):
            ledger = opened(folder)
            for _ in range(min(left, 5)):
                one_trial(ledger)
                left -= 1
    except StudyLockedError:
        refused += 1
    time.sleep(0.25)
print(refused)
"""


def processes_on_a_ledger(processes: int, each: int) -> Figures:
    """Drivers of one study that want it at the same time: one holds it, the others are refused and come again."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        command = [sys.executable, "-c", DRIVER, folder, str(each)]
        running = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
        refused = [own.communicate()[0].strip() for own in running]
        seconds = time.monotonic() - began
        exact("exit codes", [own.returncode for own in running], [0] * processes)
        check_ledger(Path(folder), processes * each)
    return {
        "figure": f"{processes} processes x {each} trials on one ledger, {sum(map(int, refused))} times refused",
        "count": processes * each,
        "seconds": seconds,
    }


def simulated(trials: int) -> Figures:
    """A study under TPE and ASHA in simulated time: nothing of it is training."""
    from hpo.runners.simulated import SimulatedRunner
    from hpo.runners.toy import TimedToy
    from hpo.samplers import TpeConfig
    from hpo.schedulers import AshaConfig

    runner = SimulatedRunner(TimedToy(), slots=4)
    ledger = Ledger(None, study="load", mode="max", space=SPACE, sampler=TpeConfig(), seed=3)
    search = search_on(ledger, trials, lambda event: None, AshaConfig(), runner.clock)
    began = time.monotonic()
    runner.run(search)
    seconds = time.monotonic() - began
    exact("ended", sum(own.state.is_finished for own in search.records), trials)
    return {"figure": f"a simulated study of {trials:,} trials, TPE and ASHA", "count": trials, "seconds": seconds}


@contextmanager
def mlflow_server(folder: Path) -> Iterator[tuple[str, Path]]:
    """Its address, and the log that has a line a request."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", f"{folder}/files"]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    log = folder / "server.log"
    with open(log, "wb") as stream:
        server = subprocess.Popen(command, stdout=stream, stderr=stream, env=environment, cwd=folder)
    try:
        for _ in range(600):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
                    break
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}", log
    finally:
        server.terminate()
        server.wait(20)


def studies_on_a_server(studies: int, trials: int) -> Figures:
    """Real searches with toy trials, each with its spool and tracker, all at once."""
    from hpo.mlflow_client import open_client
    from hpo.tracking import TrackingConfig
    from hpo.tracking.link import read_link
    from hpo.tracking.mlflow import MlflowTracker
    from hpo.tracking.reading import read_mirror
    from hpo.tracking.spool import Spool

    with tempfile.TemporaryDirectory() as name, mlflow_server(Path(name)) as (uri, log):
        open_client(uri)
        folders = [Path(name) / f"study-{number}" for number in range(studies)]

        def work(folder: Path) -> None:
            config = TrackingConfig(uri=uri, experiment=folder.name)
            spool = Spool(folder, lambda: MlflowTracker(config, folder))
            start = {"study": folder.name, "metric": "accuracy", "mode": "max", "document": "", "params": {}}
            spool.append(StudyStarted(time=time.time(), tags={}, datasets=(), **start))
            InlineRunner(ToyObjective(reports=REPORTS)).run(search_on(opened(folder), trials, spool.append))
            exact("told in time", spool.close(600), True)

        began = time.monotonic()
        all_at_once([partial(work, folder) for folder in folders])
        seconds = time.monotonic() - began
        lines = log.read_text("utf-8", "replace").splitlines()
        for folder in folders:
            link = read_link(folder)
            assert link is not None
            mirror = read_mirror(uri, link, "accuracy")
            exact("runs", Counter(own.kind for own in mirror.runs), Counter({"study": 1, "trial": trials}))
            values = [own.histories.get("accuracy", ()) for own in mirror.runs if own.kind == "trial"]
            exact("steps", [sorted(step for step, _ in own) for own in values], [[1, 2, 3]] * trials)
    logs = sum("runs/log-batch" in line for line in lines)
    beside = studies * (1 + 2 * trials)  # the study's own start; a trial's start and end
    per_report = (logs - beside) / (studies * trials * REPORTS)
    if per_report > 1:
        raise NotExactError(f"{per_report} requests a report, not at most 1")
    return {
        "figure": f"{studies} studies x {trials} trials on one server, {per_report:.3g} requests a report",
        "count": studies * trials,
        "seconds": seconds,
    }


def promoters(many: int, rounds: int) -> Figures:
    """Each round a challenger of a random score, which is promoted if it beats the champion that it met."""
    from hpo.mlflow_client import open_client
    from hpo.registry.succession import AGAINST, Succession

    draw = random.Random(7)
    scores = [[draw.random() for _ in range(rounds)] for _ in range(many)]
    with tempfile.TemporaryDirectory() as name, mlflow_server(Path(name)) as (uri, _):
        first = open_client(uri)
        first.create_registered_model("load")
        run = first.create_run("0").info
        clients = [open_client(uri) for _ in range(many)]

        def promote(number: int, score: float) -> None:
            succession = Succession(clients[number], "load")
            while True:
                found = succession.settle()
                champion = found.chain.champion
                best = -1.0 if champion is None else float(found.versions[champion].tags["score"])
                made = succession.enter(
                    verdict="promote" if score > best else "keep",
                    seen=found.chain.seen,
                    source=f"{run.artifact_uri}/model",
                    run_id=run.run_id,
                    model_id=None,
                    description="",
                    tags={"score": str(score)} | ({AGAINST: str(champion)} if champion else {}),
                )
                if score <= best or succession.settle().chain.lost_to(int(made.version)) is None:
                    return

        began = time.monotonic()

        def work(number: int) -> None:
            for score in scores[number]:
                promote(number, score)

        all_at_once([partial(work, number) for number in range(many)])
        seconds = time.monotonic() - began
        found = Succession(first, "load").read()
        chain, line = found.chain, [float(found.versions[link.number].tags["score"]) for link in found.chain.links]
        exact("champion", line[-1], max(score for own in scores for score in own))
        exact("the line of champions", line, sorted(line))
        exact("the alias", chain.alias, chain.links[-1].number)
    return {
        "figure": f"{many} promoters x {rounds} rounds, {len(line)} champions, each better than the one before",
        "count": many * rounds,
        "seconds": seconds,
    }


SHORT: dict[str, list[Callable[[], Figures]]] = {
    "ledger": [lambda: threads_on_a_ledger(20, 2), lambda: processes_on_a_ledger(2, 6)],
    "restart": [lambda: reopened(60)],
    "simulated": [lambda: simulated(100)],
    "server": [lambda: studies_on_a_server(2, 4)],
    "promoters": [lambda: promoters(4, 3)],
}
LONG: dict[str, list[Callable[[], Figures]]] = {
    "ledger": [lambda: threads_on_a_ledger(100, 5), lambda: processes_on_a_ledger(8, 20)],
    "restart": [lambda: reopened(1_000), lambda: resumed(1_000)],
    "simulated": [lambda: simulated(1_000)],
    "server": [lambda: studies_on_a_server(8, 25)],
    "promoters": [lambda: promoters(16, 50)],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="small numbers, as in the tests")
    parser.add_argument("--only", default=",".join(LONG), help="of the five, with commas")
    parser.add_argument("--write", type=Path, help="a file for the figures, as JSON")
    given = parser.parse_args()
    figures = []
    for name in given.only.split(","):
        for measure in (SHORT if given.short else LONG)[name]:
            figures.append(measure() | {"load": os.getloadavg()[0]})
            print(f"{figures[-1]['seconds']:8.1f} s  {figures[-1]['figure']}", flush=True)
    if given.write:
        given.write.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
