"""Checks between sections: what is right by itself and cannot work together. Each fault says what to change.

A section that is wrong by itself is not there, and what needs it is passed over. Reads at most the `config.json` of
a model: of a local one at once, of one of the Hub when it is fetched (`check_model`). Nothing heavy is imported, no row
and no weight is read.
"""

import importlib.metadata
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hpo.config.pairs import check_pairs
from hpo.config.parameters import FIELDS, Fault, check_value, takes
from hpo.config.points import first_points
from hpo.config.recipes import check_depth, check_recipes, check_teacher, most_of, never_together
from hpo.config.rules import bind, check_room
from hpo.config.schema import PACKAGE, ModelConfig, SearchConfig, StagesConfig, StudyConfig, checked_name, models_of
from hpo.config.stages import check_stage
from hpo.config.syntax import KeyPath, dotted, shown
from hpo.config.wording import explain, nearest
from hpo.constraints import Constraint
from hpo.errors import ConfigError, Problem
from hpo.objectives import COSTS, mode_of
from hpo.promotion import PromotionConfig
from hpo.space import Parameter, SearchSpace
from hpo.tasks import Task
from hpo.training.families import ASKS_FOR_A_HEAD, DROPOUTS, HEADS, fields_of, positions_of
from hpo.training.hyperparameters import ADAPT, BERT_PAPER_GRID
from hpo.training.pretrained import not_installed

_MAX_JSON = 1_000_000


def check(sections: Mapping[str, Any], wrong: Collection[str] = ()) -> Iterator[Fault]:
    """Every fault between `sections`: the fields of StudyConfig that are right by themselves.

    wrong: parameters that are written in the space, but so that they are not in it.
    """
    space, task, search = sections.get("space"), sections.get("task"), sections.get("search")
    model, promotion = sections.get("model"), sections.get("promotion")
    stages: StagesConfig | None = sections.get("stages")
    if task and space:
        yield from _parameters_of_the_task(space, task)
        yield from check_stage(space, stages)
    if space:
        yield from check_recipes(space, task, search, wrong)
    if space and model:
        yield from check_teacher(space, model, wrong)
    if task and search:
        yield from _metric(search, task, promotion)
    constraints: tuple[str, ...] = sections.get("constraints") or ()
    if constraints and space and task and not wrong:
        space, faults = bind(space, constraints, task)
        faults += check_room(space, constraints)
        yield from faults
        if any(path[0] == "constraints" for path, _ in faults):
            space = SearchSpace(space.parameters)
    if search:
        yield from check_pairs(search, None if wrong else space)
    if search and space:
        yield from _first_points(search, space, wrong)
    if search and sections.get("study") in search.warm_start:
        place = ("search", "warm_start", search.warm_start.index(sections["study"]))
        yield place, f"{sections['study']} is this study itself, which goes on with --resume; name another one"
    if promotion:
        yield from _registered_name(promotion)
    if model:
        yield from _local_models(model, space or SearchSpace(), task, stages)


def check_model(config: StudyConfig, folder: Path, name: str | None = None) -> None:
    """What `check` asks of a local model, asked of one that was fetched to `folder`. name: None for `model.name`.
    ConfigError."""
    name = name or config.model.name
    try:
        there = parameters_for(config.space, name)
        found = list(_model(_config_in(folder), there, config.space.constraints, config.task, config.stages))
    except ValueError as error:
        found = [(("model", "name"), str(error))]
    faults = [(path, _of_one(name, message, config.models)) for path, message in found]
    if faults:
        raise ConfigError([Problem(dotted(path), message) for path, message in faults])


def parameters_for(space: SearchSpace, name: str) -> dict[str, Parameter]:
    """The parameters that trials from the model `name` may have."""
    return {
        parameter: own
        for parameter, own in space.parameters.items()
        if not any(one.parameter == "model" and name not in one.values for one in own.when)
    }


def _of_one(name: str, message: str, names: Collection[str]) -> str:
    return f"{name}: {message}" if len(names) > 1 else message


def _parameters_of_the_task(space: SearchSpace, task: Task) -> Iterator[Fault]:
    for name in space.parameters:
        if name in task.inert:
            yield ("space", name), f"has no meaning for {task.noun}; remove it"


def _metric(search: SearchConfig, task: Task, promotion: PromotionConfig | None) -> Iterator[Fault]:
    asked = search.metric or task.default_metric
    names = (asked,) if isinstance(asked, str) else asked
    known = (*task.metric_names, *COSTS)
    for index, name in enumerate(names):
        path: KeyPath = ("search", "metric") if isinstance(asked, str) else ("search", "metric", index)
        if name not in known:
            yield path, f"{shown(name)} is no metric of this task; {nearest(name, known)}"
        elif name in names[:index]:
            yield path, f"{name} is there twice; remove one"
        elif index == 0 and name in COSTS:
            yield path, f"{name} is what a model costs, and cannot lead; put a metric of the task first"
    if promotion is not None:
        for name in promotion.limits:
            if name not in known:
                yield ("promotion", "limits", name), f"unknown metric; {nearest(name, known)}"
    if names[0] not in task.metric_names:
        return
    if search.mode is not None and len(names) > 1:
        yield ("search", "mode"), f"{search.mode}, but each of {len(names)} metrics has its own; remove the line"
    elif search.mode is not None and search.mode != (better := mode_of(names[0])):
        yield ("search", "mode"), f"{search.mode} looks for the worst {names[0]}; write {better}, or remove the line"


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
    try:
        (_, point), *_ = first_points([dict(first)], space)
    except ValueError:
        yield ("search", "first", index), "no point with these values keeps the constraints; change one of them"
        return
    for name in first.keys() - point.keys():
        needs = ", ".join(f"{one.parameter}: {shown(one.values[0])}" for one in space.parameters[name].when)
        yield ("search", "first", index, name), f"has no effect in this point; add {needs}"


