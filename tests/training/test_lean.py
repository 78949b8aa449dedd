"""The lean path against the eager model: loss, gradients, weights, what is changed on the way, and what it refuses."""

import copy
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_trials import NO_DROPOUT, losses, trial
from toys import TOYS

from hpo.tasks import Task
from hpo.training import graphs, loop, population
from hpo.training.lean.drops import Drops
from hpo.training.lean.stepper import Lean
from hpo.training.pretrained import load_tokenizer
from hpo.trial import TrialObjective

VARIED = [
    {},
    {"per_device_train_batch_size": 7},  # the last batch of an epoch is smaller
    {"layerwise_lr_decay": 0.5, "weight_decay": 0.1, "max_grad_norm": 0.01},
    {"frozen_layers": 1},
    {"frozen_layers": 2, "layerwise_lr_decay": 0.5},
    {"loss": "focal", "label_smoothing_factor": 0.1, "max_grad_norm": 0.0},
    {"gradient_accumulation_steps": 2, "weight_decay": 0.1},
]


def prepared(objective: TrialObjective, pace: graphs.Pace = "lean", **params: object) -> loop.Training:
    training = objective._prepare(trial(**params))
    training.pace = pace
    return training


def steps(training: loop.Training, count: int) -> loop.Training:
    training.model.train()
    take_step = loop.stepper(training)
    for step, micro in zip(range(count), training.steps(), strict=False):
        loop.set_rate(training.optimizer, training.factor(step))
        take_step(micro)
    return training


@pytest.mark.parametrize("params", VARIED, ids=lambda params: ",".join(params) or "default")
def test_in_float32_it_does_what_the_eager_step_does(objective: TrialObjective, params: dict[str, object]) -> None:
    params = {"bf16": False} | params
    assert isinstance(loop.stepper(prepared(objective, **params)), Lean)
    np.testing.assert_allclose(losses(objective, "lean", **params), losses(objective, "eager", **params), rtol=1e-4)


def test_in_bfloat16_it_does_the_same_but_for_its_rounding(objective: TrialObjective) -> None:
    eager = losses(objective, "eager", bf16=True)
    np.testing.assert_allclose(losses(objective, "lean", bf16=True), eager, atol=0.05)


def test_rows_in_parts_have_the_gradients_of_the_whole(objective: TrialObjective) -> None:
    found = {}
    for most in (None, 3):
        training = prepared(objective, bf16=False, **NO_DROPOUT)
        training.micro_batch = most
        found[most] = steps(training, 10).copy_weights()
    for name, part in found[None].items():
        torch.testing.assert_close(found[3][name], part, rtol=0.0, atol=1e-4)


def test_tokens_that_do_not_occur_decay_as_they_do_in_the_eager_loop(objective: TrialObjective) -> None:
    """And nobody who looks at the model, at whatever step, sees or changes what it would have been."""
    params = {"bf16": False, "weight_decay": 0.3, "learning_rate": 1e-2, **NO_DROPOUT}
    eager, looked = steps(prepared(objective, "eager", **params), 20), prepared(objective, **params)
    unseen = [4, 0]  # [MASK] and the padding
    before = copy.deepcopy(looked.model.state_dict())
    looked.model.train()
    take_step = loop.stepper(looked)
    for step, micro in zip(range(20), looked.steps(), strict=False):
        loop.set_rate(looked.optimizer, looked.factor(step))
        take_step(micro)
        if step in (3, 4, 11):
            looked.copy_weights()
    whole = steps(prepared(objective, **params), 20).copy_weights()
    name = "bert.embeddings.word_embeddings.weight"
    found = looked.copy_weights()
    assert all(torch.equal(part, whole[own]) for own, part in found.items())
    assert not torch.allclose(found[name][unseen], before[name][unseen], rtol=1e-2)
    torch.testing.assert_close(found[name][unseen], eager.copy_weights()[name][unseen], rtol=1e-5, atol=0.0)
    for own, part in eager.copy_weights().items():
        torch.testing.assert_close(found[own], part, rtol=0.0, atol=2e-3)
    looked.model.eval()
    states = population.State.of(looked).moments[name]
    expected = population.State.of(eager).moments[name]
    torch.testing.assert_close(states["exp_avg"], expected["exp_avg"], rtol=1e-2, atol=1e-4)
    assert float(states["step"]) == float(expected["step"]) == 20


