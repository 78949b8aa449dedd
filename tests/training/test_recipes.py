"""What every recipe has to fit: it acts, it costs nothing while it is off, it goes on where it was cut off, and what is
kept of it is a plain BERT."""

import dataclasses
import typing
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_bookmarks import cut_off, mortal
from test_trial import plain
from tiny_trials import losses, trial
from toys import TOYS, Toy

from hpo.columns import Layout
from hpo.data.source import RawSplit, clean
from hpo.encoded import Encoded
from hpo.errors import DeadParameterError
from hpo.records import Report
from hpo.training import graphs, inference, liveness, loop, recipes
from hpo.training.hyperparameters import NEEDS, RECIPES, Hyperparameters, in_effect
from hpo.training.pretrained import load_tokenizer
from hpo.trial import TrialObjective

MEMBERS = typing.get_args(recipes.AnyRecipe)

TRIED: dict[type, dict[str, object]] = {
    recipes.bitfit.BitFit: {"peft": "bitfit"},
    recipes.class_weights.ClassWeights: {"class_weights": "balanced"},
    recipes.distillation.Distillation: {"distillation_weight": 0.5, "distillation_temperature": 3.0},
    recipes.ema.Ema: {"averaging": "ema", "ema_decay": 0.9},
    recipes.fgm.Fgm: {"adversarial": "fgm", "adversarial_epsilon": 0.5},
    recipes.freelb.FreeLb: {"adversarial": "freelb", "freelb_steps": 3, "freelb_step_size": 0.2},
    recipes.frozen_embeddings.FrozenEmbeddings: {"freeze_embeddings": True},
    recipes.gradual_unfreezing.GradualUnfreezing: {"gradual_unfreezing": 0.5},
    recipes.lora.Lora: {
        "peft": "lora",
        "lora_r": 4,
        "lora_alpha": 12.0,
        "lora_dropout": 0.1,
        "lora_target_modules": "attention",
    },
    recipes.mixup.Mixup: {"mixup_alpha": 0.4},
    recipes.r_drop.RDrop: {"rdrop_alpha": 2.0},
    recipes.reinit.Reinit: {"reinit_layers": 1},
    recipes.resampling.Resampling: {"resampling": "balanced"},
    recipes.supcon.SupCon: {"supcon_weight": 0.3, "supcon_temperature": 0.2},
    recipes.swa.Swa: {"averaging": "swa", "swa_start": 0.1},
    recipes.token_deletion.TokenDeletion: {"token_deletion": 0.2},
    recipes.token_swap.TokenSwap: {"token_swap": 0.5},
}
"""Values that switch each of them on."""

LIVELY = {"hidden_dropout_prob": 0.2, "weight_decay": 0.1, "bf16": False}


@pytest.fixture
def objective(objective: TrialObjective, tmp_path: Path) -> TrialObjective:
    """With a teacher, too."""
    return taught(objective, tmp_path / "teacher.npy", 2)


def taught(objective: TrialObjective, file: Path, values: int) -> TrialObjective:
    rows = Encoded.load(objective.data / "train.arrow").rows
    np.save(file, np.random.default_rng(0).normal(size=(rows, values)).astype(np.float32))
    return dataclasses.replace(objective, teacher=file)


@pytest.fixture(params=MEMBERS, ids=lambda member: member.__name__)
def member(request: pytest.FixtureRequest) -> type[recipes.Recipe]:
    return request.param


def run(objective: TrialObjective, **params: object) -> list[Report]:
    """One epoch, looked at when it is over."""
    config = trial(**{"num_train_epochs": 1, **LIVELY, **params})
    return list(objective(dataclasses.replace(config, rungs=(1.0,))))


