"""A real PostgreSQL on the loopback, with a password, as processes of its own; where this machine has its programs."""

import importlib.util
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def binaries() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    on_path = shutil.which("postgres")
    return found[-1].parent if found else Path(on_path).resolve().parent if on_path else None


class Postgres:
    """A cluster in `folder`. It refuses to run as root: then the user `postgres` does."""

    user = "hpo"

    def __init__(self, folder: Path, programs: Path) -> None:
        self._folder, self._programs = folder, programs
        self.port = free_port()
        self.password = secrets.token_hex(16)
        secret = folder / "password"
        secret.write_text(self.password + "\n")
        if os.getuid() == 0:
            for own in (folder, secret):
                shutil.chown(own, "postgres")
        options = ["-U", self.user, "-A", "scram-sha-256", f"--pwfile={secret}", "-E", "UTF8", "--no-locale"]
        self._run("initdb", "-D", str(folder / "data"), *options, "--no-sync")
        secret.unlink()

    def uri(self, database: str = "postgres") -> str:
        """Without the password: that is in PGPASSWORD or PGPASSFILE."""
        return f"postgresql+psycopg2://{self.user}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self._folder}"
        log = str(self._folder / "log")
        self._run("pg_ctl", "-D", str(self._folder / "data"), "-w", "-l", log, "-o", options, "start")

    def stop(self) -> None:
        """At once, as a crash would."""
        self._run("pg_ctl", "-D", str(self._folder / "data"), "-m", "immediate", "stop")

    def create(self, *databases: str) -> None:
        import psycopg2

        connection = psycopg2.connect(
            host="127.0.0.1", port=self.port, user=self.user, password=self.password, dbname="postgres"
        )
        connection.autocommit = True
        with connection.cursor() as cursor:
            for database in databases:
                cursor.execute(f'create database "{database}"')
        connection.close()

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments]
        if os.getuid() == 0:
            command = ["runuser", "-u", "postgres", "--", *command]
        subprocess.run(command, check=True, capture_output=True, cwd=self._folder)


@contextmanager
def running() -> Iterator[Postgres]:
    """Up for as long as the context lasts; the test is skipped where there is none."""
    programs = binaries()
    if programs is None:
        pytest.skip("no PostgreSQL here; apt-get install postgresql")
    if importlib.util.find_spec("psycopg2") is None:
        pytest.skip("psycopg2 is not installed; it is in the extra `postgres`")
    folder = Path(tempfile.mkdtemp(prefix="hpo-postgres-"))
    try:
        own = Postgres(folder, programs)
        own.start()
        try:
            yield own
        finally:
            own.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