@pytest.mark.parametrize("name", [name for name, toy in TOYS.items() if toy.task.learns not in ("masked", "text")])
def test_every_task_of_one_encoder_is_served(name: str, tiny_bert: Path, tmp_path: Path) -> None:
    toy = TOYS[name]
    task: Task = toy.task
    tokenizer = load_tokenizer(tiny_bert)
    table = toy.table(48)
    labels = task.label_names(table)
    for split in ("train", "validation"):
        task.encode(table, labels, tokenizer).save(tmp_path / f"{split}.arrow")
    objective = TrialObjective(
        tiny_bert, task, labels, tmp_path, tmp_path / "checkpoints", task.default_metric, "max", tokenizer.pad_id
    )
    for bf16, atol in ((False, 1e-3), (True, 0.1)):
        assert isinstance(loop.stepper(prepared(objective, bf16=bf16)), Lean)
        found = losses(objective, "lean", steps=8, bf16=bf16)
        np.testing.assert_allclose(found, losses(objective, "eager", steps=8, bf16=bf16), atol=atol)


def test_a_dropout_that_is_changed_acts_at_once_and_the_rates_are_those_of_the_optimiser(
    objective: TrialObjective,
) -> None:
    training = prepared(objective, bf16=False, **NO_DROPOUT)
    take_step = loop.stepper(training)
    micro = next(training.steps())
    loop.set_rate(training.optimizer, 0.0)
    before = training.copy_weights()
    one, other = float(take_step(micro)), float(take_step(micro))
    assert one == other
    assert all(torch.equal(part, before[name]) for name, part in training.copy_weights().items())
    population.change(training, {"hidden_dropout_prob": 0.5})
    take_step.settle()
    assert float(take_step(micro)) != one
    assert float(take_step(micro)) != float(take_step(micro))


def test_another_state_is_taken_on(objective: TrialObjective) -> None:
    params = {"bf16": False, "weight_decay": 0.1, **NO_DROPOUT}
    source, other = steps(prepared(objective, **params), 12), prepared(objective, **params)
    other.model.train()
    take_step = loop.stepper(other)
    for micro in next(iter([[next(other.steps())] * 3])):
        take_step(micro)
    population.State.of(source).put_into(other)
    take_step.settle()
    assert all(torch.equal(part, source.copy_weights()[name]) for name, part in other.copy_weights().items())
    last = next(other.steps())
    for training in (source, other):
        loop.set_rate(training.optimizer, 0.5)
    take_step(last)
    theirs = loop.stepper(source)
    theirs(last)
    assert all(torch.equal(part, source.copy_weights()[name]) for name, part in other.copy_weights().items())


def test_masks_drop_as_much_as_they_should_and_follow_from_the_generator() -> None:
    torch.manual_seed(5)
    drops = Drops()
    mask = drops.mask(0.1, (1000, 1001), torch.float32)
    assert mask is not None
    assert float((mask == 0).float().mean()) == pytest.approx(0.1, abs=0.002)
    assert float(mask.mean()) == pytest.approx(1.0, abs=0.002)
    assert drops.mask(0.0, (3,), torch.float32) is None
    other = drops.mask(0.1, (1000, 1001), torch.float32)
    assert other is not None
    assert float(((mask == 0) & (other == 0)).float().mean()) == pytest.approx(0.01, abs=0.001)
    torch.manual_seed(5)
    again = Drops().mask(0.1, (1000, 1001), torch.float32)
    assert again is not None
    assert torch.equal(again, mask)


def test_what_is_not_known_is_left_to_the_eager_loop_without_a_word(objective: TrialObjective) -> None:
    training = prepared(objective)
    training.model.bert.encoder.layer[0].attention.self.query.bias.requires_grad = False  # a part of a layer
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert isinstance(loop.stepper(training), graphs.Eager)
    other = prepared(objective)
    other.model.config.hidden_act = "relu"
    assert isinstance(loop.stepper(other), graphs.Eager)


def test_a_model_that_does_something_else_is_trained_eagerly_with_a_warning(
    objective: TrialObjective, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Doubled(torch.nn.Linear):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return 2.0 * super().forward(inputs)

    params = {"bf16": False, "weight_decay": 0.1, **NO_DROPOUT}
    trained = []
    for pace in ("lean", "eager"):
        training = prepared(objective, pace, **params)
        training.model.bert.encoder.layer[1].output.dense.__class__ = Doubled
        if pace == "lean":
            with pytest.warns(RuntimeWarning, match="trained without the lean path"):
                steps(training, 5)
        else:
            steps(training, 5)
        trained.append(training)
    one, other = (population.State.of(training).flat() for training in trained)
    assert one.keys() == other.keys()
    assert all(torch.equal(part, other[name]) for name, part in one.items())
