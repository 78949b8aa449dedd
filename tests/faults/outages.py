"""Injections into the services around a study: MLflow's server, the line to it, PostgreSQL, a disk, a node of Ray."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from drivers import ENVIRONMENT, HERE, MARK, ViolationError
from injections import SLOW, Injection
from lab import Bench, Case
from services import Line, Postgres, Server, line_to, postgres_binaries

CREATE = "/runs/create"


@contextmanager
def server_of(own: Bench) -> Iterator[Server]:
    """The one server of a bench, up: cases that hurt it bring it back."""
    with own.turn:
        if own.server is None:
            own.server = Server(own.folder / "server", own.folder / "mlflow.db")
            own.server.start()
        own.server.wait()
        try:
            yield own.server
        finally:
            own.server.wait()


def on_server(how: Callable[[Case, Server], None]) -> Callable[[Case], None]:
    def whole(case: Case) -> None:
        with server_of(case.bench) as server:
            case.uri = server.uri
            case.write()
            how(case, server)
            case.conclude()
            case.is_concluded = True

    return whole


def on_line(fault: Callable[[str, int], Any], *, strikes: bool = True) -> Callable[[Case], None]:
    """Through a proxy that does `fault`; in the end the check asks the server itself."""

    def how(case: Case, server: Server) -> None:
        with line_to(server) as line:
            line.fault = fault
            case.uri = line.uri
            case.write()
            case.expect(case.run(resume=False), 0)
            if strikes and not _struck(line, fault):
                raise ViolationError("the fault never struck")
            case.uri = server.uri
            case.write()
            case.resume()

    return on_server(how)


def _struck(line: Line, fault: Callable[[str, int], Any]) -> bool:
    return any(fault(path, count) is not None for count, path in enumerate(line.calls, 1))


def down_from_the_start(case: Case, server: Server) -> None:
    """It is waited for twice, two minutes each, and all arrives with the next run."""
    server.kill()
    case.expect(case.run(resume=False), 0)
    case.verify(1)
    server.start()
    server.wait()
    case.resume()


def down_during_the_search(case: Case, server: Server) -> None:
    """No trial is told of before all have ended."""
    server.kill()
    driver = case.start(resume=False)
    driver.wait_for("judging the winner")
    server.start()
    driver.wait()
    case.expect(driver, 0)


def down_meanwhile(seconds: float) -> Callable[[Case, Server], None]:
    """Killed in the middle of the search, and back after so many seconds."""

    def how(case: Case, server: Server) -> None:
        driver = case.start(resume=False, trial=SLOW)
        driver.wait_for("trial 1 +started")
        server.kill()
        time.sleep(seconds)
        server.start()
        driver.wait(180)
        case.expect(driver, 0)
        server.wait()
        case.resume()

    return how


def slow(path: str, count: int) -> float | None:
    return 0.1


def away(path: str, count: int) -> str | None:
    """For ten requests in a row, again and again: the client asks again after a pause."""
    return "503" if 5 <= count <= 14 else None


def lost(path: str, count: int) -> str | None:
    """The server makes a run, and nobody hears of it."""
    return "lost" if path.endswith(CREATE) and count % 2 == 0 else None


def lost_values(path: str, count: int) -> str | None:
    return "lost" if path.endswith("/runs/log-batch") and count % 3 == 0 else None


def postgres_restarted(case: Case) -> None:
    """MLflow's database is stopped as by a crash, and is back after two seconds."""
    binaries = postgres_binaries()
    assert binaries is not None
    own = Postgres(case.folder / "postgres", binaries, "hpo-secret")
    own.start()
    try:
        case.uri = own.uri
        case.write()
        driver = case.start(resume=False, trial=SLOW)
        driver.wait_for("trial 1 +started")
        own.stop()
        time.sleep(2.0)
        own.start()
        driver.wait(180)
        case.expect(driver, 0)
        case.resume()
        case.conclude()
        case.is_concluded = True
    finally:
        own.stop()


def ledger_restarted(case: Case) -> None:
    """The database that has the ledger is stopped as by a crash, and is back after two seconds: the driver leaves with
    4, or has not noticed."""
    binaries = postgres_binaries()
    assert binaries is not None
    own = Postgres(case.folder / "postgres", binaries, "hpo-secret")
    own.start()
    try:
        case.env = {"PGPASSWORD": "hpo-secret"}
        case.write(ledger=own.uri.replace(":hpo-secret", ""))
        driver = case.start(resume=False, trial=SLOW)
        driver.wait_for("trial 1 +started")
        own.stop()
        time.sleep(2.0)
        own.start()
        if driver.wait(180) not in (0, 4):
            raise ViolationError(f"it ended with {driver.code}:\n{driver.said}")
        case.resume()
        case.conclude(same=False)
        case.is_concluded = True
    finally:
        own.stop()


def node_lost(case: Case) -> None:
    """The only node that works dies with its trial in the middle; another one comes, and the trial begins again."""
    environment = {**os.environ, **ENVIRONMENT, MARK: str(case.folder)}
    command = [sys.executable, str(HERE / "nodes.py")]
    with (case.folder / "nodes.txt").open("w") as log:
        nodes = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=environment, text=True
        )
    assert nodes.stdin is not None
    assert nodes.stdout is not None
    try:
        address = next(line.strip() for line in nodes.stdout if line.count(":") == 1 and line.strip()[-1].isdigit())
        driver = case.start(resume=False, trial={"kind": "slow", "seconds": 1.0}, more=("--address", address))
        driver.wait_for("trial 1 +started")
        nodes.stdin.write("now\n")
        nodes.stdin.flush()
        driver.wait(240)
        case.expect(driver, 0)
    finally:
        nodes.stdin.close()
        nodes.wait(60)


OUTAGES: list[Injection] = [
    Injection("MLflow down during the whole search", on_server(down_during_the_search), "0"),
    Injection(
        "MLflow down from the start to the end", on_server(down_from_the_start), "0, verify 1, then 0", short=False
    ),
    Injection("MLflow killed, back after 0 s", on_server(down_meanwhile(0.0)), "0", short=False),
    Injection("MLflow killed, back after 5 s", on_server(down_meanwhile(5.0)), "0"),
    Injection("MLflow killed, back after 20 s", on_server(down_meanwhile(20.0)), "0", short=False),
    Injection("MLflow killed, back after 60 s", on_server(down_meanwhile(60.0)), "0", short=False),
    Injection("MLflow answers 503 ten times", on_line(away), "0"),
    Injection("MLflow takes 0.1 s longer", on_line(slow), "0", short=False),
    Injection("the answer to every second new run is lost", on_line(lost), "0"),
    Injection("the answer to every third log is lost", on_line(lost_values), "0"),
    Injection("PostgreSQL under MLflow stopped at once", postgres_restarted, "0", service="postgres"),
    Injection(
        "PostgreSQL under the ledger stopped at once",
        ledger_restarted,
        "0, or 4, then 0",
        same=False,
        service="postgres",
        short=False,
    ),
    Injection("Ray: the node of a trial is lost", node_lost, "0", runner="ray", short=False),
]
