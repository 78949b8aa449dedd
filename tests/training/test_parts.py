"""The parts of a training, by themselves: batches, rates, losses."""

import math
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_trials import trial

from hpo.training import batches
from hpo.training.hyperparameters import Hyperparameters
from hpo.training.losses import CrossEntropy, Focal, SquaredError, build_loss
from hpo.training.model import Starting, begin_with_shares, depths
from hpo.training.optimizer import build_optimizer, multiplier, set_rate
from hpo.trial import TrialObjective

LENGTHS = np.random.default_rng(0).integers(3, 60, 1000)


def test_an_epoch_holds_every_row_once_in_batches_of_similar_length() -> None:
    found = batches.length_grouped(LENGTHS, 16, seed=1, epoch=0)
    assert sorted(np.concatenate(found)) == list(range(1000))
    assert max(map(len, found)) == 16
    padded = sum(len(batch) * LENGTHS[batch].max() for batch in found)
    assert padded / LENGTHS.sum() < 1.12


def test_the_order_follows_from_seed_and_epoch() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return np.concatenate(batches.length_grouped(LENGTHS, 16, seed=seed, epoch=epoch)).tolist()

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)


def test_few_rows_are_mixed_anew_in_every_epoch_and_by_every_seed() -> None:
    """Rows of one batch meet again by chance: at the rate of a batch among the rows of similar length, not always."""
    lengths = np.arange(1000)

    def together(seed: int, epoch: int) -> set[tuple[int, int]]:
        found = batches.length_grouped(lengths, 32, seed=seed, epoch=epoch)
        return {(int(one), int(other)) for rows in found for one, other in pairwise(sorted(rows))}

    first = together(1, 0)
    for other in (together(1, 1), together(2, 0)):
        assert len(first & other) / len(first) < 0.25  # neighbours by length: all of them, were there one pool


@pytest.mark.parametrize(("batch_size", "accumulation"), [(16, 1), (16, 4), (7, 3), (2000, 2)])
def test_the_steps_of_an_epoch_are_counted_as_they_come(batch_size: int, accumulation: int) -> None:
    expected = batches.steps_per_epoch(1000, batch_size, accumulation)
    stream = batches.micro_batches(LENGTHS, batch_size, accumulation, seed=1)
    for _ in range(2):
        rows = np.concatenate([batch for step in islice(stream, expected) for batch in step])
        assert sorted(rows) == list(range(1000))


def test_evaluation_batches_hold_every_row_once_within_their_tokens() -> None:
    found = batches.sorted_by_length(LENGTHS, 512)
    assert sorted(np.concatenate(found)) == list(range(1000))
    assert all(len(batch) * LENGTHS[batch].max() <= 512 for batch in found)
    assert [len(batch) for batch in batches.sorted_by_length(np.array([900, 3]), 512)] == [1, 1]


@pytest.mark.parametrize(
    ("kind", "after_warmup", "halfway", "last"),
    [
        ("linear", 1.0, 0.5, 1 / 80),
        ("cosine", 1.0, 0.5, 0.5 * (1 + math.cos(math.pi * 79 / 80))),
        ("constant", 1, 1, 1),
    ],
)
def test_the_rate_rises_and_falls(kind: str, after_warmup: float, halfway: float, last: float) -> None:
    factor = multiplier(Hyperparameters(warmup_ratio=0.2, lr_scheduler_type=kind), 100)  # type: ignore[arg-type]
    rising = [factor(step) for step in range(21)]
    assert rising == sorted(rising)
    assert 0 < rising[0] < 0.1
    assert factor(20) == after_warmup
    assert factor(60) == pytest.approx(halfway)
    assert factor(99) == pytest.approx(last)


def test_without_warmup_the_first_step_has_the_whole_rate() -> None:
    assert multiplier(Hyperparameters(warmup_ratio=0.0), 10)(0) == 1.0


def test_parameters_decay_and_learn_by_kind_and_depth(objective: TrialObjective) -> None:
    training = objective._prepare(trial(layerwise_lr_decay=0.5, weight_decay=0.1, learning_rate=1e-3))
    optimizer = build_optimizer(training.model, training.hyper)
    group_of = {id(part): group for group in optimizer.param_groups for part in group["params"]}
    depth = depths(training.model)
    assert set(depth.values()) == {0, 1, 2, 3}
    for name, part in training.model.named_parameters():
        group = group_of[id(part)]
        assert group["weight_decay"] == (0.0 if "bias" in name or "LayerNorm" in name else 0.1)
        assert group["lr"] == pytest.approx(1e-3 * 0.5 ** (3 - depth[name]))
    set_rate(optimizer, 0.5)
    assert max(group["lr"] for group in optimizer.param_groups) == pytest.approx(5e-4)


def test_losses_are_what_their_papers_say() -> None:
    logits, labels = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 3.0]]), torch.tensor([0, 0, 1])
    right = logits.softmax(-1)[torch.arange(3), labels]
    assert torch.allclose(CrossEntropy(0.0)(logits, labels), -right.log())
    assert torch.allclose(Focal(2.0, 0.0)(logits, labels), -((1 - right) ** 2) * right.log())
    assert torch.allclose(Focal(0.0, 0.1)(logits, labels), CrossEntropy(0.1)(logits, labels))
    assert torch.equal(SquaredError()(torch.tensor([[1.0], [2.0]]), torch.tensor([3.0, 2.0])), torch.tensor([4.0, 0.0]))


def test_focal_loss_has_gradients_where_a_row_is_certain() -> None:
    logits = torch.tensor([[200.0, 0.0], [0.0, 200.0]], requires_grad=True)
    Focal(0.5, 0.0)(logits, torch.tensor([0, 0])).sum().backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_the_loss_follows_from_the_hyperparameters_and_the_kind_of_label() -> None:
    assert build_loss(Hyperparameters(), "class") == CrossEntropy(0.0)
    assert build_loss(Hyperparameters(loss="focal", focal_gamma=1.5), "class") == Focal(1.5, 0.0)
    assert build_loss(Hyperparameters(), "number") == SquaredError()


def test_a_head_begins_with_the_shares_of_rare_labels(tiny_bert: Path) -> None:
    settings = {"id2label": dict(enumerate("abc")), "label2id": {name: place for place, name in enumerate("abc")}}
    model = Starting(tiny_bert, "AutoModelForSequenceClassification", settings).build(Hyperparameters(), seed=1).eval()
    begin_with_shares(model, np.array([0.7, 0.01, 0.0], np.float32))
    bias = dict(model.named_parameters())["classifier.bias"]
    torch.testing.assert_close(bias.sigmoid(), torch.tensor([0.5, 0.01, 0.001]))
