"""The arithmetic of recipes, by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_trials import trial
from torch import nn
from torch.nn import functional

from hpo.encoded import Encoded, Ragged
from hpo.errors import DeadParameterError
from hpo.training import inference, liveness, loop
from hpo.training.losses import CrossEntropy
from hpo.training.recipes.class_weights import Weighted, counts_of, weights_of
from hpo.training.recipes.contract import Pass, changed
from hpo.training.recipes.ema import Ema
from hpo.training.recipes.fgm import Shift, length_of
from hpo.training.recipes.lora import LoraLinear
from hpo.training.recipes.r_drop import divergence, span_divergence
from hpo.training.recipes.resampling import quotas_of
from hpo.training.recipes.supcon import contrast
from hpo.trial import TrialObjective

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "bf16": False}


def passing_of(objective: TrialObjective, rows: int = 6, **params: object) -> Pass:
    training = objective._prepare(trial(**{**NO_DROPOUT, **params}))
    training.step = 1
    training.model.train()
    numbers = np.arange(rows)
    inputs = inference.to_tensors(training.collate(training.train, numbers), training.where)
    return Pass(training, numbers, inputs, inputs.pop("labels"), rows)


def test_class_weights_have_the_mean_one_over_all_terms() -> None:
    counts = counts_of(np.array([0, 0, 0, 0, 0, 0, 1, 1, -100, 3]))
    assert counts.tolist() == [6, 2, 0, 1]
    for weighting in ("balanced", "sqrt", "effective"):
        weights = weights_of(counts, weighting)  # type: ignore[arg-type]
        assert (weights * counts).sum() == pytest.approx(counts.sum())
        assert weights[2] == 0
        assert weights[3] > weights[1] > weights[0]
    balanced, root = weights_of(counts, "balanced"), weights_of(counts, "sqrt")
    assert balanced[3] / balanced[0] == pytest.approx(6)
    assert root[3] / root[0] == pytest.approx(6**0.5)


def test_a_weighted_loss_is_torch_s_but_for_its_mean() -> None:
    torch.manual_seed(0)
    logits, labels, weights = torch.randn(7, 3), torch.tensor([0, 1, 2, 2, -100, 1, 0]), torch.tensor([0.5, 1.0, 2.0])
    expected = functional.cross_entropy(logits, labels, weights, reduction="none")
    torch.testing.assert_close(Weighted(CrossEntropy(0.0), weights)(logits, labels), expected)


def test_quotas_of_an_epoch_add_up_to_its_rows() -> None:
    counts = np.array([90, 9, 0, 1])
    assert quotas_of(counts, 1.0).tolist() == counts.tolist()
    assert quotas_of(counts, 0.0).tolist() == [34, 33, 0, 33]
    assert quotas_of(counts, 0.5).sum() == 100


def test_a_class_that_is_drawn_often_gives_all_its_rows(objective: TrialObjective, tmp_path: Path) -> None:
    labels = np.array([0] * 45 + [1] * 5)
    for split in ("train", "validation"):
        rows = Ragged.of([[2, 7, number % 7 + 5, 3] for number in range(50)])
        Encoded({"input_ids": rows}, {"labels": labels}).save(tmp_path / f"{split}.arrow")
    object.__setattr__(objective, "data", tmp_path)
    training = objective._prepare(trial(resampling="balanced"))
    epochs = [np.concatenate(training.first_epoch())]
    assert training.choose is not None
    epochs.append(training.choose(1))
    for rows in epochs:
        assert len(rows) == 50
        assert np.bincount(labels[rows]).tolist() == [25, 25]
        assert set(rows[rows >= 45]) == set(range(45, 50))
        assert len(set(rows[rows < 45])) == 25
    assert set(epochs[0][epochs[0] < 45]) != set(epochs[1][epochs[1] < 45])
    assert training.choose(1).tolist() == epochs[1].tolist()
    assert sum(len(batch) for micro, _ in zip(training.steps(), range(7), strict=False) for batch in micro) == 50


def test_a_low_rank_layer_begins_as_what_it_adapts_and_merges_into_a_plain_one() -> None:
    torch.manual_seed(0)
    base = nn.Linear(5, 4)
    layer = LoraLinear(base, r=2, alpha=6.0, dropout=0.5).eval()
    x = torch.randn(3, 5)
    assert torch.equal(layer(x), base(x))
    nn.init.normal_(layer.lora_B)
    expected = base(x) + 3.0 * x @ layer.lora_A.T @ layer.lora_B.T
    torch.testing.assert_close(layer(x), expected)
    before = layer.weight.detach().clone()
    with layer.merged():
        torch.testing.assert_close(functional.linear(x, layer.weight, layer.bias), expected)
        torch.testing.assert_close(layer(x), expected)
    assert torch.equal(layer.weight, before)


def test_low_rank_training_leaves_the_encoder_s_own_weights_alone(objective: TrialObjective) -> None:
    training = objective._prepare(trial(peft="lora", lora_r=2))
    trained = {name for name, part in training.model.named_parameters() if part.requires_grad}
    assert all(".lora_" in name or "pooler" in name or "classifier" in name for name in trained)
    held = {id(part) for group in training.optimizer.param_groups for part in group["params"]}
    assert held == {id(part) for part in training.model.parameters() if part.requires_grad}
    assert training.count_parameters()["trainable_parameters"] < 0.2 * training.count_parameters()["parameters"]


def test_frozen_layers_have_no_low_rank_changes_either(objective: TrialObjective) -> None:
    training = objective._prepare(trial(peft="lora", frozen_layers=1))
    trained = [name for name, part in training.model.named_parameters() if part.requires_grad and ".lora_" in name]
    assert trained
    assert all("layer.1." in name for name in trained)
    liveness.assert_live(training, {"peft": "lora", "frozen_layers": 1, "lora_r": 8})


def test_where_the_head_alone_is_trained_low_rank_changes_are_missed_and_no_decay_is_none(
    objective: TrialObjective,
) -> None:
    training = objective._prepare(trial(peft="lora", frozen_layers=2))
    with pytest.raises(DeadParameterError, match="peft=lora was sampled, but the training holds none"):
        liveness.assert_live(training, {"peft": "lora"})
    liveness.assert_live(training, {"layerwise_lr_decay": 1.0})
    training = objective._prepare(trial(frozen_layers=2, layerwise_lr_decay=0.9))
    with pytest.raises(DeadParameterError, match="layerwise_lr_decay"):
        liveness.assert_live(training, {"layerwise_lr_decay": 0.9})


def test_a_moving_average_is_the_sum_that_it_says(objective: TrialObjective) -> None:
    training = objective._prepare(trial(averaging="ema", ema_decay=0.4))
    (recipe,) = training.recipes
    assert isinstance(recipe, Ema)
    part = training.model.classifier.bias  # type: ignore[union-attr]
    expected = part.detach().clone()
    for step in range(1, 6):
        training.step = step
        with torch.no_grad():
            part += step
        recipe.after_step(training)
        decay = min(0.4, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * part.detach()
    before = part.detach().clone()
    with recipe.evaluating(training):
        torch.testing.assert_close(part.detach(), expected)
    assert torch.equal(part.detach(), before)
    torch.testing.assert_close(training.copy_weights()["classifier.bias"], expected)


def test_layers_wait_for_their_turn_from_the_top_down(objective: TrialObjective) -> None:
    training = objective._prepare(trial(gradual_unfreezing=0.5))
    (recipe,) = training.recipes
    lowest = [recipe.lowest(step, 12) for step in range(1, 13)]  # type: ignore[attr-defined]
    assert lowest == [3, 3, 2, 2, 1, 1, 0, 0, 0, 0, 0, 0]
    before = training.copy_weights()
    training.step, training.total_steps = 3, 12
    training.model.train()
    loop.stepper(training)(next(training.steps()))
    moved = {name for name, part in training.copy_weights().items() if not torch.equal(part, before[name])}
    assert any("layer.1." in name for name in moved)
    assert not any("layer.0." in name or "embeddings" in name for name in moved)


def test_the_perturbation_lowers_the_margin_and_is_as_long_as_asked(objective: TrialObjective) -> None:
    passing = passing_of(objective)
    shift = Shift()
    clean = passing.share(passing.outputs(shift))
    clean.backward()
    assert shift.by is not None
    assert shift.by.grad is not None
    by = 0.01 * shift.by.grad / length_of(shift.by.grad)
    torch.testing.assert_close(by.flatten(1).norm(dim=1), torch.full((6,), 0.01))
    assert float(passing.share(passing.outputs(Shift(by))).detach()) > float(clean.detach())


def test_the_embeddings_are_changed_inside_of_the_context_alone(objective: TrialObjective) -> None:
    passing = passing_of(objective)
    usual = passing.outputs()
    with changed(passing.training.model, (lambda embeddings: embeddings + 1.0,)):
        assert not torch.equal(passing.outputs(), usual)
    assert torch.equal(passing.outputs(), usual)


@pytest.mark.parametrize("name", ["token_deletion", "token_swap"])
def test_editing_keeps_marks_and_comes_out_the_same_again(objective: TrialObjective, name: str) -> None:
    found = []
    for _ in range(2):
        passing = passing_of(objective, 8, **{name: 0.5})
        before = {key: part.clone() for key, part in passing.inputs.items()}
        (recipe,) = passing.training.recipes
        recipe.inputs(passing)
        found.append(passing.inputs)
    assert all(torch.equal(part, found[1][key]) for key, part in found[0].items())
    ids, mask = found[0]["input_ids"], found[0]["attention_mask"]
    assert (ids[:, 0] == 2).all()
    assert (ids.gather(1, mask.sum(1, keepdim=True) - 1) == 3).all()
    assert (ids[mask == 0] == 0).all()
    assert not torch.equal(ids, before["input_ids"])
    for row in range(8):
        old = before["input_ids"][row][before["attention_mask"][row] == 1].tolist()
        new = ids[row][mask[row] == 1].tolist()
        if name == "token_swap":
            assert sorted(new) == sorted(old)
        else:
            rest = iter(old)
            assert all(token in rest for token in new)  # in their order


def test_mixing_with_nothing_of_the_other_row_is_the_plain_loss(objective: TrialObjective) -> None:
    passing = passing_of(objective, mixup_alpha=0.4)
    (recipe,) = passing.training.recipes
    recipe.inputs(passing)
    (weight, labels), (rest, others) = passing.targets
    assert weight + rest == pytest.approx(1.0)
    assert sorted(labels.tolist()) == sorted(others.tolist())
    outputs = passing.outputs()
    loss = passing.training.loss
    expected = (weight * loss(outputs, labels) + rest * loss(outputs, others)).mean()
    torch.testing.assert_close(passing.share(outputs), expected)


def test_divergence_is_that_of_the_paper() -> None:
    torch.manual_seed(0)
    one, other = torch.randn(4, 3), torch.randn(4, 3)
    labels = torch.tensor([0, 1, -100, 2])
    first, second = one.softmax(-1), other.softmax(-1)
    expected = 0.5 * ((first * (first / second).log()).sum(-1) + (second * (second / first).log()).sum(-1))
    expected[2] = 0.0
    torch.testing.assert_close(divergence(one, other, labels), expected)
    assert float(divergence(one, one, labels).sum()) == 0.0
    assert float(divergence(torch.tensor([[1.0]]), torch.tensor([[3.0]]), torch.tensor([0.5]))) == 2.0
    yes = torch.tensor([[1.0, 0.0, 1.0]] * 4)
    p, q = torch.sigmoid(one), torch.sigmoid(other)
    both = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log() + q * (q / p).log()
    both = both + (1 - q) * ((1 - q) / (1 - p)).log()
    torch.testing.assert_close(divergence(one, other, yes), 0.5 * both.mean(-1))


def test_divergence_of_spans_ignores_padding() -> None:
    torch.manual_seed(0)
    one, other = torch.randn(2, 5, 2), torch.randn(2, 5, 2)
    labels = torch.tensor([[0, 1, 3], [1, 2, 5]])
    found = span_divergence(one, other, labels)
    again = span_divergence(torch.cat([one[:1, :3], one[:1, 3:] + 9], 1), other[:1], labels[:1])
    torch.testing.assert_close(found[:1], again)
    assert torch.isfinite(found).all()


def test_tags_of_two_classes_are_no_spans_though_the_longest_row_has_three() -> None:
    one, other = torch.randn(4, 3, 2), torch.randn(4, 3, 2)
    labels = torch.tensor([[-100, 0, -100]] * 4)
    apart = divergence(one, other, labels)
    assert apart.shape == (12,)
    assert ((apart > 0.0) == (labels.flatten() == 0)).all()


@pytest.mark.parametrize(
    "recipe",
    [{"adversarial": "freelb", "freelb_steps": 3}, {"rdrop_alpha": 2.0}, {"supcon_weight": 0.3}],
    ids=lambda own: next(iter(own)),
)
def test_the_loss_that_is_told_is_the_plain_one(objective: TrialObjective, recipe: dict[str, object]) -> None:
    passing = passing_of(objective, **recipe)
    expected = float(passing.share(passing.outputs()).detach())
    assert float(loop._backward(passing.training, passing.rows, len(passing.rows))) == pytest.approx(expected, rel=1e-5)


def test_contrast_is_low_where_classes_lie_apart() -> None:
    labels = torch.tensor([0, 0, 1, 1, 2])
    apart = functional.one_hot(labels, 3).float()
    mixed = torch.eye(5)
    assert float(contrast(apart, labels, 0.1).sum()) < 0.01
    found = contrast(mixed, labels, 1.0)
    torch.testing.assert_close(found[:4], torch.full((4,), torch.tensor(4.0).log().item()))
    assert found[4] == 0.0


def test_more_layers_than_there_are_can_t_begin_anew(objective: TrialObjective) -> None:
    with pytest.raises(DeadParameterError, match="reinit_layers=3: the model has 2 layers"):
        objective._prepare(trial(reinit_layers=3))


def test_layers_that_begin_anew_are_the_top_ones_and_follow_the_seed(objective: TrialObjective) -> None:
    usual = objective._prepare(trial()).model.state_dict()
    one, other = (objective._prepare(trial(reinit_layers=1)).model.state_dict() for _ in range(2))
    changed_ones = {name for name, part in one.items() if not torch.equal(part, usual[name])}
    assert any("layer.1." in name for name in changed_ones)
    assert "bert.pooler.dense.weight" in changed_ones
    assert not any("layer.0." in name or "embeddings" in name or "classifier" in name for name in changed_ones)
    assert all(torch.equal(part, other[name]) for name, part in one.items())
