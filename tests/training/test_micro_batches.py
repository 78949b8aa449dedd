"""Batches that are taken in parts: the same gradients, the same rows in the same order, the same number of steps."""

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from tiny_trials import trial

from hpo.encoded import Array, Encoded
from hpo.errors import OutOfMemoryError
from hpo.records import Report
from hpo.training import batches, liveness, loop
from hpo.trial import TrialObjective

PLAIN = {
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "bf16": False,
    "per_device_train_batch_size": 19,
    "gradient_accumulation_steps": 2,
}


def gradients(objective: TrialObjective, micro_batch: int | None) -> dict[str, torch.Tensor]:
    """After one optimiser step's worth of rows, before the step."""
    training = objective._prepare(dataclasses.replace(trial(**PLAIN), micro_batch=micro_batch))
    micro = next(training.steps())
    rows = sum(len(batch) for batch in micro)
    for part in (part for batch in micro for part in batches.split(batch, training.micro_batch)):
        loop._backward(training, part, rows)
    return {name: part.grad.clone() for name, part in training.model.named_parameters() if part.grad is not None}


@pytest.mark.parametrize("most", [9, 4, 1])
def test_a_batch_in_parts_has_the_gradients_of_the_whole_batch(objective: TrialObjective, most: int) -> None:
    whole, parts = gradients(objective, None), gradients(objective, most)
    assert whole.keys() == parts.keys()
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, rtol=0.0, atol=1e-6)


def test_the_effective_batch_and_the_steps_stay_what_they_were(objective: TrialObjective) -> None:
    config = dataclasses.replace(trial(**PLAIN), micro_batch=4)
    liveness.assert_live(objective._prepare(config), config.params)
    whole, parts = list(objective(trial(**PLAIN))), list(objective(config))
    assert [report.step for report in parts] == [report.step for report in whole]
    assert [report.metrics["epoch"] for report in parts] == [report.metrics["epoch"] for report in whole]
    for one, other in zip(whole, parts, strict=True):
        assert other.metrics["loss"] == pytest.approx(one.metrics["loss"], rel=1e-3)
    assert {report.metrics.get("micro_batch_size") for report in parts} == {4.0}
    assert "micro_batch_size" not in whole[0].metrics


def test_parts_are_even_and_keep_the_order() -> None:
    rows = np.arange(17)
    parts = batches.split(rows, 8)
    assert [len(part) for part in parts] == [6, 6, 5]
    assert np.concatenate(parts).tolist() == rows.tolist()
    assert batches.split(rows, None)[0] is rows
    assert batches.split(rows, 17)[0] is rows


@dataclasses.dataclass(frozen=True)
class Cramped(TrialObjective):
    """On a machine where more than `fits` rows at a time exhaust the memory of torch's own allocator."""

    fits: int = 4

    def _collate(self, encoded: Encoded, rows: Array) -> dict[str, Array]:
        if len(encoded) == len(self._train) and len(rows) > self.fits:
            torch.empty(10**15)
        return super()._collate(encoded, rows)


def test_an_allocation_that_fails_says_so_and_leaves_nothing_behind(objective: TrialObjective) -> None:
    cramped = Cramped(**{name: getattr(objective, name) for name in objective.__dataclass_fields__})

    def pull(reports: Iterator[Report]) -> None:
        list(reports)

    with pytest.raises(OutOfMemoryError, match="can't allocate memory") as caught:
        pull(cramped(trial()))
    assert caught.value.__context__ is None  # the frames of the training, and all tensors in them, are gone
    assert list(cramped(dataclasses.replace(trial(), micro_batch=4)))[-1].done
