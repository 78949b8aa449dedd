"""Whole trials of a tiny real BERT on the CPU."""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_trials import config_of, trial

from hpo.encoded import Encoded
from hpo.errors import DeadParameterError, DivergedError, ModelError
from hpo.records import Report, Seeds
from hpo.tasks import SequenceClassification
from hpo.training import checkpoint, device, inference, liveness, recipes
from hpo.training.hyperparameters import Hyperparameters
from hpo.trial import TrialObjective, evaluation_steps


def run(objective: TrialObjective, **params: object) -> list[Report]:
    return list(objective(trial(**params)))


def plain(reports: list[Report]) -> list[dict[str, float]]:
    """Metrics without the clock's."""
    timed = {"seconds", "train_seconds", "sentences_per_second", "latency"}
    return [{name: value for name, value in report.metrics.items() if name not in timed} for report in reports]


def test_a_trial_learns_and_reports_at_rungs_and_epoch_ends(objective: TrialObjective) -> None:
    reports = run(objective)
    assert [report.step for report in reports] == [8, 24, 48, 72]  # 1/9, 1/3 = the first epoch, the second, the end
    assert [report.done for report in reports] == [False, False, False, True]
    assert reports[-1].progress == 1.0
    assert reports[-1].metrics["accuracy"] > 0.9
    assert reports[-1].metrics["loss"] < reports[0].metrics["loss"]
    assert reports[-1].metrics["epoch"] == 3.0


