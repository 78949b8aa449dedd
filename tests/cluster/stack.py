"""The services of docker/compose.yaml as processes of this machine: the same programs, options and secrets.

Each is a process group of its own on the loopback, ended by its id. What is absent skips the test with its name.
"""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import postgres
import pytest
from postgres import free_port

ROOT = Path(__file__).parents[2]
NEEDED = {"moto": "moto[s3]", "boto3": "boto3", "flask_wtf": "mlflow[auth]", "aiohttp_cors": "ray[default]"}


def skip_unless_installed() -> None:
    missing = [name for module, name in NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed; uv sync --group services")


@dataclass
class Stack:
    """folder: of logs and secrets. times: seconds that each service took to be ready."""

    folder: Path
    address: str = ""
    mlflow: str = ""
    s3: str = ""
    ledger: str = ""
    bucket: str = "mlflow"
    times: dict[str, float] = field(default_factory=dict)

    @property
    def secrets(self) -> Path:
        return self.folder / "secrets"

    @property
    def token_file(self) -> Path:
        return self.secrets / "ray_token"

    def password(self) -> str:
        return (self.secrets / "mlflow_password").read_text()

    def stored(self) -> dict[str, int]:
        """Objects in the bucket, with their bytes."""
        import boto3
        from botocore.config import Config

        key = (self.secrets / "s3_key").read_text()
        client = boto3.client(
            "s3",
            endpoint_url=self.s3,
            aws_access_key_id="hpo",
            aws_secret_access_key=key,
            region_name="us-east-1",
            config=Config(retries={"max_attempts": 1}),
        )
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        return {own["Key"]: own["Size"] for page in pages for own in page.get("Contents", ())}


@contextmanager
def running() -> Iterator[Stack]:
    """A head that trains nothing, and one node with two cores."""
    skip_unless_installed()
    folder = Path(tempfile.mkdtemp(prefix="hpo-c-"))  # a short name: Ray's sockets are limited to 107 bytes
    own = Stack(folder)
    try:
        with ExitStack() as stack:
            _start(own, stack)
            yield own
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _start(own: Stack, stack: ExitStack) -> None:
    began = time.monotonic()
    database = stack.enter_context(postgres.running())
    sys.path.insert(0, str(ROOT / "docker"))
    try:
        import make_secrets
    finally:
        sys.path.remove(str(ROOT / "docker"))
    own.secrets.mkdir(mode=0o700)
    (own.secrets / "postgres_password").write_text(database.password)
    make_secrets.make(own.secrets, "127.0.0.1", database.port)
    database.create("mlflow", "ledger")
    own.ledger = database.uri("ledger")
    own.times["postgres"] = time.monotonic() - began

    port = free_port()
    own.s3 = f"http://127.0.0.1:{port}"
    with _timed(own, "s3"):
        stack.enter_context(_process(own, "s3", ["-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], {}))
        _wait(own, "s3", f"{own.s3}/moto-api/")

    mlflow, head, dashboard = free_port(), free_port(), free_port()
    own.mlflow = f"http://127.0.0.1:{mlflow}"
    environment = {
        "HPO_SECRETS": str(own.secrets),
        "HPO_DATABASE": database.uri("mlflow"),
        "HPO_BUCKET": own.bucket,
        "HPO_LISTEN": f"127.0.0.1:{mlflow}",
        "MLFLOW_S3_ENDPOINT_URL": own.s3,
    }
    server = [str(ROOT / "docker" / "mlflow_server.py")]
    stack.enter_context(_process(own, "mlflow", server, environment))

    home = own.folder / "home" / ".mlflow"
    home.mkdir(parents=True)
    shutil.copy(own.secrets / "mlflow_credentials", home / "credentials")
    node = {
        "HOME": str(own.folder / "home"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # jobs say `python`
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(own.token_file),
        "PGPASSFILE": str(own.secrets / "pgpass"),
    }
    own.address = f"http://127.0.0.1:{dashboard}"
    ray = ["-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"]
    ray += ["--object-store-memory", "100000000"]
    with _timed(own, "ray"):
        first = ["--head", "--num-cpus", "0", "--node-ip-address", "127.0.0.2", "--port", str(head)]
        first += ["--dashboard-host", "127.0.0.1", "--dashboard-port", str(dashboard), "--temp-dir", str(own.folder)]
        first += ["--dashboard-agent-listen-port", str(free_port())]
        stack.enter_context(_process(own, "head", [*ray, *first], node))
        _wait(own, "head", f"{own.address}/api/gcs_healthz")
        apart = own.folder / "w"  # in one folder a node would remove what it needs no more for both
        apart.mkdir()
        joined = ["--address", f"127.0.0.2:{head}", "--num-cpus", "2", "--node-ip-address", "127.0.0.3"]
        joined += ["--dashboard-agent-listen-port", str(free_port())]
        stack.enter_context(_process(own, "worker", [*ray, *joined, "--temp-dir", str(apart)], node))
    with _timed(own, "mlflow"):
        _wait(own, "mlflow", f"{own.mlflow}/health")


@contextmanager
def _timed(own: Stack, name: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    own.times[name] = time.monotonic() - began


@contextmanager
def _process(own: Stack, name: str, arguments: list[str], environment: Mapping[str, str]) -> Iterator[None]:
    inherited = {key: text for key, text in os.environ.items() if not key.startswith(("RAY_", "MLFLOW_", "PG"))}
    with (own.folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            stdout=log,
            stderr=log,
            env={**inherited, **environment},
            cwd=own.folder,
            start_new_session=True,
        )
    try:
        yield
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(15)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait(own: Stack, name: str, url: str, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise AssertionError(f"{name} is not ready: {(own.folder / f'{name}.log').read_text('utf-8', 'replace')[-3_000:]}")
