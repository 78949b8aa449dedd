"""Trials that fail on a real Ray: processes that die, hang, or run out of memory."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import ray.cloudpickle
from test_runners import search

from hpo.failures import death_of
from hpo.records import AnyEvent, FailureKind, Report, TrialConfig, TrialNoted, TrialState
from hpo.runners.ray import RayRunner
from hpo.runners.toy import ToyObjective
from hpo.schedulers import FifoConfig

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers can't import a test


@dataclass(frozen=True)
class Unlucky:
    """Trial 0's process is killed in its middle, once. Trial 1 is short of memory. Trial 2 hangs once, as a process
    that is stopped does. Trial 3 hangs whenever it is tried. The others are fine; so are all of them in the end."""

    folder: Path

    def __call__(self, config: TrialConfig) -> Iterator[Report]:
        is_first = self._is_first(config.number)
        for place, report in enumerate(ToyObjective()(config)):
            if place == 1 and config.number == 0 and is_first:
                os.kill(os.getpid(), signal.SIGKILL)
            if place == 1 and config.number == 1 and (config.micro_batch or 32) > 8:
                raise MemoryError
            if place == 1 and config.number == 2 and is_first:
                os.kill(os.getpid(), signal.SIGSTOP)
            if config.number == 3:
                time.sleep(3_600)
            yield report

    def _is_first(self, number: int) -> bool:
        mark = self.folder / f"began-{number}"
        is_first = not mark.exists()
        mark.touch()
        return is_first


def test_what_ray_s_own_killer_ends_is_a_death_and_not_the_end_of_the_search() -> None:
    from ray.air.execution import ResourceManager
    from ray.air.execution._internal.actor_manager import RayActorManager
    from ray.air.execution._internal.tracked_actor import TrackedActor
    from ray.air.execution._internal.tracked_actor_task import TrackedActorTask
    from ray.exceptions import OutOfMemoryError

    from hpo.runners.tune_bridge import take_all_deaths

    class Endless(ResourceManager):
        def free_resources(self, acquired_resource: object) -> None:
            """There is enough."""

    died: list[Exception] = []
    actor = TrackedActor(1, on_error=lambda actor, error: died.append(error))
    manager = RayActorManager(Endless())
    manager._live_actors_to_ray_actors_resources[actor] = (None, None)
    killed = OutOfMemoryError("Memory on the node (IP: 192.0.2.2) was 6.72GB used / 23.54GB limit (0.28)")
    with pytest.raises(RuntimeError, match="unexpected exception"):
        manager._actor_task_failed(tracked_actor_task=TrackedActorTask(actor), exception=killed)
    take_all_deaths(manager)
    manager._actor_task_failed(tracked_actor_task=TrackedActorTask(actor), exception=killed)
    (error,) = died
    assert death_of(str(error)).kind is FailureKind.OUT_OF_MEMORY


def test_trials_that_die_hang_or_are_short_of_memory_are_tried_again(tmp_path: Path) -> None:
    events: list[AnyEvent] = []
    own = search(tmp_path, 5, FifoConfig(), events)
    RayRunner(Unlucky(tmp_path), silent_seconds=4.0).run(own)
    records = own.records
    assert [record.state.value for record in records] == ["complete", "complete", "complete", "failed", "complete"]
    assert [[one.kind for one in record.setbacks] for record in records] == [
        [FailureKind.LOST],
        [FailureKind.OUT_OF_MEMORY] * 2,
        [FailureKind.SILENT],
        [FailureKind.SILENT],
        [],
    ]
    assert records[1].micro_batch == 8
    assert "nothing came from it for 4 s, 2 times" in (records[3].reason or "")
    assert len([event for event in events if isinstance(event, TrialNoted)]) == 5


@dataclass(frozen=True)
class Slow:
    """Is silent for longer than is allowed, but for the file that it touches."""

    folder: Path

    def __call__(self, config: TrialConfig) -> Iterator[Report]:
        for report in ToyObjective(reports=2)(config):
            for _ in range(12):
                time.sleep(0.2)
                self.pulse(config).touch()
            yield report

    def pulse(self, config: TrialConfig) -> Path:
        return self.folder / f"{config.name}.pulse"


def test_a_slow_trial_that_shows_that_it_is_alive_is_left_alone(tmp_path: Path) -> None:
    own = search(tmp_path, 1, FifoConfig())
    RayRunner(Slow(tmp_path), silent_seconds=1.5).run(own)
    assert [record.state for record in own.records] == [TrialState.COMPLETE]
    assert own.records[0].setbacks == ()
