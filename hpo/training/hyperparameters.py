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


ADAPT = "adapt_"
"""Before the names of hyperparameters of the stage `adapt`."""


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
