"""A Slurm of one node, as processes of this machine with all their files in one folder. Needs root, as slurmd does."""

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from postgres import free_port

CONFIG = """\
ClusterName=hpo
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
ReturnToService=2
KillWait=30
SlurmdTimeout=300
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "squeue", "scancel")


@dataclass(frozen=True)
class Slurm:
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf")}

    def run(self, *command: str, folder: Path | None = None) -> str:
        done = subprocess.run(command, env=self.environment, cwd=folder, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def state(self, job: str) -> str:
        """PENDING, RUNNING, ...; empty once Slurm has forgotten it."""
        shown = subprocess.run(
            ["squeue", "--noheader", "--states=all", "--format=%T", "--jobs", job],
            env=self.environment,
            capture_output=True,
            text=True,
        )
        return shown.stdout.strip()


@contextmanager
def running() -> Iterator[Slurm]:
    missing = [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)} here; apt-get install slurm-wlm munge")
    if os.getuid() != 0:
        pytest.skip("a Slurm of one's own has to be started as root")
    folder = Path(tempfile.mkdtemp(prefix="hpo-slurm-"))
    host = socket.gethostname().partition(".")[0]
    try:
        folder.chmod(0o755)
        for name in ("state", "spool"):
            (folder / name).mkdir()
        config = CONFIG.format(host=host, folder=folder, ports=(free_port(), free_port()), cpus=os.cpu_count())
        (folder / "slurm.conf").write_text(config)
        own = Slurm(folder)
        with ExitStack() as stack:
            stack.enter_context(_munge(folder))
            for name in ("slurmctld", "slurmd"):
                stack.enter_context(_daemon(own, [name, "-D"]))
            _wait(own)
            yield own
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _munge(folder: Path) -> Iterator[None]:
    """It wants a folder of its own, that nobody else writes to."""
    private = folder / "munge"
    private.mkdir(mode=0o700)
    key = private / "key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o600)
    for own in (private, key):
        shutil.chown(own, "munge")
    socket_folder = folder
    shutil.chown(socket_folder, "munge")
    options = ["--foreground", f"--key-file={key}", f"--socket={folder}/munge.socket", f"--pid-file={private}/pid"]
    options += [f"--log-file={private}/log", f"--seed-file={private}/seed", "--num-threads=2"]
    command = ["runuser", "-u", "munge", "--", "munged", *options]
    process = subprocess.Popen(command, env={**os.environ, "PATH": _path()}, stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            if (folder / "munge.socket").exists():
                break
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def _daemon(own: Slurm, command: list[str]) -> Iterator[None]:
    environment = {**own.environment, "PATH": _path()}
    with (own.folder / f"{command[0]}.out").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=own.folder)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(own: Slurm) -> None:
    end = time.monotonic() + 60
    said = ""
    while time.monotonic() < end:
        shown = subprocess.run(
            ["sinfo", "--noheader", "--format=%T"], env=own.environment, capture_output=True, text=True
        )
        said = shown.stdout + shown.stderr
        if shown.stdout.strip() == "idle":
            return
        time.sleep(0.2)
    logs = [(own.folder / f"{name}.log").read_text("utf-8", "replace")[-1_500:] for name in ("slurmctld", "slurmd")]
    raise AssertionError("\n".join([said, *logs]))


def _path() -> str:
    """Debian keeps the daemons in sbin."""
    return f"{os.environ.get('PATH', '')}:/usr/sbin"
