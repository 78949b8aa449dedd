"""What a failed trial means, and whether it is trained again."""

import errno

import pytest

from hpo.errors import DataError, DeadParameterError, DivergedError, OutOfMemoryError, TrialError
from hpo.failures import Again, Final, death_of, failure_of, judge, of_stage_before
from hpo.records import Failure, FailureKind

ONCE_MORE = {FailureKind.PREEMPTED, FailureKind.LOST, FailureKind.SILENT, FailureKind.OUT_OF_MEMORY}


def failed(kind: FailureKind, reason: str = "as it happens") -> Failure:
    return Failure(kind=kind, reason=reason)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (DivergedError("the training loss is nan at step 1"), FailureKind.DIVERGED),
        (DeadParameterError("frozen_layers=3: the model has 2 layers"), FailureKind.UNFIT),
        (DataError("a class that is not among them"), FailureKind.BAD_DATA),
        (TrialError("the state of another trial can't be read"), FailureKind.BUG),
        (ZeroDivisionError("nobody expected this"), FailureKind.BUG),
        (MemoryError(), FailureKind.OUT_OF_MEMORY),
        (OutOfMemoryError("of a batch"), FailureKind.OUT_OF_MEMORY),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
            FailureKind.OUT_OF_MEMORY,
        ),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), FailureKind.BUG),
        (OSError(errno.ENOSPC, "No space left on device"), FailureKind.LOST),
        (FileNotFoundError(errno.ENOENT, "No such file"), FailureKind.BUG),
    ],
)
def test_an_exception_has_the_class_of_what_it_means(error: Exception, kind: FailureKind) -> None:
    assert failure_of(error).kind is kind


def test_torch_s_own_exceptions_have_their_class() -> None:
    import torch

    assert failure_of(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")).kind is FailureKind.OUT_OF_MEMORY
    lost = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
    assert failure_of(lost).kind is FailureKind.LOST
    with pytest.raises(RuntimeError) as caught:
        torch.empty(10**15)
    assert failure_of(caught.value).kind is FailureKind.OUT_OF_MEMORY


def test_a_bug_keeps_its_traceback_and_an_error_of_ours_its_words() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        1 / 0  # noqa: B018
    assert "test_failures.py" in failure_of(caught.value).reason
    assert failure_of(DivergedError("loss is nan")).reason == "DivergedError: loss is nan"


def test_memory_is_short_in_the_task_or_in_the_stage_before_or_nobody_knows() -> None:
    assert failure_of(MemoryError()).stage == "task"
    with pytest.raises(OutOfMemoryError) as early, of_stage_before():
        raise OutOfMemoryError("of a batch")
    assert failure_of(early.value).stage == "adapt"
    assert death_of("the node running low on memory").stage is None


def test_a_death_has_the_class_that_the_cluster_says() -> None:
    assert death_of("The actor died unexpectedly before finishing this task.").kind is FailureKind.LOST
    assert death_of("anything", preempted=True).kind is FailureKind.PREEMPTED
    assert death_of("The actor died because its node has died. Node Id: 3").kind is FailureKind.PREEMPTED
    killed = (
        "1 worker(s) were killed due to the node running low on memory. Memory on the node (IP: 192.0.2.2, ID: 746d) "
    )
    death = death_of(
        f"{killed}was 13.19GB used / 23.54GB limit (0.56)\nOOM kill reason: Memory usage exceeded threshold"
    )
    assert death.kind is FailureKind.OUT_OF_MEMORY
    assert death.reason == "memory of its machine: 13.19GB used / 23.54GB limit (0.56)"
    assert death_of("").reason == "nobody knows why"


RAY = """The actor died unexpectedly before finishing this task.
\tclass_name: with_resources.<locals>.ResourceTrainable
\tpid: 28269
\tip: 192.0.2.2
The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: Worker \
unexpectedly exits with a connection error code 2. End of file. Some common causes include: (1) the process was killed \
by the OOM killer due to high memory usage, (2) ray stop --force was called"""


def test_of_all_that_ray_says_the_one_thing_that_it_knows_is_kept() -> None:
    death = death_of(RAY)
    assert death.kind is FailureKind.LOST  # whatever else it names
    reason = "Worker unexpectedly exits with a connection error code 2. End of file, pid 28269, ip 192.0.2.2"
    assert death.reason == reason


@pytest.mark.parametrize("kind", [*FailureKind])
def test_what_would_be_the_same_the_second_time_is_final(kind: FailureKind) -> None:
    answer = judge(failed(kind), [], 32, None)
    assert isinstance(answer, Again if kind in ONCE_MORE else Final)


def test_a_process_may_die_twice_and_a_trial_be_silent_once() -> None:
    lost, silent, gone = failed(FailureKind.LOST), failed(FailureKind.SILENT), failed(FailureKind.PREEMPTED)
    assert isinstance(judge(lost, [lost, silent, gone], 32, None), Again)
    answer = judge(lost, [lost, lost], 32, None)
    assert isinstance(answer, Final)
    assert answer.reason == "its process died 3 times; the last time: as it happens"
    assert isinstance(judge(silent, [silent], 32, None), Final)
    assert isinstance(judge(gone, [gone] * 100, 32, None), Again)


def test_out_of_memory_halves_the_rows_at_a_time_down_to_one() -> None:
    short, before, rows, seen = failed(FailureKind.OUT_OF_MEMORY), [], None, []
    while isinstance(answer := judge(short, before, 24, rows), Again):
        before.append(short)
        rows = answer.micro_batch
        seen.append(rows)
    assert seen == [12, 6, 3, 1]
    assert "one row at a time" in answer.reason


def test_what_another_trial_found_out_meanwhile_is_taken_over() -> None:
    answer = judge(failed(FailureKind.OUT_OF_MEMORY), [], 64, None, fitting=8)
    assert isinstance(answer, Again)
    assert answer.micro_batch == 8