def _registered_name(promotion: PromotionConfig) -> Iterator[Fault]:
    try:
        checked_name(promotion.model)
    except ValueError as error:
        yield ("promotion", "model"), str(error)


def _local_models(
    model: ModelConfig, space: SearchSpace, task: Task | None, stages: StagesConfig | None
) -> Iterator[Fault]:
    names = models_of(space)
    if names and model.name != names[0]:
        message = (
            f"{shown(model.name)}, but the first of space.model, {shown(names[0])}, is the default configuration's"
        )
        yield ("model", "name"), f"{message}; write one of them for both, or remove the section model"
    places: list[tuple[str, KeyPath]] = [(name, ("space", "model")) for name in names]
    for name, place in places or [(model.name, ("model", "name"))]:
        try:
            ModelConfig(name=name)
            folder = _local_folder(name)
            config = _config_in(folder) if folder else {}
        except ValidationError as error:
            yield place, explain(error.errors(include_url=False)[0])
        except ValueError as error:
            yield place, str(error)
        else:
            for path, message in _model(config, parameters_for(space, name), space.constraints, task, stages):
                yield path, _of_one(name, message, names)


def _model(
    config: Mapping[str, Any],
    parameters: Mapping[str, Parameter],
    rules: Iterable[Constraint],
    task: Task | None,
    stages: StagesConfig | None,
) -> Iterator[Fault]:
    """Depth, dropouts, positions and heads, as the model's `config.json` has them."""
    layers = config.get("num_hidden_layers", config.get("n_layers"))
    if isinstance(layers, int):
        for prefix in ("", ADAPT):
            yield from _frozen(parameters, prefix, layers)
        yield from check_depth(parameters, rules, layers)
    for name in DROPOUTS if config else ():
        if not fields_of(config, name):
            kind = config.get("model_type", "unknown")
            for own in (name, f"{ADAPT}{name}"):
                if own in parameters:
                    yield ("space", own), f"a model of type {shown(kind)} has no {name}; remove it"
    positions = positions_of(config)
    asked: dict[KeyPath, Task | None] = {("task",): task}
    if stages is not None:
        asked["stages", "adapt", "task"] = stages.adapt.task
    for path, one in asked.items():
        if one is not None:
            yield from _reads(one, positions, path)
            yield from _head(one, config, path)


def _frozen(parameters: Mapping[str, Parameter], prefix: str, layers: int) -> Iterator[Fault]:
    """prefix: of the names, where they are those of a stage."""
    name, other = f"{prefix}frozen_layers", f"{prefix}layerwise_lr_decay"
    frozen, decay = parameters.get(name), parameters.get(other)
    if frozen is None:
        return
    if (most := int(most_of(frozen))) > layers:
        yield ("space", name), f"{most} layers to freeze, but the model has {layers}; write {layers} at most"
    elif most == layers > 0 and decay is not None and not never_together(frozen, name, most, decay):
        fault = f"with all {layers} layers frozen {other} has no layers to decay between; "
        yield ("space", name), f"{fault}write {layers - 1} at most, or remove {other}"


def _reads(task: Task, positions: int | None, path: KeyPath) -> Iterator[Fault]:
    for field in ("max_length", "max_target_length"):
        length = getattr(task, field, 0)
        if positions is not None and length > positions:
            yield (*path, field), f"{length} tokens, but the model has {positions} positions; lower it"


def _head(task: Task, config: Mapping[str, Any], path: KeyPath) -> Iterator[Fault]:
    """path: of the task."""
    kinds, kind = HEADS.get(task.head), config.get("model_type")
    if kinds is not None and config and kind not in kinds:
        asked = next((field for field in ASKS_FOR_A_HEAD if getattr(task, field, False)), None)
        remedy = f"remove {asked}, or name a model" if asked else "name a model"
        what = f"a model of type {shown(kind)} has no head for {task.noun}"
        yield (*path, asked or "type"), f"{what}; {remedy} of type {', '.join(sorted(kinds))}"


def _local_folder(name: str) -> Path | None:
    """Where a folder or a package keeps its model; None for a model of the Hub. ValueError."""
    if name.startswith(PACKAGE):
        distribution = name.removeprefix(PACKAGE)
        try:
            files = importlib.metadata.distribution(distribution).files or ()
        except importlib.metadata.PackageNotFoundError:
            raise ValueError(not_installed(distribution)) from None
        weights = next((file for file in files if file.name == "model.safetensors"), None)
        if weights is None:
            raise ValueError(f"{name} ships no model.safetensors; name a package that does")
        return Path(str(weights.locate())).parent
    return Path(name) if Path(name).is_absolute() else None


def _config_in(folder: Path) -> Mapping[str, Any]:
    """The `config.json` of a model's folder. ValueError."""
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
