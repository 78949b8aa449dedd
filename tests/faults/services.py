"""Real services to be hurt: an MLflow server, a PostgreSQL, and a line to the server that fails when it is told to."""

import functools
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """`mlflow server` over a copy of an empty store, on a port that stays the same when it is started again."""

    def __init__(self, folder: Path, empty: Path) -> None:
        folder.mkdir(parents=True)
        shutil.copy(empty, folder / "mlflow.db")
        self.folder = folder
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self.folder / 'mlflow.db'}", "--workers", "1"]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with open(self.folder / "server.log", "ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, env=environment, start_new_session=True, cwd=self.folder
            )

    def wait(self, seconds: float = 90.0) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=1):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        raise AssertionError((self.folder / "server.log").read_text("utf-8")[-2_000:])

    def kill(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


class Line:
    """A proxy before a server. fault: asked before every request, with its path and number; what it answers is done:
    None (nothing), `503`, `lost` (the server does it, and nobody hears of it), or seconds to wait."""

    def __init__(self, port: int) -> None:
        self.calls: list[str] = []
        self.fault: Any = lambda path, count: None
        line = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                """Silence."""

            def _pass(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                line.calls.append(self.path)
                fault = line.fault(self.path, len(line.calls))
                if fault == "503":
                    self._answer(503, b"{}", {})
                    return
                if isinstance(fault, float):
                    time.sleep(fault)
                real = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
                kept = {name: text for name, text in self.headers.items() if name.lower() not in ("host", "connection")}
                try:
                    real.request(self.command, self.path, body, kept)
                    answer = real.getresponse()
                    content, headers = answer.read(), dict(answer.getheaders())
                    status = answer.status
                except OSError:
                    self.close_connection = True
                    return
                finally:
                    real.close()
                if fault == "lost":
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                self._answer(status, content, headers)

            def _answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
                self.send_response(status)
                for name, text in headers.items():
                    if name.lower() in ("content-type", "content-disposition"):
                        self.send_header(name, text)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass  # noqa: N815

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.uri = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def postgres_binaries() -> Path | None:
    """Where PostgreSQL's own programs are, if they are anywhere, and the driver that MLflow needs."""
    import importlib.util

    if importlib.util.find_spec("psycopg2") is None:
        return None
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    return found[-1].parent if found else None


@functools.cache
def can_mount() -> bool:
    """Whether this user may mount a file system of its own for every process to see."""
    with tempfile.TemporaryDirectory(prefix="faults-mount-") as folder:
        asked = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True)
        if asked.returncode == 0:
            subprocess.run(["umount", folder], check=True)
        return asked.returncode == 0


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[None]:
    """A file system of so many megabytes on `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


class Postgres:
    """A cluster of its own on the loopback. It refuses to run as root: then the user `postgres` or `nobody` does."""

    def __init__(self, folder: Path, binaries: Path, password: str) -> None:
        folder.mkdir(parents=True)
        self._folder, self._binaries = folder, binaries
        self.port = free_port()
        self._data = folder / "data"
        (folder / "password").write_text(password + "\n")
        if os.getuid() == 0:
            shutil.chown(folder, "postgres")
            shutil.chown(folder / "password", "postgres")
            for above in folder.parents:
                if above != Path("/") and above.stat().st_uid == 0 and str(above).startswith("/tmp/faults"):
                    above.chmod(0o755)
        options = ["-U", "hpo", "-A", "scram-sha-256", f"--pwfile={folder / 'password'}", "-E", "UTF8", "--no-locale"]
        self._run("initdb", "-D", str(self._data), *options, "--no-sync")
        self.uri = f"postgresql+psycopg2://hpo:{password}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self._folder}"
        self._run("pg_ctl", "-D", str(self._data), "-w", "-l", str(self._folder / "log"), "-o", options, "start")

    def stop(self) -> None:
        """At once, as a crash would."""
        self._run("pg_ctl", "-D", str(self._data), "-m", "immediate", "stop")

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._binaries / program), *arguments]
        if os.getuid() == 0:
            command = ["runuser", "-u", "postgres", "--", *command]
        subprocess.run(command, check=True, capture_output=True, cwd=self._folder)


@contextmanager
def line_to(server: Server) -> Iterator[Line]:
    line = Line(server.port)
    try:
        yield line
    finally:
        line.close()
