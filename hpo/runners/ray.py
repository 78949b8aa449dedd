"""Trials on Ray Tune: warm actors, fractional devices, many nodes.

Tune starts and stops actors; everything it would remember is kept by the search instead, so a fresh Tuner is started
every time and nothing of Tune's own state is ever read back. Only rooms below `runners` know Ray.
"""

import logging
import os
import secrets
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpo.errors import ServiceError
from hpo.records import Objective
from hpo.runners import Resources, Search
from hpo.runners.machine import cores
from hpo.runners.scratch import scratch
from hpo.runners.watch import ShowsLife, Watch

SILENCE = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TRAIN_COUNT_PREEMPTION_AS_FAILURE": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_gcs_rpc_server_connect_timeout_s": "60",  # of 5 s: on a busy machine a local Ray did not start in time
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_THRESHOLD_S": "30",
}
"""Read by Ray at import. Its snapshots are rare since nothing of them is ever used; a preempted trial is told to the
search like any other, and is not started again behind its back."""

WORKER = {
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "MALLOC_TRIM_THRESHOLD_": "1073741824",
    "MALLOC_TOP_PAD_": "67108864",
}
"""For trial processes: offline, and an allocator that keeps the pages of one step for the next (about 1.1x)."""


JOIN_SECONDS = 60.0
"""How long a search waits for the first node of a cluster on which a trial fits; later ones may come at any time."""

LOCAL = {"ray": "auto"}
"""Other words for the cluster that this machine is a node of: RAY_ADDRESS, else the one that runs here."""


@dataclass(frozen=True)
class RayRunner:
    """at_most: so many trials at a time, or as many as the machine or cluster has resources for if they are fewer.

    address: of a running cluster, or `auto`; None starts a Ray of our own on this machine, with token authentication
    and no dashboard, and ends it afterwards. silent_seconds: after how long a silence a trial is ended; as in `watch`.
    """

    objective: Objective
    cpus: int = 1
    gpus: float = 0.0
    at_most: int | None = None
    address: str | None = None
    silent_seconds: float | None = None

    def run(self, search: Search) -> None:
        with _ray(self.address, self.cpus) as resources, scratch("hpo-tune-") as storage:
            if self.address is not None:
                resources = _joined(self.cpus, self.gpus)
            slots = _slots(resources, self.cpus, self.gpus)
            self._fit(search, min(slots, self.at_most or slots), str(storage))

    def _fitting(self) -> int:
        """How many trials fit on the cluster as it is now, nodes that came later counted in."""
        import ray

        fitting = _fitting(ray.cluster_resources(), self.cpus, self.gpus)  # type: ignore[no-untyped-call]
        return min(fitting, self.at_most or fitting)

    def _fit(self, search: Search, slots: int, storage: str) -> None:
        import ray
        from ray import tune
        from ray.tune.search import ConcurrencyLimiter

        from hpo.runners.tune_bridge import EachOnce, Faults, Flights, LedgerSearcher, Reports, TrialActor

        flights, faults = Flights(), Faults()
        watch = Watch(self.silent_seconds)
        if isinstance(self.objective, ShowsLife):
            watch.pulse = self.objective.pulse
        limit = ConcurrencyLimiter(LedgerSearcher(search, flights, faults), max_concurrent=slots)
        growing = self._fitting if self.address is not None else None
        try:
            tuner = tune.Tuner(
                tune.with_resources(
                    tune.with_parameters(TrialActor, objective=self.objective), {"cpu": self.cpus, "gpu": self.gpus}
                ),
                tune_config=tune.TuneConfig(
                    search_alg=limit,
                    scheduler=EachOnce(flights, watch, limit, growing),
                    num_samples=-1,
                    reuse_actors=True,
                ),
                run_config=tune.RunConfig(
                    name="study",
                    storage_path=storage,
                    verbose=0,
                    stop=Reports(search, flights, faults, watch),
                    failure_config=tune.FailureConfig(max_failures=0),  # the search decides
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                ),
            )
            tuner.fit()
        except ray.exceptions.RayError as error:
            raise ServiceError(f"Ray broke off ({type(error).__name__}: {error}); continue with --resume") from error
        if faults.seen:
            raise faults.seen[0]


