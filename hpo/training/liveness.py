"""Proof that every sampled value is live: it is read back from the objects that train, not from the configuration.

A trial whose value did not arrive (a dropout that the model ignores, a rate that no group has) fails loudly instead
of lending its score to a value that never acted.
"""

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from hpo.errors import DeadParameterError
from hpo.space import Params, Scalar
from hpo.training.hyperparameters import RECIPES, without_stage
from hpo.training.model import depths, dropout_of
from hpo.training.recipes import OWNERS

if TYPE_CHECKING:
    from hpo.training.loop import Training


def assert_live(training: "Training", sampled: Params) -> None:
    """Raise DeadParameterError for the first value of `sampled` that training does not hold. Those of a stage are held
    by its own training."""
    for name, value in without_stage(sampled).items():
        observed = OBSERVERS[name](training)
        if not _agree(value, observed):
            raise DeadParameterError(
                f"{name}={value} was sampled, but the training holds {observed}; take {name} out of the space "
                "or report the model it happened with"
            )


def assert_acted(training: "Training") -> None:
    """Asked after a whole training. Raise DeadParameterError for the first recipe that has done nothing in it."""
    for recipe in training.recipes:
        if (said := recipe.idle()) is not None:
            raise DeadParameterError(said)


def _agree(value: Scalar, observed: Scalar | None) -> bool:
    if observed is None or isinstance(value, str | bool) or isinstance(observed, str | bool):
        return value == observed
    return math.isclose(value, observed, rel_tol=1e-6, abs_tol=1e-12)


def _dropout(field: str) -> Callable[["Training"], Scalar | None]:
    """The one probability that all modules which the field governs hold; None if there are none or they differ."""

    def observe(training: "Training") -> Scalar | None:
        modules = dict(training.model.named_modules())
        held = {dropout_of(modules[name]) for name in training.dropouts(field)}
        return held.pop() if len(held) == 1 else None

    return observe


def _learning_rate(training: "Training") -> float:
    return max(float(group["initial_lr"]) for group in training.optimizer.param_groups)


def _layerwise_decay(training: "Training") -> float | None:
    """The ratio of the rates of neighbouring depths, from the groups that hold the parameters. Where all but the head
    is frozen there is none, and 1, which changes no rate, is as good as held."""
    depth = depths(training.model)
    rates: dict[int, float] = {}
    group_of = {id(part): group for group in training.optimizer.param_groups for part in group["params"]}
    for name, parameter in training.model.named_parameters():
        if id(parameter) in group_of:
            rates[depth[name]] = float(group_of[id(parameter)]["initial_lr"])
    if len(rates) < 2:
        return 1.0 if training.hyper.layerwise_lr_decay == 1.0 else None
    top, next_to_it = sorted(rates)[-1], sorted(rates)[-2]
    return float((rates[next_to_it] / rates[top]) ** (1 / (top - next_to_it)))


def _frozen_layers(training: "Training") -> int:
    depth = depths(training.model)
    learning = {depth[name] for name, part in training.model.named_parameters() if part.requires_grad}
    return max(0, min(learning) - 1)


def _warmup_ratio(training: "Training") -> float | None:
    """The sampled ratio if the factor first reaches 1 at the step that it asks for."""
    asked = math.ceil(training.hyper.warmup_ratio * training.total_steps)
    steps = range(training.total_steps)
    reached = next((step for step in steps if training.factor(step) >= 1.0), training.total_steps)
    return training.hyper.warmup_ratio if reached == asked else reached / training.total_steps


def _lr_scheduler_type(training: "Training") -> str:
    """Told apart by the factor after three quarters of the decay."""
    warmup = math.ceil(training.hyper.warmup_ratio * training.total_steps)
    place = warmup + math.ceil(0.75 * (training.total_steps - warmup))
    left = (training.total_steps - place) / max(1, training.total_steps - warmup)
    shapes = {"linear": left, "cosine": 0.5 * (1 + math.cos(math.pi * (1 - left))), "constant": 1.0}
    asked = training.hyper.lr_scheduler_type
    if math.isclose(training.factor(place), shapes[asked], abs_tol=1e-9):
        return asked
    return next((name for name, factor in shapes.items() if math.isclose(training.factor(place), factor)), "unknown")


def _batch_size(training: "Training") -> int:
    largest = max(len(batch) for batch in training.first_epoch())
    everything = min(training.rows, training.hyper.per_device_train_batch_size)
    return training.hyper.per_device_train_batch_size if largest == everything else largest


def _accumulation(training: "Training") -> int:
    """Micro-batches in the first step; an epoch may not have as many as were asked for."""
    asked = training.hyper.gradient_accumulation_steps
    found = len(next(training.steps()))
    return asked if found == min(asked, len(training.first_epoch())) else found


def _epochs(training: "Training") -> float:
    per_epoch = training.steps_per_epoch
    asked = training.hyper.num_train_epochs
    return asked if training.total_steps == math.ceil(asked * per_epoch - 1e-9) else training.total_steps / per_epoch


def _plain(training: "Training") -> Any:
    """The loss, without what recipes put around it."""
    loss: Any = training.loss
    while hasattr(loss, "inner"):
        loss = loss.inner
    return loss


def _of_recipe(field: str) -> Callable[["Training"], Scalar | None]:
    """As the recipe that owns the field reads it back; where none is active, the value that leaves it off."""

    def observe(training: "Training") -> Scalar | None:
        for recipe in training.recipes:
            if field in recipe.fields:
                return recipe.observed(training).get(field)
        return RECIPES.get(field)

    return observe


OBSERVERS: Mapping[str, Callable[["Training"], Scalar | None]] = {
    "adapt": lambda training: training.adapted,
    "model": lambda training: training.started_from,
    "learning_rate": _learning_rate,
    "per_device_train_batch_size": _batch_size,
    "gradient_accumulation_steps": _accumulation,
    "num_train_epochs": _epochs,
    "warmup_ratio": _warmup_ratio,
    "lr_scheduler_type": _lr_scheduler_type,
    "weight_decay": lambda training: max(group["weight_decay"] for group in training.optimizer.param_groups),
    "adam_beta1": lambda training: training.optimizer.param_groups[0]["betas"][0],
    "adam_beta2": lambda training: training.optimizer.param_groups[0]["betas"][1],
    "adam_epsilon": lambda training: training.optimizer.param_groups[0]["eps"],
    "max_grad_norm": lambda training: training.clip.max_norm,
    "hidden_dropout_prob": _dropout("hidden_dropout_prob"),
    "attention_probs_dropout_prob": _dropout("attention_probs_dropout_prob"),
    "classifier_dropout": _dropout("classifier_dropout"),
    "layerwise_lr_decay": _layerwise_decay,
    "frozen_layers": _frozen_layers,
    "loss": lambda training: getattr(_plain(training), "name", None),
    "focal_gamma": lambda training: getattr(_plain(training), "gamma", None),
    "label_smoothing_factor": lambda training: getattr(_plain(training), "label_smoothing", None),
    "mlm_probability": lambda training: training.mlm_probability,
    "bf16": lambda training: training.bf16,
    "early_stopping_patience": lambda training: training.patience,
    **{field: _of_recipe(field) for field in OWNERS},
}
"""How each hyperparameter is read back. A test holds it to have exactly the fields of Hyperparameters."""