def weights_of(reports: list[Report]) -> dict[str, torch.Tensor]:
    assert reports[-1].checkpoint is not None
    return load_file(reports[-1].checkpoint / "model.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(part, other[name]) for name, part in one.items())


def test_every_member_is_tried_and_owns_its_hyperparameters() -> None:
    assert MEMBERS
    assert set(TRIED) == set(MEMBERS)
    for own in MEMBERS:
        assert set(TRIED[own]) <= set(own.fields) <= set(Hyperparameters.model_fields)
        assert own.fields[0] in RECIPES
    assert {name for name in RECIPES if name not in recipes.OWNERS} == {"early_stopping_patience"}
    assert {name for name in recipes.OWNERS if name not in RECIPES} == {*NEEDS} - {"focal_gamma"}


def test_it_acts_and_what_is_kept_of_it_is_a_plain_model_with_the_same_score(
    objective: TrialObjective, member: type[recipes.Recipe]
) -> None:
    usual = weights_of(run(objective))
    reports = run(objective, **TRIED[member])
    kept = weights_of(reports)
    assert kept.keys() == usual.keys()
    assert not same(kept, usual)
    assert reports[-1].checkpoint is not None
    model = inference.load(reports[-1].checkpoint, objective.task.head, torch.device("cpu"))
    rows = Encoded.load(objective.data / "validation.arrow")
    logits = inference.logits(
        model, rows, lambda some, order: objective.task.collate(some, order, 0), torch.device("cpu"), bf16=False
    )
    best = max(report.metrics["accuracy"] for report in reports)
    assert objective.task.compute_metrics(logits, rows, objective.labels)["accuracy"] == best


def test_recipes_that_are_off_change_no_bit(objective: TrialObjective) -> None:
    assert recipes.active(Hyperparameters()) == ()
    usual = run(objective)
    before = weights_of(usual)
    reports = run(objective, **RECIPES)
    assert plain(reports) == plain(usual)
    assert same(weights_of(reports), before)


def test_cut_off_it_goes_on_to_the_same_bits(
    objective: TrialObjective, tmp_path: Path, member: type[recipes.Recipe]
) -> None:
    config = trial(**{"num_train_epochs": 1, **LIVELY, **TRIED[member]})
    whole = list(mortal(objective, tmp_path / "whole", seconds=None)(config))
    cut_off(mortal(objective, tmp_path / "cut", after=14), config)
    torch.manual_seed(9)  # another process, where other trials ran before
    reports = list(mortal(objective, tmp_path / "cut")(config))
    assert any("goes on after step" in note for report in reports for note in report.notes)
    assert plain(reports) == plain(whole)
    assert same(weights_of(reports), weights_of(whole))


def test_its_values_are_read_back_and_missed_where_it_is_not(
    objective: TrialObjective, member: type[recipes.Recipe]
) -> None:
    training = objective._prepare(trial(**LIVELY, **TRIED[member]))
    liveness.assert_live(training, TRIED[member])
    usual = objective._prepare(trial(**LIVELY))
    for name, value in TRIED[member].items():
        with pytest.raises(DeadParameterError, match=f"{name}={value} was sampled"):
            liveness.assert_live(usual, {name: value})


def test_a_recipe_that_does_nothing_fails_the_trial(objective: TrialObjective) -> None:
    no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    with pytest.raises(DeadParameterError, match="give the model a dropout above 0"):
        run(objective, rdrop_alpha=1.0, **no_dropout)
    with pytest.raises(DeadParameterError, match="no batch had two rows to mix; raise per_device_train_batch_size"):
        run(objective, mixup_alpha=0.4, per_device_train_batch_size=1, num_train_epochs=0.1)


def test_only_who_changes_the_step_leaves_the_captured_one(
    objective: TrialObjective, member: type[recipes.Recipe]
) -> None:
    training = objective._prepare(trial(**LIVELY, **TRIED[member]))
    training.pace = "graphs"
    assert isinstance(loop.stepper(training), graphs.Eager if member.in_step else graphs.Captured)
    if not member.in_step:
        params = {"bf16": False, **TRIED[member]}
        captured, eager = (losses(objective, pace, **params) for pace in ("graphs", "eager"))
        np.testing.assert_allclose(captured, eager, rtol=2e-4)


@pytest.mark.parametrize("name", list(TOYS))
def test_it_trains_every_task_that_does_not_call_it_inert(
    name: str, tiny_bert: Path, tmp_path: Path, member: type[recipes.Recipe]
) -> None:
    toy: Toy = TOYS[name]
    if {*TRIED[member]} & toy.task.inert:
        assert set(member.fields) <= toy.task.inert | {"peft"}
        return
    objective = toy_objective(toy, tiny_bert, tmp_path)
    reports = list(objective(trial(**{"num_train_epochs": 1, **LIVELY, **TRIED[member]})))
    assert reports[-1].done


def toy_objective(toy: Toy, folder: Path, data: Path) -> TrialObjective:
    tokenizer = load_tokenizer(folder)
    assert isinstance(toy.task.layout, Layout)
    rows = {
        split: clean(RawSplit(toy.table(count, seed), "toy"), toy.task.layout)
        for split, count, seed in (("train", 48, 0), ("validation", 24, 1))
    }
    labels = toy.task.label_names(rows["train"])
    for split, table in rows.items():
        toy.task.encode(table, labels, tokenizer).save(data / f"{split}.arrow")
    objective = TrialObjective(
        model=folder,
        task=toy.task,
        labels=labels,
        data=data,
        checkpoints=data / "checkpoints",
        metric=toy.task.default_metric,
        mode="max",
        pad_id=tokenizer.pad_id,
    )
    return taught(objective, data / "teacher.npy", len(labels) or 1)


def test_several_act_together(objective: TrialObjective) -> None:
    chosen = {
        **TRIED[recipes.ema.Ema],
        **TRIED[recipes.lora.Lora],
        **TRIED[recipes.fgm.Fgm],
        **TRIED[recipes.r_drop.RDrop],
        **TRIED[recipes.token_deletion.TokenDeletion],
        "class_weights": "sqrt",
        "gradual_unfreezing": 0.3,
        "mixup_alpha": 0.2,
    }
    usual = weights_of(run(objective))
    assert weights_of(run(objective, **chosen)).keys() == usual.keys()


def test_gradients_over_micro_batches_are_those_of_the_batch(objective: TrialObjective) -> None:
    params = {"bf16": False, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "class_weights": "sqrt"}
    params |= {"adversarial": "fgm", "num_train_epochs": 1}
    whole = list(objective(trial(**params)))
    parts = list(objective(dataclasses.replace(trial(**params), micro_batch=4)))
    for one, other in zip(whole, parts, strict=True):
        assert one.metrics["loss"] == pytest.approx(other.metrics["loss"], rel=1e-3)


def test_what_a_trial_trains_with_is_told_without_what_is_off() -> None:
    assert not {*in_effect({})} & {*RECIPES, *NEEDS}
    told = in_effect({"peft": "lora", "rdrop_alpha": 0.0})
    assert (told["peft"], told["lora_r"], told["rdrop_alpha"]) == ("lora", 8, 0.0)
    assert "ema_decay" not in told
    assert in_effect({"supcon_weight": 0.1})["supcon_temperature"] == 0.3


class TestEarlyStopping:
    def test_a_trial_ends_complete_at_its_best_when_nothing_better_comes(self, objective: TrialObjective) -> None:
        reports = run(objective, num_train_epochs=20, per_device_train_batch_size=48, early_stopping_patience=2)
        last = reports[-1]
        assert last.done
        assert last.progress < 1.0
        assert [report.done for report in reports[:-1]] == [False] * (len(reports) - 1)
        values = [report.metrics["accuracy"] for report in reports]
        assert values.index(max(values)) == len(values) - 3
        assert any("no better accuracy" in note for note in last.notes)
        assert last.checkpoint is not None
        assert last.metrics["trainable_parameters"] > 0

    def test_patience_is_remembered_by_a_bookmark(self, objective: TrialObjective, tmp_path: Path) -> None:
        config = trial(num_train_epochs=20, per_device_train_batch_size=48, early_stopping_patience=2, **LIVELY)
        whole = list(mortal(objective, tmp_path / "whole", seconds=None)(config))
        cut_off(mortal(objective, tmp_path, after=whole[-1].step - 3), config)
        reports = list(mortal(objective, tmp_path)(config))
        assert plain(reports) == plain(whole)
        assert reports[-1].done
