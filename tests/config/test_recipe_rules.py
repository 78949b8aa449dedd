"""What a space may not ask of recipes, said at the line that asks for it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from hpo.config import load
from hpo.errors import ConfigError

WriteSpace = Callable[[str | bytes], Path]


def refusal(path: Path, *options: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path, [f"space.{option}" if not option.startswith(("search", "task")) else option for option in options])
    return str(caught.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["lora_r=8"], "space.lora_r: acts only with peft: lora, which is not always so here; write peft: lora"),
        (["peft=[none, lora]", "lora_r=[4, 8]"], "space.lora_r: acts only with peft: lora"),
        (["peft=[none, lora]", "lora_r=[4, 8]"], "add when: {peft: lora}"),
        (["averaging=ema", "swa_start=0.5"], "space.swa_start: acts only with averaging: swa"),
        (["adversarial=[none, fgm]", "adversarial_epsilon=0.5"], "acts only with adversarial: fgm or freelb"),
        (["adversarial=fgm", "freelb_steps=[2, 3]"], "space.freelb_steps: acts only with adversarial: freelb"),
        (["supcon_temperature=0.1"], "acts only with a supcon_weight above 0"),
        (["supcon_weight=[0.0, 0.1]", "supcon_temperature=0.1"], "acts only with a supcon_weight above 0"),
        (["mixup_alpha=0.2", "supcon_weight=0.1"], "space.supcon_weight: can't act together with mixup_alpha"),
        (["peft=[none, lora]", "reinit_layers=[0, 1]"], "space.reinit_layers: can't act together with peft"),
        (["peft=bitfit", "freeze_embeddings=true"], "space.freeze_embeddings: can't act together with peft"),
        (["reinit_layers={low: 0, high: 7}"], "space.reinit_layers: 7 layers to begin anew, but the model has 6"),
        (["reinit_layers=4", "frozen_layers=3"], "4 layers from the top and 3 frozen ones meet in a model of 6"),
        (
            ["averaging=ema", "search.scheduler=pbt", "search.sampler=random"],
            "a member of a population can't hand averaging on",
        ),
        (["task.problem_type=regression", "class_weights=balanced"], "has no meaning for a regression; remove it"),
        (["distillation_weight=0.5"], "space.distillation_weight: nobody teaches; add model.teacher"),
        (["gradual_unfreezing=1.5"], "space.gradual_unfreezing"),
        (["class_weights=[none, ballanced]"], "space.class_weights"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, list) else "",
)
def test_what_cant_act_is_refused(options: list[str], said: str, good: str, write_space: WriteSpace) -> None:
    assert said in refusal(write_space(good), *options)


@pytest.mark.parametrize(
    "options",
    [
        ["peft=[none, lora]", "lora_r={values: [4, 8], when: {peft: lora}}"],
        ["peft=lora", "lora_r=[4, 8]", "reinit_layers=0"],
        ["adversarial=[fgm, freelb]", "adversarial_epsilon={low: 0.1, high: 2.0}"],
        ["supcon_weight={low: 0.1, high: 0.5}", "supcon_temperature=0.1"],
        ["supcon_weight=[0.0, 0.1]", "supcon_temperature={value: 0.1, when: {supcon_weight: 0.1}}"],
        ["mixup_alpha=[0.0, 0.2]", "supcon_weight={value: 0.1, when: {mixup_alpha: 0.0}}"],
        ["peft=[none, lora]", "reinit_layers={values: [0, 1], when: {peft: none}}"],
        ["reinit_layers={low: 0, high: 3}", "frozen_layers={low: 0, high: 3}"],
        ["reinit_layers={values: [1, 2], when: {frozen_layers: 0}}", "frozen_layers=[0, 6]"],
        ["averaging=none", "search.scheduler=pbt", "search.sampler=random"],
        ["early_stopping_patience=[0, 3]", "freeze_embeddings=[true, false]", "gradual_unfreezing=[0.0, 0.5]"],
    ],
    ids=",".join,
)
def test_what_can_act_is_taken(options: list[str], good: str, write_space: WriteSpace) -> None:
    written = [f"space.{option}" if not option.startswith("search") else option for option in options]
    assert load(write_space(good), written).study == "good"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["text=[sentence, other]", "truncation=tail"], "is of one text, and these are pairs; write head"),
        (["doc_stride=8"], "doc_stride is of windows, and truncation is head; remove it"),
        (["truncation=windows", "doc_stride=62"], "leaves no new tokens in windows of 64; lower it"),
        (["truncation=middle"], "task.truncation"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, list) else "",
)
def test_a_truncation_that_cant_be_is_refused(
    options: list[str], said: str, good: str, write_space: WriteSpace
) -> None:
    assert said in refusal(write_space(good), *(f"task.{option}" for option in options))


def test_what_is_left_at_its_default_is_not_part_of_a_task(good: str, write_space: WriteSpace) -> None:
    """Else a study that began before there was such a field could not go on."""
    dumped = load(write_space(good)).task.model_dump()
    assert not {"truncation", "doc_stride"} & dumped.keys()
    assert load(write_space(good), ["task.truncation=tail"]).task.model_dump()["truncation"] == "tail"


def test_a_teacher_needs_somebody_who_learns(good: str, write_space: WriteSpace) -> None:
    teacher = "model.teacher=models:/big@champion"
    with pytest.raises(ConfigError, match="no trial learns from it; add distillation_weight to the space"):
        load(write_space(good), [teacher])
    found = load(write_space(good), [teacher, "space.distillation_weight=[0.0, 0.5]"])
    assert found.model.teacher == "models:/big@champion"


def test_layers_that_a_constraint_keeps_apart_are_not_refused(good: str, write_space: WriteSpace) -> None:
    options = ["space.reinit_layers={low: 0, high: 3}", "space.frozen_layers={low: 0, high: 5}"]
    with pytest.raises(ConfigError, match="would stay untrained; lower one of them"):
        load(write_space(good), options)
    assert load(write_space(good), [*options, "constraints=[frozen_layers + reinit_layers <= 6]"]).constraints
