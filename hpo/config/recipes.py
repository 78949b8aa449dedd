"""Checks of training recipes in a space: what acts only with something else, and what can't act together.

Knows of a recipe what `hyperparameters` says of it, and nothing of how it trains.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from hpo.config.parameters import Fault
from hpo.config.schema import ModelConfig, SearchConfig
from hpo.config.syntax import shown
from hpo.constraints import Constraint
from hpo.schedulers import PbtConfig
from hpo.space import Choice, Fixed, Parameter, Scalar, SearchSpace
from hpo.tasks import Task
from hpo.training.hyperparameters import EXCLUDES, NEEDS, RECIPES

_ALONE = ("peft", "averaging", "early_stopping_patience")
"""Recipes with a state or an end of their own, which members of a population can't hand on."""


def check_recipes(
    space: SearchSpace, task: Task | None, search: SearchConfig | None, wrong: Collection[str]
) -> Iterator[Fault]:
    """wrong: parameters that are written in the space, but so that they are not in it."""
    yield from _without_their_switch(space, task, wrong)
    parameters = space.parameters
    for one, other in EXCLUDES:
        if one in parameters and other in parameters and _may_meet(one, other, space):
            off = RECIPES[one]
            yield (
                ("space", other),
                f"can't act together with {one}, and both can be on; write {one}: {shown(off)}, or remove one",
            )
    if search is not None and isinstance(search.scheduler, PbtConfig):
        for name in _ALONE:
            if name in parameters and _can_be_on(name, parameters[name]):
                yield ("space", name), f"a member of a population can't hand {name} on; remove it, or take asha"


def check_depth(parameters: Mapping[str, Parameter], rules: Iterable[Constraint], layers: int) -> Iterator[Fault]:
    """layers: of the model's encoder."""
    reinit, frozen = parameters.get("reinit_layers"), parameters.get("frozen_layers")
    if reinit is None:
        return
    if (most := int(most_of(reinit))) > layers:
        yield ("space", "reinit_layers"), f"{most} layers to begin anew, but the model has {layers}; lower it"
        return
    both = {"reinit_layers", "frozen_layers"}
    if frozen is None or any(both <= rule.names for rule in rules):
        return
    below = int(most_of(frozen))
    if most and below and most + below > layers and not never_together(frozen, "frozen_layers", below, reinit):
        yield (
            ("space", "reinit_layers"),
            f"{most} layers from the top and {below} frozen ones meet in a model of {layers}: what begins anew would "
            "stay untrained; lower one of them",
        )


def check_teacher(space: SearchSpace, model: ModelConfig, wrong: Collection[str]) -> Iterator[Fault]:
    """A teacher, and who learns from it, are there together."""
    name = "distillation_weight"
    if name in wrong:
        return
    learns = name in space.parameters and _can_be_on(name, space.parameters[name])
    if learns and model.teacher is None:
        yield ("space", name), "nobody teaches; add model.teacher: models:/NAME@champion, or a checkpoint's folder"
    if model.teacher is not None and not learns:
        yield ("model", "teacher"), f"no trial learns from it; add {name} to the space, or remove it"


def most_of(own: Parameter) -> float:
    """The highest value of a parameter that is a number."""
    match own:
        case Fixed(value):
            return float(value)
        case Choice(values):
            return max(float(value) for value in values)
        case _:
            return float(own.high)


def never_together(one: Parameter, name: str, value: Scalar, other: Parameter) -> bool:
    """Whether the conditions keep `other` away from `name`, which is `one`, at this value."""
    if any(condition.parameter == name and value not in condition.values for condition in other.when):
        return True
    return any(
        mine.parameter == yours.parameter and not {*mine.values} & {*yours.values}
        for mine in one.when
        for yours in other.when
    )


def _without_their_switch(space: SearchSpace, task: Task | None, wrong: Collection[str]) -> Iterator[Fault]:
    """A parameter that is sampled where what it belongs to is off, such as a gamma where the loss is another one: every
    such trial would fail."""
    for name, (switch, values) in NEEDS.items():
        if {name, switch} & {*wrong} or name not in space.parameters or (task and switch in task.inert):
            continue
        own, other = space.parameters[name], space.parameters.get(switch)
        if any(
            one.parameter == switch and all(_is_on(switch, value, values) for value in one.values) for one in own.when
        ):
            continue
        if other is not None and {*other.when} <= {*own.when} and _always_on(switch, other, values):
            continue
        if values:
            asked = f"{switch}: {values[0] if len(values) == 1 else '[' + ', '.join(values) + ']'}"
            can_be = other is not None and any(other.contains(value) for value in values)
            remedy = f"add when: {{{asked}}}" if can_be else f"write {switch}: {values[0]}, or remove it"
            what = f"{switch}: {' or '.join(values)}"
        else:
            remedy = f"add when: {{{switch}: ...}}, or write values of {switch} above {shown(RECIPES[switch])}"
            what = f"a {switch} above {shown(RECIPES[switch])}"
        yield ("space", name), f"acts only with {what}, which is not always so here; {remedy}"


def _may_meet(name: str, other: str, space: SearchSpace) -> bool:
    """Whether both recipes can be on in one trial."""
    one, two = space.parameters[name], space.parameters[other]
    return any(not never_together(one, name, value, two) for value in _values_on(name, one)) and any(
        not never_together(two, other, value, one) for value in _values_on(other, two)
    )


def _can_be_on(name: str, own: Parameter) -> bool:
    return bool(_values_on(name, own))


def _values_on(name: str, own: Parameter) -> list[Scalar]:
    """Those of its values that switch a recipe on; of a range, the highest."""
    match own:
        case Fixed(value):
            found: list[Scalar] = [value]
        case Choice(values):
            found = [*values]
        case _:
            found = [own.high]
    return [value for value in found if value != RECIPES[name]]


def _always_on(switch: str, own: Parameter, values: Collection[str]) -> bool:
    match own:
        case Fixed(value):
            return _is_on(switch, value, values)
        case Choice(choices):
            return all(_is_on(switch, value, values) for value in choices)
        case _:
            return not values and own.low > 0


def _is_on(switch: str, value: Any, values: Collection[str]) -> bool:
    return value in values if values else value != RECIPES[switch]