def test_a_trial_does_without_evaluate(objective: TrialObjective, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its import takes six seconds of a core, in every process that trains."""
    monkeypatch.setitem(sys.modules, "evaluate", None)  # whoever imports it fails
    assert run(objective, num_train_epochs=1)[-1].done


def test_the_same_seeds_give_the_same_metrics_to_the_last_digit_in_a_warm_process_too(
    objective: TrialObjective,
) -> None:
    first = run(objective)
    run(objective, learning_rate=1e-2, hidden_dropout_prob=0.3)
    assert plain(run(objective)) == plain(first)
    assert plain(run(dataclasses.replace(objective))) == plain(first)


def test_each_seed_changes_the_training(objective: TrialObjective) -> None:
    config = trial()
    base = plain(list(objective(config)))
    for seeds in (Seeds(init=9, order=2), Seeds(init=1, order=9)):
        assert plain(list(objective(dataclasses.replace(config, seeds=seeds)))) != base


def test_the_checkpoint_is_of_the_best_evaluation_and_gives_the_same_metric_again(objective: TrialObjective) -> None:
    reports = run(objective, learning_rate=2e-2, lr_scheduler_type="constant")
    best = max(reports, key=lambda report: report.metrics["accuracy"])
    folder = reports[-1].checkpoint
    assert folder is not None
    manifest = checkpoint.verify(folder)
    assert manifest.step == best.step
    model = inference.load(folder, objective.task.head, device.pick_device(0))
    rows = Encoded.load(objective.data / "validation.arrow")
    logits = inference.logits(
        model, rows, lambda encoded, order: objective.task.collate(encoded, order, 0), device.pick_device(0)
    )
    metrics = objective.task.compute_metrics(logits, rows, objective.labels)
    assert metrics["accuracy"] == best.metrics["accuracy"]
    assert config_of(folder)["id2label"] == {"0": "bad", "1": "good"}
    assert not [path for path in folder.parent.iterdir() if path.name.startswith(".")]


def test_a_damaged_checkpoint_is_refused(objective: TrialObjective) -> None:
    folder = run(objective, num_train_epochs=1)[-1].checkpoint
    assert folder is not None
    weights = folder / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(ModelError, match=r"model\.safetensors differs from the manifest"):
        checkpoint.verify(folder)
    weights.unlink()
    with pytest.raises(ModelError, match="is missing"):
        checkpoint.verify(folder)
    (folder / "manifest.json").write_text("{")
    with pytest.raises(ModelError, match="can't be read"):
        checkpoint.verify(folder)


def test_a_trial_that_cannot_be_among_the_best_writes_no_weights(objective: TrialObjective) -> None:
    reports = list(objective(trial(keep_above=1.01)))
    assert reports[-1].done
    assert reports[-1].checkpoint is None
    assert not objective.checkpoints.exists()


def test_a_trial_that_is_pulled_no_further_leaves_nothing(objective: TrialObjective) -> None:
    reports = objective(trial())
    next(reports)
    reports.close()  # type: ignore[attr-defined]
    assert not objective.checkpoints.exists()


SAMPLED = {
    "model": "tiny-bert",
    "learning_rate": 2e-3,
    "per_device_train_batch_size": 16,
    "gradient_accumulation_steps": 2,
    "num_train_epochs": 2.5,
    "warmup_ratio": 0.2,
    "lr_scheduler_type": "cosine",
    "weight_decay": 0.05,
    "adam_beta1": 0.8,
    "adam_beta2": 0.95,
    "adam_epsilon": 1e-7,
    "max_grad_norm": 0.5,
    "hidden_dropout_prob": 0.05,
    "attention_probs_dropout_prob": 0.15,
    "classifier_dropout": 0.25,
    "layerwise_lr_decay": 0.8,
    "frozen_layers": 1,
    "loss": "focal",
    "focal_gamma": 1.5,
    "label_smoothing_factor": 0.1,
    "bf16": False,
}
"""All but those of recipes, which test_recipes tries."""


OF_OTHER_TASKS = {"mlm_probability", "adapt"}
"""Shown to be live where they are: tests/tasks/test_masked_lm.py, tests/study/test_stages.py."""


def test_every_hyperparameter_can_be_read_back() -> None:
    assert set(liveness.OBSERVERS) == set(Hyperparameters.model_fields)
    others = {*recipes.OWNERS, "early_stopping_patience", *OF_OTHER_TASKS}
    assert set(SAMPLED) == set(Hyperparameters.model_fields) - others


def test_all_sampled_values_are_live_in_the_training(objective: TrialObjective) -> None:
    assert run(objective, **SAMPLED)[-1].done


SABOTAGE = {
    "gradient_accumulation_steps": lambda training: setattr(
        training, "steps", lambda: iter([training.first_epoch()[:1]])
    ),
    "max_grad_norm": lambda training: setattr(training, "clip", type(training.clip)(9.0)),
    "learning_rate": lambda training: [group.update(initial_lr=1.0) for group in training.optimizer.param_groups],
    "weight_decay": lambda training: [group.update(weight_decay=0.5) for group in training.optimizer.param_groups],
    "warmup_ratio": lambda training: setattr(training, "factor", lambda step: 1.0),
    "lr_scheduler_type": lambda training: setattr(training, "factor", lambda step: 0.4),
    "num_train_epochs": lambda training: setattr(training, "total_steps", 7),
    "per_device_train_batch_size": lambda training: setattr(training, "first_epoch", lambda: [np.arange(3)]),
    "frozen_layers": lambda training: [part.requires_grad_() for part in training.model.parameters()],
    "layerwise_lr_decay": lambda training: [group.update(initial_lr=2e-3) for group in training.optimizer.param_groups],
}


@pytest.mark.parametrize("name", sorted(SABOTAGE))
def test_a_training_that_lost_a_value_is_noticed(objective: TrialObjective, name: str) -> None:
    training = objective._prepare(trial(**SAMPLED))
    SABOTAGE[name](training)
    with pytest.raises(DeadParameterError, match=f"{name}="):
        liveness.assert_live(training, {name: SAMPLED[name]})


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_every_schedule_is_told_apart(objective: TrialObjective, schedule: str) -> None:
    training = objective._prepare(trial(lr_scheduler_type=schedule, warmup_ratio=0.1))
    assert liveness.OBSERVERS["lr_scheduler_type"](training) == schedule


@pytest.mark.parametrize("name", sorted(SAMPLED))
def test_a_value_that_is_not_the_sampled_one_fails_the_trial_loudly(objective: TrialObjective, name: str) -> None:
    training = objective._prepare(trial(**SAMPLED))
    other = {"lr_scheduler_type": "linear", "loss": "cross_entropy", "bf16": True, "model": "other"}.get(name)
    wrong = other if other is not None else SAMPLED[name] * 1.5 + 1  # type: ignore[operator]
    with pytest.raises(DeadParameterError, match=f"{name}={wrong} was sampled, but the training holds"):
        liveness.assert_live(training, {name: wrong})


def test_a_dropout_that_the_model_lost_is_noticed(objective: TrialObjective) -> None:
    import torch

    training = objective._prepare(trial(hidden_dropout_prob=0.3))
    for module in training.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.1
    with pytest.raises(DeadParameterError, match=r"hidden_dropout_prob=0\.3"):
        liveness.assert_live(training, {"hidden_dropout_prob": 0.3})


def test_a_diverging_trial_stops_at_once(objective: TrialObjective) -> None:
    with pytest.raises(DivergedError, match="at step"):
        run(
            objective,
            learning_rate=1.0,
            max_grad_norm=0.0,
            num_train_epochs=400,
            weight_decay=9.0,
            bf16=False,
            lr_scheduler_type="constant",
            adam_beta2=0.0,
            warmup_ratio=0.0,
        )


def test_frozen_layers_do_not_move(objective: TrialObjective) -> None:
    import torch

    training = objective._prepare(trial(frozen_layers=1))
    before = {name: part.detach().clone() for name, part in training.model.named_parameters()}
    reports = run(objective, frozen_layers=1, num_train_epochs=1)
    assert reports[-1].checkpoint is not None
    after = inference.load(reports[-1].checkpoint, objective.task.head, torch.device("cpu")).state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert not any("embeddings" in name or "layer.0." in name for name in moved)
    assert any("layer.1." in name for name in moved)


def test_more_frozen_layers_than_there_are_is_refused(objective: TrialObjective) -> None:
    with pytest.raises(DeadParameterError, match="the model has 2 layers"):
        run(objective, frozen_layers=3)


def test_accumulated_small_batches_equal_one_large_batch(objective: TrialObjective, encoded: Path) -> None:
    """Without dropout, gradients over 2 x 8 rows are those over 16 rows (the order of rows differs by batch size, so
    one step over all rows is compared)."""
    common = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "bf16": False, "num_train_epochs": 4}
    whole = run(objective, per_device_train_batch_size=192, gradient_accumulation_steps=1, **common)
    parts = run(objective, per_device_train_batch_size=48, gradient_accumulation_steps=4, **common)
    assert [report.step for report in whole] == [report.step for report in parts]
    for one, other in zip(whole, parts, strict=True):
        assert one.metrics["loss"] == pytest.approx(other.metrics["loss"], rel=1e-3)


def test_a_regression_learns(tiny_bert: Path, tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    from hpo.encoded import Ragged

    for split, rows in (("train", 96), ("validation", 48)):
        good = draw.integers(0, 5, rows)
        texts = [[2, *([5] * count), *([6] * (4 - count)), 3] for count in good]
        Encoded({"input_ids": Ragged.of(texts)}, {"labels": good.astype(np.float32)}).save(tmp_path / f"{split}.arrow")
    objective = TrialObjective(
        model=tiny_bert,
        task=SequenceClassification(text="sentence", label="label", problem_type="regression"),
        labels=(),
        data=tmp_path,
        checkpoints=tmp_path / "checkpoints",
        metric="mse",
        mode="min",
        pad_id=0,
    )
    reports = list(objective(trial(num_train_epochs=8)))
    assert reports[-1].metrics["pearson"] > 0.8
    assert reports[-1].checkpoint is not None
    assert checkpoint.verify(reports[-1].checkpoint).metrics["mse"] == min(report.metrics["mse"] for report in reports)
    assert config_of(reports[-1].checkpoint)["problem_type"] == "regression"


def test_a_model_without_the_dropout_is_refused(objective: TrialObjective, tiny_bert: Path, tmp_path: Path) -> None:
    from transformers import MPNetConfig, MPNetModel

    config = MPNetConfig(
        vocab_size=14, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2
    )
    MPNetModel(config).save_pretrained(tmp_path)
    other = dataclasses.replace(objective, model=tmp_path)
    with pytest.raises(DeadParameterError, match=r"classifier_dropout=0\.2: a mpnet model has no such setting"):
        list(other(trial(classifier_dropout=0.2)))


def test_evaluations_come_after_rungs_and_epochs_and_the_end() -> None:
    class Steps:
        total_steps, steps_per_epoch = 25, 10

    assert evaluation_steps(Steps(), (1 / 9, 1 / 3, 1.0)) == {3, 9, 10, 20, 25}  # type: ignore[arg-type]


def test_a_manifest_is_readable_by_people(objective: TrialObjective) -> None:
    folder = run(objective, num_train_epochs=1)[-1].checkpoint
    assert folder is not None
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["params"]["learning_rate"] == 3e-3
    assert set(manifest["files"]) >= {"config.json", "model.safetensors", "tokenizer.json"}
