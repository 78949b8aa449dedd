"""What a failed trial means: the class of its failure, and whether it is trained again.

Pure: knows exceptions by their names and words, so that neither torch nor Ray is loaded for it. Must not train, start
or tell anything.
"""

import errno
import re
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from hpo.errors import DataError, DeadParameterError, DivergedError, ModelError, OutOfMemoryError, TrialError
from hpo.records import Failure, FailureKind

TRIES: dict[FailureKind, int] = {FailureKind.LOST: 3, FailureKind.SILENT: 2}
"""How often a trial is tried before it fails of this, all tries counted."""

OF_CONFIGURATION = frozenset({FailureKind.DIVERGED, FailureKind.UNFIT, FailureKind.BAD_DATA, FailureKind.BUG})
"""What comes of what is trained, and would come of it on any machine."""

UNEXPLAINED = frozenset({FailureKind.LOST, FailureKind.SILENT, FailureKind.BUG})
"""What may as well come of the machine, or of what is installed there, for whatever is trained."""

_WORDS = 300
"""Characters of a reason that are kept with a trial that goes on."""

_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.EROFS}
_OUT_OF_MEMORY = (
    "DefaultCPUAllocator: can't allocate memory",
    "CUDA out of memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "cuda runtime error (2)",
)
_KILLED_FOR_MEMORY = ("running low on memory", "Memory on the node", "NODE_OUT_OF_MEMORY")
"""Not `OOM`: Ray names it among the things that may be behind any death."""

_DETAIL = re.compile(r"Worker exit detail: ([^\n]{1,200}?)\.?(?: Some common causes|\n|$)")
_MEMORY = re.compile(r"Memory on the node[^\n]*? was ([^\n]{1,100})")
_NODE_LOST = ("node has died", "node died", "node was terminated", "The node has been removed", "NodeDiedError")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed: on a GPU, in torch's own allocator for the CPU, or in Python."""
    if isinstance(error, MemoryError | OutOfMemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY)


@contextmanager
def of_stage_before() -> Iterator[None]:
    """What is trained within belongs to the stage before a trial's own task."""
    try:
        yield
    except OutOfMemoryError as error:
        error.is_of_stage = True
        raise


def is_device_lost(error: BaseException) -> bool:
    """Whether no further trial can use the device in this process."""
    return type(error).__name__ == "AcceleratorError" and not is_out_of_memory(error)


def failure_of(error: BaseException) -> Failure:
    """What an exception of a trial means."""
    said = f"{type(error).__name__}: {error}"
    if is_out_of_memory(error):
        is_early = isinstance(error, OutOfMemoryError) and error.is_of_stage
        return Failure(kind=FailureKind.OUT_OF_MEMORY, reason=said, stage="adapt" if is_early else "task")
    if is_device_lost(error) or (isinstance(error, OSError) and error.errno in _DISK):
        return Failure(kind=FailureKind.LOST, reason=said)
    match error:
        case DivergedError():
            kind = FailureKind.DIVERGED
        case DeadParameterError():
            kind = FailureKind.UNFIT
        case DataError() | ModelError():
            kind = FailureKind.BAD_DATA
        case TrialError():
            kind = FailureKind.BUG
        case _:
            traced = "".join(traceback.format_exception(type(error), error, error.__traceback__, limit=-8))
            return Failure(kind=FailureKind.BUG, reason=traced)
    return Failure(kind=kind, reason=said)


def death_of(said: str, *, preempted: bool = False) -> Failure:
    """What the death of a trial's process means, by what the cluster says of it."""
    lines = [line.strip() for line in said.strip().splitlines() if line.strip()] or ["nobody knows why"]
    detail = _DETAIL.search(said)
    where = "".join(f", {name} {found[1]}" for name in ("pid", "ip") if (found := re.search(rf"\b{name}: (\S+)", said)))
    reason = f"{detail[1] if detail else lines[-1]}{where}"
    if preempted or any(words in said for words in _NODE_LOST):
        return Failure(kind=FailureKind.PREEMPTED, reason=reason)
    if any(words in said for words in _KILLED_FOR_MEMORY):
        used = _MEMORY.search(said)
        return Failure(kind=FailureKind.OUT_OF_MEMORY, reason=f"memory of its machine: {used[1]}" if used else reason)
    return Failure(kind=FailureKind.LOST, reason=reason)


@dataclass(frozen=True, slots=True)
class Again:
    """Train it again. micro_batch: the most rows at a time from now on; None: as many as its batches have."""

    micro_batch: int | None
    words: str


@dataclass(frozen=True, slots=True)
class Final:
    """It has failed. reason: for its record."""

    reason: str


def judge(
    failure: Failure,
    before: Sequence[Failure],
    batch: int,
    micro_batch: int | None,
    fitting: int | None = None,
    coupling: str | None = None,
) -> Again | Final:
    """What becomes of a trial after `failure`, and after those `before` it.

    batch: rows of one batch; micro_batch: how many of them it took at a time, None for all; fitting: how many are known
    to fit meanwhile; coupling: the hyperparameter that needs whole batches, if one does. A machine that was taken away
    counts for nothing. Out of memory is answered by half the rows at a time, down to one, where that changes nothing of
    what is learnt. A diverged training, a dead parameter, bad data and bugs would be the same the second time.
    """
    kind, said = failure.kind, shortened(failure).reason
    tries = 1 + sum(one.kind is kind for one in before)
    match kind:
        case FailureKind.PREEMPTED:
            return Again(micro_batch, f"its machine is gone ({said}); it is trained again")
        case FailureKind.LOST:
            if tries >= TRIES[kind]:
                return Final(f"its process died {tries} times; the last time: {failure.reason}")
            return Again(micro_batch, f"its process died ({said}); it is trained again")
        case FailureKind.SILENT:
            if tries >= TRIES[kind]:
                return Final(f"{failure.reason}, {tries} times; look at its machine, or raise resources.silent_minutes")
            return Again(micro_batch, f"{said}; it is trained again")
        case FailureKind.OUT_OF_MEMORY:
            rows = micro_batch or batch
            is_early = failure.stage == "adapt"
            what = "out of memory while its model was adapted," if is_early else "out of memory"
            if coupling is not None and failure.stage is None and tries < TRIES[FailureKind.LOST]:
                return Again(micro_batch, f"{what}, whoever took it ({said}); it is trained again")
            if coupling is not None:
                return Final(
                    f"{what} with {rows} rows at a time, which {coupling} needs together; "
                    f"lower per_device_train_batch_size ({failure.reason})"
                )
            if rows <= 1:
                length = f"{'stages.adapt.' if is_early else ''}task.max_length"
                return Final(f"{what} with one row at a time; lower {length} ({failure.reason})")
            half = max(1, min(rows // 2, fitting or rows))
            return Again(half, f"{what} with {rows} rows at a time; again with {half}, the batch stays {batch}")
        case _:
            return Final(failure.reason)


def shortened(failure: Failure) -> Failure:
    """The last line of its reason, as much of it as a table holds."""
    lines = failure.reason.strip().splitlines() or [str(failure.kind)]
    return failure.model_copy(update={"reason": lines[-1][:_WORDS]})
