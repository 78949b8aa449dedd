"""Trials on Ray Tune: warm actors, fractional devices, many nodes.

Tune starts and stops actors; everything it would remember is kept by the search instead, so a fresh Tuner is started
every time and nothing of Tune's own state is ever read back. Only rooms below `runners` know Ray.
"""

import collections
import logging
import os
import secrets
import shutil
import signal
import socket
import tempfile
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpo.errors import ServiceError, TrialError
from hpo.records import Objective, Report, Verdict
from hpo.runners import Search

SILENCE = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_WARN_THRESHOLD_S": "30",
}
"""Read by Ray at import. Its snapshots are rare since nothing of them is ever used."""

WORKER = {
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "MALLOC_TRIM_THRESHOLD_": "1073741824",
    "MALLOC_TOP_PAD_": "67108864",
}
"""For trial processes: offline, and an allocator that keeps the pages of one step for the next (about 1.1x)."""

RETRIES = 2
"""How often a trial whose process died is started again. A Python exception is an answer and is not retried."""


@dataclass(frozen=True)
class RayRunner:
    """slots: trials at a time; None as many as the machine or cluster has resources for.

    address: of a running cluster; None starts a Ray of our own on this machine, with token authentication, no
    dashboard, and ends it afterwards. folder: for Ray's sockets and logs; short, since socket paths are limited.
    """

    objective: Objective
    cpus: int = 1
    gpus: float = 0.0
    slots: int | None = None
    address: str | None = None

    def run(self, search: Search) -> None:
        with _ray(self.address, self.cpus) as resources:
            slots = self.slots or _slots(resources, self.cpus, self.gpus)
            self._fit(search, slots)

    def _fit(self, search: Search, slots: int) -> None:
        import ray
        from ray import tune

        bridge = _bridge(search)
        storage = tempfile.mkdtemp(prefix="hpo-tune-")
        try:
            tuner = tune.Tuner(
                tune.with_resources(
                    tune.with_parameters(_trainable(), objective=self.objective), {"cpu": self.cpus, "gpu": self.gpus}
                ),
                tune_config=tune.TuneConfig(
                    search_alg=bridge.searcher,
                    scheduler=bridge.scheduler,
                    num_samples=-1,
                    max_concurrent_trials=slots,
                    reuse_actors=True,
                ),
                run_config=tune.RunConfig(
                    name="study",
                    storage_path=storage,
                    verbose=0,
                    stop=bridge.stopper,
                    failure_config=tune.FailureConfig(max_failures=RETRIES),
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                ),
            )
            tuner.fit()
        except ray.exceptions.RayError as error:
            raise ServiceError(f"Ray broke off ({type(error).__name__}: {error}); continue with --resume") from error
        finally:
            shutil.rmtree(storage, ignore_errors=True)


@dataclass(frozen=True)
class _Bridge:
    searcher: Any
    scheduler: Any
    stopper: Any


def _trainable() -> type:
    """Tune's actor: one process, many trials. A trial's reports are pulled one by one on its main thread."""
    from ray import tune

    class Trial(tune.Trainable):  # type: ignore[misc]
        def setup(self, config: Mapping[str, Any], objective: Objective) -> None:
            self._objective = objective
            self._begin(config)

        def reset_config(self, new_config: Mapping[str, Any]) -> bool:
            self._reports.close()
            self._begin(new_config)
            return True

        def _begin(self, config: Mapping[str, Any]) -> None:
            self._reports: Any = self._objective(config["trial"])

        def step(self) -> dict[str, Any]:
            try:
                report: Report = next(self._reports)
            except TrialError as error:
                return {"failed": f"{type(error).__name__}: {error}", "done": True}
            except Exception:  # an actor must outlive whatever a trial raises: the traceback is the answer
                return {"failed": traceback.format_exc(limit=-8), "done": True}
            return {"report": report, "done": report.done}

        def cleanup(self) -> None:
            self._reports.close()

    return Trial