def on_ray(objective: Objective, resources: Resources, address: str | None) -> RayRunner:
    """As a space file asks for it."""
    return RayRunner(
        objective,
        cpus=resources.cpus,
        gpus=resources.gpus or 0.0,
        at_most=resources.max_concurrent_trials,
        address=address,
        silent_seconds=60.0 * resources.silent_minutes if resources.silent_minutes else None,
    )


def cluster_gpus(address: str, cpus: int) -> float:
    """GPUs of a running cluster, as soon as one trial's cpus are there. ServiceError where it does not answer."""
    with _ray(address, cpus):
        return float(_joined(cpus, 0.0).get("GPU", 0))


def cluster_slots(address: str, cpus: int, gpus: float) -> int:
    """Trials that fit on a running cluster at a time, as soon as one does. ServiceError where none does, or where it
    does not answer."""
    with _ray(address, cpus):
        return _slots(_joined(cpus, gpus), cpus, gpus)


def _joined(cpus: int, gpus: float) -> Mapping[str, float]:
    """Resources of the cluster that this process is connected to. Its head may be up before its nodes are: as soon as
    a trial fits, or after a minute."""
    import ray

    end = time.monotonic() + JOIN_SECONDS
    resources: Mapping[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    while not _fitting(resources, cpus, gpus) and time.monotonic() < end:
        time.sleep(0.5)
        resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return resources


@contextmanager
def _ray(address: str | None, cpus: int) -> Iterator[Mapping[str, float]]:
    """A connection to Ray for as long as the context lasts; yields the resources there are."""
    with scratch("hpo-ray-", Path("/tmp")) as folder, _connected(address, cpus, folder) as resources:
        yield resources


@contextmanager
def _connected(address: str | None, cpus: int, folder: Path) -> Iterator[Mapping[str, float]]:
    """folder: for a Ray of our own; with a short name, since its sockets' are limited to 107 bytes."""
    if address is not None:
        _reach(address)
    os.environ.update(SILENCE)
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    if address is None:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {name: os.environ.get(name) for name in WORKER}
    os.environ.update(WORKER)  # a local Ray's workers inherit it
    import ray

    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # it tells of every trial that failed; so does the search
    common: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if address is None:
            ray.init(
                address="local",
                num_cpus=max(cores(), cpus),
                include_dashboard=False,
                _temp_dir=str(folder),
                **common,
            )
        else:
            ray.init(address=LOCAL.get(address, address), runtime_env={"env_vars": WORKER}, **common)
    except (ConnectionError, RuntimeError, TimeoutError, ValueError, ray.exceptions.RayError) as error:
        raise ServiceError(f"Ray does not start ({error}); check --address, or leave it out") from error
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    _handle(handlers)  # ray.init puts its own in their place
    try:
        yield ray.cluster_resources()  # type: ignore[no-untyped-call]
    finally:
        ray.shutdown()
        _handle(handlers)


def _handle(handlers: Mapping[Any, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)


def _reach(address: str) -> None:
    """Knock at host:port: Ray itself would wait for minutes for a head that is not there."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        raise ServiceError(
            f"--address: no Ray answers at {address} ({error.strerror or error}); start one, or leave --address out"
        ) from error


def _fitting(resources: Mapping[str, float], cpus: int, gpus: float) -> int:
    """How many trials fit at a time."""
    by_cpu = int(resources.get("CPU", 0) // cpus)
    shares = int(1 / gpus + 1e-9) if gpus > 0 else 0  # of one device; a trial does not span two
    return by_cpu if gpus == 0 else min(by_cpu, int(resources.get("GPU", 0)) * shares)


def _slots(resources: Mapping[str, float], cpus: int, gpus: float) -> int:
    """The same, at least one: ServiceError."""
    slots = _fitting(resources, cpus, gpus)
    if slots < 1:
        raise ServiceError(
            f"resources: a trial asks for {cpus} cpus and {gpus:g} gpus, but Ray has "
            f"{resources.get('CPU', 0):g} cpus and {resources.get('GPU', 0):g} gpus; lower `resources`"
        )
    return slots
