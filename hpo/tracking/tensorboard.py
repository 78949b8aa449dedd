"""The TensorBoard mirror of a study: the same metrics, and the hyperparameters of each trial, beside the study.

Owns the folder `tensorboard` in the study's, with one run a trial and one a fresh seed. It is written anew from the
study's events by every driver, so that a crash leaves no step twice. Must not be asked for anything.
"""

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hpo.records import AnyEvent, StudyFinished, TrialFinished, TrialReported, TrialStarted
from hpo.space import Scalar
from hpo.tracking import TrackingConfig

if TYPE_CHECKING:
    from tensorboardX import SummaryWriter

FOLDER = "tensorboard"
FLUSH_SECONDS = 10


class TensorboardTracker:
    """folder: the study's. Needs no service, so `apply` raises OSError only."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FOLDER
        self._open: dict[str, SummaryWriter] = {}
        self._params: dict[str, Mapping[str, Scalar]] = {}
        shutil.rmtree(self._folder, ignore_errors=True)

    def apply(self, event: AnyEvent) -> None:
        match event:
            case TrialStarted():
                self._params[_name(event)] = event.params
            case TrialReported():
                self._log(self._writer(_name(event)), event.metrics, event.step, event.time)
            case TrialFinished():
                self._finish(event)
            case StudyFinished():
                self._log(self._writer("study"), event.metrics, 0, event.time)
                self.close()
            case _:
                pass

    def close(self) -> None:
        while self._open:
            self._open.popitem()[1].close()

    def _finish(self, event: TrialFinished) -> None:
        """Its totals, and what TensorBoard's table of hyperparameters shows: both once, at the end."""
        from tensorboardX.summary import hparams

        name = _name(event)
        writer = self._writer(name)
        for part in hparams(dict(self._params.pop(name, {})), dict(event.metrics)):
            writer.file_writer.add_summary(part, walltime=event.time)
        self._log(writer, event.metrics, event.step, event.time)
        writer.add_text("state", f"{event.state}{': ' + event.reason if event.reason else ''}", walltime=event.time)
        writer.close()
        del self._open[name]

    def _writer(self, name: str) -> "SummaryWriter":
        """Of a run, made where there is none yet; it writes in a thread of its own until it is closed."""
        from tensorboardX import SummaryWriter

        if name not in self._open:
            self._open[name] = SummaryWriter(str(self._folder / name), flush_secs=FLUSH_SECONDS)
        return self._open[name]

    def _log(self, writer: "SummaryWriter", metrics: Mapping[str, float], step: int, time: float) -> None:
        for key, value in metrics.items():
            writer.add_scalar(key, value, step, walltime=time)


class NoTracker:
    """Where no TensorBoard is asked for."""

    def apply(self, event: AnyEvent) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


@contextmanager
def board(config: TrackingConfig, folder: Path, events: Iterable[AnyEvent]) -> "Iterator[_Careful]":
    """For as long as a driver lives; events: of the study so far."""
    own = _Careful(TensorboardTracker(folder) if config.tensorboard else NoTracker())
    for event in events if config.tensorboard else ():
        own.apply(event)
    try:
        yield own
    finally:
        own.close()


class _Careful:
    """A tracker that is given up on where it fails: a mirror must not stop the study. trouble: why it was."""

    def __init__(self, tracker: TensorboardTracker | NoTracker) -> None:
        self._tracker = tracker
        self.trouble: str | None = None

    def apply(self, event: AnyEvent) -> None:
        if self.trouble is not None:
            return
        try:
            self._tracker.apply(event)
        except Exception as error:  # the fan-out; the next driver writes all of it anew
            self.trouble = str(error) or type(error).__name__

    def close(self) -> None:
        if self.trouble is None:
            self._tracker.close()


def _name(event: TrialStarted | TrialReported | TrialFinished) -> str:
    return f"trial-{event.number:04}" + (f"-seed-{event.replicate}" if event.replicate else "")
