"""Captured steps against eager ones. Without a GPU the same step functions run, uncaptured."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_trials import losses, trial

from hpo.encoded import Encoded, Ragged
from hpo.tasks import SequenceClassification
from hpo.training import graphs, loop
from hpo.training.resident import Resident, padded_length
from hpo.training.resume import Tensors
from hpo.trial import TrialObjective

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"per_device_train_batch_size": 7},  # the last batch of an epoch is smaller
        {"layerwise_lr_decay": 0.5, "frozen_layers": 1},
        {"loss": "focal", "label_smoothing_factor": 0.1, "max_grad_norm": 0.0},
        {"bf16": False, "weight_decay": 0.1, "max_grad_norm": 0.01},
    ],
    ids=lambda params: ",".join(params) or "default",
)
def test_a_step_as_it_is_captured_does_what_the_eager_step_does(
    objective: TrialObjective, params: dict[str, object]
) -> None:
    params = {"bf16": False} | params
    np.testing.assert_allclose(losses(objective, "graphs", **params), losses(objective, "eager", **params), rtol=2e-4)


def test_in_bfloat16_both_do_the_same_but_for_its_rounding(objective: TrialObjective) -> None:
    eager = losses(objective, "eager", bf16=True)
    np.testing.assert_allclose(losses(objective, "graphs", bf16=True), eager, atol=0.02)
    np.testing.assert_allclose(losses(objective, "shadow", bf16=True), eager, atol=0.05)


def test_a_whole_trial_learns_as_it_does_with_the_eager_loop(
    objective: TrialObjective, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(graphs.PACES, "cpu", "shadow")
    assert list(objective(trial(bf16=True)))[-1].metrics["accuracy"] > 0.9


def test_what_the_usual_step_can_t_do_is_left_to_the_eager_loop(objective: TrialObjective, encoded: Path) -> None:
    training = objective._prepare(trial(gradient_accumulation_steps=2))
    training.pace = "graphs"
    assert isinstance(loop.stepper(training), graphs.Eager)
    training = objective._prepare(dataclasses.replace(trial(), micro_batch=4))  # after too little memory
    training.pace = "graphs"
    assert isinstance(loop.stepper(training), graphs.Eager)
    training = objective._prepare(trial())
    training.pace = "graphs"
    assert isinstance(loop.stepper(training), graphs.Captured)
    training.collate = lambda rows, numbers: objective.task.collate(rows, numbers, 0) | {"more": numbers}
    assert isinstance(loop.stepper(training), graphs.Eager)
    rows = training.train
    spans = dataclasses.replace(rows, flat={"starts": np.zeros(len(rows), np.int64)})
    assert Resident.of(spans, 0, CPU) is None
    several = dataclasses.replace(rows, flat={**rows.flat, "terms": np.full(len(rows), 2)})
    assert Resident.of(several, 0, CPU) is None


@pytest.mark.parametrize("pace", ["graphs", "shadow"])
def test_a_training_without_launches_goes_on_from_its_tensors_to_the_same_bits(
    objective: TrialObjective, tmp_path: Path, pace: graphs.Pace
) -> None:
    """What a bookmark holds is put into the model and the optimiser before the stepper is made."""
    params = {"bf16": True, "hidden_dropout_prob": 0.2, "weight_decay": 0.1}

    def prepared() -> loop.Training:
        training = objective._prepare(trial(**params))
        training.pace = pace
        return training

    file, marks = tmp_path / "tensors.safetensors", []

    def between(progress: loop.Progress) -> None:
        if progress.step == 30:
            Tensors.of(whole, progress, {}).save(file)
            marks.append(progress)

    whole, other = prepared(), prepared()
    evaluate_at = frozenset({24, 48, whole.total_steps})
    expected = [own.metrics for own in loop.train(whole, evaluate_at, between=between)][1:]
    torch.manual_seed(9)
    tensors = Tensors.load(file)
    tensors.put_into(other)
    progress = loop.Progress(30, list(tensors.losses), marks[0].seen, marks[0].seconds, marks[0].trained)
    assert isinstance(loop.stepper(other), graphs.Captured)
    found = [own.metrics for own in loop.train(other, evaluate_at, progress)]
    timed = {"train_seconds", "sentences_per_second", "latency"}
    assert [{name: own[name] for name in own.keys() - timed} for own in found] == [
        {name: own[name] for name in own.keys() - timed} for own in expected
    ]
    assert all(torch.equal(part, whole.copy_weights()[name]) for name, part in other.copy_weights().items())


def test_a_step_reads_the_rates_that_the_optimiser_holds_and_gives_them_back(objective: TrialObjective) -> None:
    training = objective._prepare(trial())
    training.pace = "graphs"
    take_step = loop.stepper(training)
    before = {name: part.clone() for name, part in training.model.state_dict().items()}
    loop.set_rate(training.optimizer, 0.0)
    take_step(next(training.steps()))
    assert all(torch.equal(part, before[name]) for name, part in training.model.state_dict().items())
    loop.set_rate(training.optimizer, 1.0)
    assert all(isinstance(group["lr"], float) for group in training.optimizer.param_groups)
    take_step(next(training.steps()))
    assert not all(torch.equal(part, before[name]) for name, part in training.model.state_dict().items())


def test_what_is_changed_between_evaluations_is_noticed(objective: TrialObjective) -> None:
    training = objective._prepare(trial())
    training.pace = "graphs"
    take_step = loop.stepper(training)
    assert isinstance(take_step, graphs.Captured)
    take_step(next(training.steps()))
    before = take_step._holding()
    assert take_step._holding() == before
    next(module for module in training.model.modules() if isinstance(module, torch.nn.Dropout)).p = 0.4
    assert take_step._holding() != before
    before = take_step._holding()
    attention = next(module for module in training.model.modules() if isinstance(module, torch.nn.Linear))
    attention.attention_dropout = 0.4  # as ModernBERT has it, without a module of its own
    assert take_step._holding() != before
    before = take_step._holding()
    for state in training.optimizer.state.values():
        state["exp_avg"] = state["exp_avg"].clone()
    assert take_step._holding() != before
    take_step.settle()
    assert not take_step._seen


def test_rows_gathered_on_the_device_are_the_collated_ones() -> None:
    rows = [[2, 7, 3], [2, 3], [2, 8, 9, 10, 3]]
    pairs = {"input_ids": Ragged.of(rows), "token_type_ids": Ragged.of([[0, 0, 1], [0, 1], [0, 0, 1, 1, 1]])}
    encoded = Encoded(pairs, {"labels": np.array([0, 1, 1])})
    task = SequenceClassification(text=("one", "other"), label="label")
    resident = Resident.of(encoded, 4, CPU)
    assert resident is not None
    numbers = np.array([1, 0])
    assert resident.agrees(task.collate(encoded, numbers, 4), numbers)
    assert not resident.agrees(task.collate(encoded, numbers, 0), numbers)  # another padding
    assert resident.length_for(numbers) == 5  # of 8, but no row is that long
    wide = resident.gather(torch.from_numpy(numbers), 5)
    assert wide["input_ids"].tolist() == [[2, 3, 4, 4, 4], [2, 7, 3, 4, 4]]
    assert wide["attention_mask"].tolist() == [[1, 1, 0, 0, 0], [1, 1, 1, 0, 0]]


def test_lengths_share_few_paddings() -> None:
    assert [padded_length(length) for length in (1, 8, 9, 64, 65, 250, 257)] == [8, 8, 16, 64, 80, 256, 288]
    assert len({padded_length(length) for length in range(1, 513)}) == 28


@pytest.mark.skipif(not torch.cuda.is_available(), reason="captures need a GPU")
def test_a_captured_trial_does_what_the_eager_one_does(objective: TrialObjective) -> None:
    gpu = dataclasses.replace(objective, gpus=1.0)
    eager = losses(gpu, "eager")
    np.testing.assert_allclose(losses(gpu, "graphs"), eager, atol=0.02)
    np.testing.assert_allclose(losses(gpu, "shadow"), eager, atol=0.05)