def _bridge(search: Search) -> _Bridge:
    """Tune's searcher, scheduler and stopper over one search. None of them has a state that Tune could save.

    Every result passes the stopper first, the last one of a trial too (schedulers and searchers are not shown that
    one, or only in `on_trial_complete`): so the stopper is where reports go.
    """
    from ray import tune
    from ray.tune.experiment import Trial
    from ray.tune.schedulers import FIFOScheduler
    from ray.tune.search import Searcher

    numbers: dict[str, int] = {}

    class Stateless:
        def __getstate__(self) -> dict[str, Any]:
            return {}

    class LedgerSearcher(Stateless, Searcher):  # type: ignore[misc]
        def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
            if search.exhausted or search.stopping:
                return str(Searcher.FINISHED)
            config = search.ask()
            if config is None:
                return str(Searcher.FINISHED) if search.exhausted else None
            numbers[trial_id] = config.number
            return {"trial": config}

        def on_trial_complete(
            self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
        ) -> None:
            if error:
                search.failed(numbers[trial_id], f"its process died {RETRIES + 1} times")

        def save(self, checkpoint_path: str) -> None:
            """Nothing: the ledger has it."""

        def restore(self, checkpoint_path: str) -> None:
            """Nothing: the ledger has it."""

    class EachOnce(Stateless, FIFOScheduler):  # type: ignore[misc]
        """Names every new trial once. The stock one names a pending trial again and again, and Tune then drops the
        actor that is being started for it: with short trials an actor a trial."""

        def __init__(self) -> None:
            super().__init__()
            self._new: collections.deque[Trial] = collections.deque()

        def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
            self._new.append(trial)

        def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
            while self._new:
                trial = self._new.popleft()
                if trial.status in (Trial.PENDING, Trial.PAUSED):
                    return trial
            return None

    class Reports(Stateless, tune.Stopper):  # type: ignore[misc]
        def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
            if reason := result.get("failed"):
                search.failed(numbers[trial_id], reason)
                return True
            return search.report(numbers[trial_id], result["report"]) is Verdict.STOP

        def stop_all(self) -> bool:
            return search.stopping

    return _Bridge(LedgerSearcher(), EachOnce(), Reports())


@contextmanager
def _ray(address: str | None, cpus: int) -> Iterator[Mapping[str, float]]:
    """A connection to Ray for as long as the context lasts; yields the resources there are."""
    os.environ.update(SILENCE)
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    folder = Path(tempfile.mkdtemp(prefix="hpo-", dir="/tmp"))
    if address is None:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {name: os.environ.get(name) for name in WORKER}
    os.environ.update(WORKER)  # a local Ray's workers inherit it
    if address is not None:
        _reach(address)
    import ray

    logging.getLogger("ray").setLevel(logging.ERROR)
    common: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if address is None:
            ray.init(
                address="local",
                num_cpus=max(os.cpu_count() or 1, cpus),
                include_dashboard=False,
                _temp_dir=str(folder),
                **common,
            )
        else:
            ray.init(address=address, runtime_env={"env_vars": WORKER}, **common)
    except (ConnectionError, RuntimeError, TimeoutError, ValueError) as error:
        raise ServiceError(f"Ray does not start ({error}); check --address, or leave it out") from error
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    for number, handler in handlers.items():
        signal.signal(number, handler)  # ray.init puts its own in their place
    try:
        yield ray.cluster_resources()
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


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


def _slots(resources: Mapping[str, float], cpus: int, gpus: float) -> int:
    """How many trials fit at a time."""
    by_cpu = int(resources.get("CPU", 0) // cpus)
    slots = by_cpu if gpus == 0 else min(by_cpu, int(resources.get("GPU", 0) / gpus + 1e-9))
    if slots < 1:
        raise ServiceError(
            f"resources: a trial asks for {cpus} cpus and {gpus} gpus, but Ray has "
            f"{resources.get('CPU', 0):g} cpus and {resources.get('GPU', 0):g} gpus; lower `resources`"
        )
    return slots
