"""Every hyperparameter that a trial can be given: one field each, with its default and its bounds.

Names are those of `transformers` (TrainingArguments, BertConfig). Must not import torch: a space file is checked
against these fields before anything heavy is loaded.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Probability = Annotated[float, Field(ge=0.0, lt=1.0)]


class Hyperparameters(BaseModel):
    """One assignment, complete. The defaults are those of the BERT paper (Devlin et al. 2019, A.3, middle values)
    and of `transformers` where the paper is silent; together they are the `default` configuration.

    None as a dropout keeps what the pretrained model's own configuration says; None as bf16 means bfloat16 autocast
    where the hardware is fast at it and float32 elsewhere. model: where to start from, as the section `model` names it;
    None is that one. adapt: whether it is adapted first, where the study has that stage; None is yes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    adapt: bool | None = None
    model: Annotated[str, Field(min_length=1)] | None = None
    learning_rate: Annotated[float, Field(gt=0.0, le=1.0)] = 3e-5
    per_device_train_batch_size: Annotated[int, Field(ge=1, le=65_536)] = 32
    gradient_accumulation_steps: Annotated[int, Field(ge=1, le=4_096)] = 1
    num_train_epochs: Annotated[float, Field(gt=0.0, le=10_000.0)] = 3
    warmup_ratio: Annotated[float, Field(ge=0.0, le=1.0)] = 0.1
    lr_scheduler_type: Literal["linear", "cosine", "constant"] = "linear"
    weight_decay: Annotated[float, Field(ge=0.0, lt=10.0)] = 0.01
    adam_beta1: Probability = 0.9
    adam_beta2: Probability = 0.999
    adam_epsilon: Annotated[float, Field(gt=0.0, le=1.0)] = 1e-8
    max_grad_norm: Annotated[float, Field(ge=0.0)] = 1.0
    hidden_dropout_prob: Probability | None = None
    attention_probs_dropout_prob: Probability | None = None
    classifier_dropout: Probability | None = None
    layerwise_lr_decay: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    frozen_layers: Annotated[int, Field(ge=0)] = 0
    loss: Literal["cross_entropy", "focal"] = "cross_entropy"
    focal_gamma: Annotated[float, Field(ge=0.0)] = 2.0
    label_smoothing_factor: Probability = 0.0
    mlm_probability: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.15
    bf16: bool | None = None

    class_weights: Literal["none", "balanced", "sqrt", "effective"] = "none"
    resampling: Literal["none", "balanced", "sqrt"] = "none"
    reinit_layers: Annotated[int, Field(ge=0)] = 0
    freeze_embeddings: bool = False
    gradual_unfreezing: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    peft: Literal["none", "lora", "bitfit"] = "none"
    lora_r: Annotated[int, Field(ge=1, le=1_024)] = 8
    lora_alpha: Annotated[float, Field(gt=0.0)] = 16.0
    lora_dropout: Probability = 0.0
    lora_target_modules: Literal["query_value", "attention", "all-linear"] = "query_value"
    adversarial: Literal["none", "fgm", "freelb"] = "none"
    adversarial_epsilon: Annotated[float, Field(gt=0.0)] = 1.0
    freelb_steps: Annotated[int, Field(ge=1, le=100)] = 2
    freelb_step_size: Annotated[float, Field(gt=0.0)] = 0.1
    rdrop_alpha: Annotated[float, Field(ge=0.0)] = 0.0
    averaging: Literal["none", "ema", "swa"] = "none"
    ema_decay: Probability = 0.99
    swa_start: Probability = 0.5
    early_stopping_patience: Annotated[int, Field(ge=0)] = 0
    token_deletion: Probability = 0.0
    token_swap: Probability = 0.0
    mixup_alpha: Annotated[float, Field(ge=0.0)] = 0.0
    supcon_weight: Probability = 0.0
    supcon_temperature: Annotated[float, Field(gt=0.0)] = 0.3
    distillation_weight: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    distillation_temperature: Annotated[float, Field(gt=0.0)] = 2.0


