"""Trials that failed and are trained again, in both phases of a study.

Owns what a study has learnt of memory: how many rows at a time fit. Must not know what failed, or who runs trials.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass

from hpo.failures import Final, judge, shortened
from hpo.records import Failure, FailureKind, TrialNoted, TrialRecord
from hpo.training.hyperparameters import Hyperparameters


@dataclass
class Retries:
    """fitting: the most rows at a time that are known to fit, since more did not; None: no trial was short of memory.
    All trials of a study are of one model and one max_length, so that the rows decide."""

    fitting: int | None = None

    @classmethod
    def after(cls, records: Iterable[TrialRecord], fitting: int | None = None) -> "Retries":
        """With what these trials found out, and what is known already."""
        found = [record.micro_batch for record in records if record.micro_batch is not None]
        return cls(min([*found, *([fitting] if fitting is not None else [])], default=None))

    def micro_batch(self, record: TrialRecord) -> int | None:
        """How many rows at a time a trial begins with; None: as many as its batches have."""
        limits = [limit for limit in (self.fitting, record.micro_batch) if limit is not None]
        return min(limits) if limits and min(limits) < batch_of(record) else None

    def judge(
        self, record: TrialRecord, failure: Failure, micro_batch: int | None
    ) -> tuple[TrialRecord, TrialNoted] | str:
        """The trial as it goes on, and what there is to say of it; or the reason why it has failed.

        micro_batch: how many rows at a time it took, None for whole batches.
        """
        answer = judge(failure, record.setbacks, batch_of(record), micro_batch, self.fitting)
        if isinstance(answer, Final):
            return answer.reason
        if answer.micro_batch is not None and failure.kind is FailureKind.OUT_OF_MEMORY:
            self.fitting = answer.micro_batch
        setbacks = (*record.setbacks, shortened(failure))
        again = record.model_copy(update={"setbacks": setbacks, "micro_batch": answer.micro_batch})
        tags = {"hpo.setbacks": ", ".join(one.kind for one in setbacks)}
        if answer.micro_batch is not None:
            tags["hpo.micro_batch_size"] = str(answer.micro_batch)
        return again, TrialNoted(
            time=time.time(), number=record.number, replicate=record.replicate, text=answer.words, tags=tags
        )


def batch_of(record: TrialRecord) -> int:
    """Rows of one batch."""
    return int(record.params.get("per_device_train_batch_size", Hyperparameters().per_device_train_batch_size))


def noted(record: TrialRecord, text: str) -> TrialNoted:
    return TrialNoted(time=time.time(), number=record.number, replicate=record.replicate, text=text)
