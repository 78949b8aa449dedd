"""A search as a job of a Ray cluster: sent there, followed from here, and ended with its own exit code.

Knows Ray's server of jobs and nothing of studies: which jobs are the same search, whoever submits says by a mark.
"""

import asyncio
import logging
import os
import shlex
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from hpo.errors import ServiceError

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

MARK = "hpo"
"""Key of a job's metadata that says which search it is."""

STOP_SECONDS = 35
"""How long the cluster waits after its SIGTERM before it kills: a driver leaves within 28 s. Ray's own default is 3."""

STOPPED_WITHIN = STOP_SECONDS + 30
"""Seconds for which a stop is waited for: the server of jobs may be slow to hear of it, and to say so."""

ENTRY = ("exec", "python", "-m")
"""exec: the signal and the exit code are the driver's own, and not those of a shell around it."""

_LIVE = frozenset({"PENDING", "RUNNING"})
_NOT_READY = "No available agent"
"""What the server of jobs says while the process on its node that starts them is still on its way."""

_RETRY = 5.0
PATIENCE = 60.0
"""Seconds for which a job is followed though its cluster does not answer."""


@dataclass(frozen=True)
class Jobs:
    """The jobs of one cluster. address: http(s)://host:port of its dashboard. Every method raises ServiceError."""

    address: str

    @classmethod
    def at(cls, address: str, token_file: Path | None) -> "Jobs":
        """token_file: holds the cluster's token; None takes RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH, else goes without.

        For one cluster a process: Ray reads the token once.
        """
        if token_file is not None:
            os.environ.pop("RAY_AUTH_TOKEN", None)
            os.environ["RAY_AUTH_TOKEN_PATH"] = str(token_file.absolute())
        has_token = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys()
        if has_token or "RAY_AUTH_MODE" not in os.environ:  # unset, Ray would write a token of its own into the home
            os.environ["RAY_AUTH_MODE"] = "token" if has_token else "disabled"
        return cls(address)

    def running(self, mark: str) -> str | None:
        """The id of the job with this mark that has not ended."""
        with self._speaking() as client:
            for job in client.list_jobs():
                if (job.metadata or {}).get(MARK) == mark and job.status.value in _LIVE and job.submission_id:
                    return str(job.submission_id)
        return None

    def submit(self, name: str, mark: str, folder: Path, command: Sequence[str]) -> str:
        """Start `python -m COMMAND` on the head, in a copy of `folder`; the id of the job. Waits for a minute where the
        head is not ready to start jobs yet."""
        job, end = f"{name}-{os.urandom(4).hex()}", time.monotonic() + PATIENCE
        while True:
            try:
                with self._speaking() as client:
                    return str(
                        client.submit_job(
                            entrypoint=" ".join([*ENTRY, *(shlex.quote(part) for part in command)]),
                            submission_id=job,
                            metadata={MARK: mark},
                            runtime_env={
                                "working_dir": str(folder),
                                "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS), "PYTHONUNBUFFERED": "1"},
                            },
                        )
                    )
            except ServiceError as error:
                if _NOT_READY not in str(error) or time.monotonic() > end:
                    raise
                time.sleep(_RETRY)

    def follow(self, job: str, say: Callable[[str], None]) -> int:
        """Hand on what the job writes, from its beginning, until it has ended; its driver's exit code.

        A connection that breaks is made again for a minute; what was said before is not said twice.
        """
        heard, failures = Heard(), 0
        while True:
            try:
                with self._speaking() as client:
                    asyncio.run(heard.tail(client, job, say))
                    details = client.get_job_info(job)
                failures = 0
            except ServiceError:
                failures += 1
                if failures > PATIENCE / _RETRY:
                    raise
                time.sleep(_RETRY)
                continue
            if details.status.value not in _LIVE:
                return _exit_code(details)
            time.sleep(0.5)

    def stop(self, job: str) -> int:
        """Ask the job to stop, and wait until it has; the exit code of a driver that was stopped. ServiceError where it
        has not in time."""
        with self._speaking() as client:
            client.stop_job(job)
            end = time.monotonic() + STOPPED_WITHIN
            while (details := client.get_job_info(job)).status.value in _LIVE and time.monotonic() < end:
                time.sleep(0.5)
        if details.status.value in _LIVE:
            raise ServiceError(
                f"--address: {job} has not stopped within {STOPPED_WITHIN} s and may still run; look at it with "
                f"`ray job status {job}`, and do not submit the search again before it has ended"
            )
        return _exit_code(details)

    @contextmanager
    def _speaking(self) -> "Iterator[JobSubmissionClient]":
        """Within it, what goes wrong on the way to the cluster leaves as ServiceError."""
        import aiohttp
        import ray.exceptions
        import requests
        from ray.job_submission import JobSubmissionClient

        for name in ("dashboard.modules.dashboard_sdk", "dashboard.modules.job.sdk", "_private.runtime_env.packaging"):
            logging.getLogger(f"ray.{name}").setLevel(logging.ERROR)
        try:
            yield JobSubmissionClient(self.address)
        except ray.exceptions.AuthenticationError as error:
            raise ServiceError(
                f"--address: {self.address} refuses the token; give that of its head with --token-file"
            ) from error
        except (ConnectionError, requests.RequestException, aiohttp.ClientError, OSError, RuntimeError) as error:
            said = " ".join(str(error).split())[:300]
            raise ServiceError(
                f"--address: no server of Ray jobs answers at {self.address} ({said}); give the address of the head's "
                "dashboard, such as http://head:8265"
            ) from error


class Tails(Protocol):
    def tail_job_logs(self, job_id: str) -> AsyncIterator[str]: ...


@dataclass
class Heard:
    """How much of a job's log was handed on already. characters: from its beginning, where Ray starts every time."""

    characters: int = 0

    async def tail(self, client: Tails, job: str, say: Callable[[str], None]) -> None:
        """Hand on the rest, until the job ends or the connection does."""
        seen = 0
        async for text in client.tail_job_logs(job):
            fresh = text[max(0, self.characters - seen) :]
            seen += len(text)
            if fresh:
                self.characters = seen
                say(fresh)


def _exit_code(details: "JobDetails") -> int:
    """The driver's own; 143 where it was stopped. ServiceError where it never began."""
    if details.status.value == "STOPPED":
        return 128 + signal.SIGTERM
    if details.driver_exit_code is None and details.status.value != "SUCCEEDED":
        said = " ".join((details.message or "").split())[-600:]
        raise ServiceError(f"--address: the job did not start ({said}); look at the cluster, then submit it again")
    code: int = details.driver_exit_code or 0
    return 128 - code if code < 0 else code