RECIPES: dict[str, str | int | float | bool] = {
    "class_weights": "none",
    "resampling": "none",
    "reinit_layers": 0,
    "freeze_embeddings": False,
    "gradual_unfreezing": 0.0,
    "peft": "none",
    "adversarial": "none",
    "rdrop_alpha": 0.0,
    "averaging": "none",
    "early_stopping_patience": 0,
    "token_deletion": 0.0,
    "token_swap": 0.0,
    "mixup_alpha": 0.0,
    "supcon_weight": 0.0,
    "distillation_weight": 0.0,
}
"""The hyperparameters that switch a recipe on, each with the value that leaves it off (see `recipes`)."""

COUPLES_ROWS = ("mixup_alpha", "supcon_weight")
"""Those of recipes that let the rows of a batch meet: with fewer rows at a time they would learn something else."""

NEEDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "focal_gamma": ("loss", ("focal",)),
    "lora_r": ("peft", ("lora",)),
    "lora_alpha": ("peft", ("lora",)),
    "lora_dropout": ("peft", ("lora",)),
    "lora_target_modules": ("peft", ("lora",)),
    "adversarial_epsilon": ("adversarial", ("fgm", "freelb")),
    "freelb_steps": ("adversarial", ("freelb",)),
    "freelb_step_size": ("adversarial", ("freelb",)),
    "ema_decay": ("averaging", ("ema",)),
    "swa_start": ("averaging", ("swa",)),
    "supcon_temperature": ("supcon_weight", ()),
    "distillation_temperature": ("distillation_weight", ()),
}
"""Hyperparameters that act only where another one has one of these values; (): any that switches its recipe on."""

EXCLUDES = (
    ("peft", "reinit_layers"),
    ("peft", "freeze_embeddings"),
    ("mixup_alpha", "supcon_weight"),
    ("mixup_alpha", "distillation_weight"),
)
"""Recipes of which a trial has at most one."""

ADAPT = "adapt_"
"""Before the names of hyperparameters of the stage `adapt`."""


def coupling(hyper: Hyperparameters) -> str | None:
    """The recipe that needs whole batches, by its hyperparameter."""
    return next((name for name in COUPLES_ROWS if getattr(hyper, name) != RECIPES[name]), None)


def without_stage(params: Mapping[str, Any]) -> dict[str, Any]:
    """The hyperparameters of the study's own task."""
    return {name: value for name, value in params.items() if not name.startswith(ADAPT)}


def of_stage(params: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the stage, under their own names."""
    return {name.removeprefix(ADAPT): value for name, value in params.items() if name.startswith(ADAPT)}


OF_STAGE = frozenset(Hyperparameters.model_fields) - {"model", "adapt"}
"""Those that the stage has, too."""

DEFAULT_DROPOUT = 0.1
"""What BERT was published with; stands for a dropout of None where a point of the space has to name a number."""

BERT_PAPER_GRID = {
    "per_device_train_batch_size": (16, 32),
    "learning_rate": (5e-5, 3e-5, 2e-5),
    "num_train_epochs": (2, 3, 4),
}
"""The grid of Devlin et al. 2019, appendix A.3: 18 points."""


_OF_LABELS = frozenset({"loss", "label_smoothing_factor"})
"""Hyperparameters that are always in effect, but not where words are masked."""


def in_effect(params: Mapping[str, Any], *, staged: bool = False) -> dict[str, Any]:
    """All that a trial with `params` trains with: those, and the defaults of what is not among them; without what is
    switched off, and what the model itself decides. staged: the study adapts models first."""
    own = _with_defaults(without_stage(params))
    if not staged or params.get("adapt") is False:
        return own
    stage = _with_defaults({"mlm_probability": Hyperparameters().mlm_probability, **of_stage(params)})
    return {**own, "adapt": True, **{f"{ADAPT}{name}": stage[name] for name in stage if name not in _OF_LABELS}}


def _with_defaults(params: Mapping[str, Any]) -> dict[str, Any]:
    whole = {name: value for name, value in Hyperparameters().model_dump().items() if value is not None} | {**params}
    idle = {"mlm_probability"} - {*params}  # of one task only
    idle |= {name for name, neutral in RECIPES.items() if name not in params and whole[name] == neutral}
    for name, (switch, values) in NEEDS.items():
        is_on = whole[switch] in values if values else whole[switch] != RECIPES[switch]
        if name not in params and not is_on:
            idle.add(name)
    return {name: value for name, value in whole.items() if name not in idle}
