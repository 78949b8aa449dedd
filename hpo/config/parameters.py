"""The `space:` section -> SearchSpace, and back. Owns how a parameter is written and which values a field can take.

    learning_rate: {low: 1e-5, high: 1e-4, log: true}      a range, whole numbers where the field has whole numbers
    num_train_epochs: [2, 3, 4]                            a choice
    weight_decay: 0.01                                     a fixed value
    focal_gamma: {low: 1.0, high: 4.0, when: {loss: focal}}
    focal_gamma: {value: 2.0, when: {loss: focal}}         and {values: [1.0, 2.0], when: ...}

What a task or a model makes of a parameter is checked in `checks`.
"""

import functools
import math
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Annotated, Any, TypeAlias

from pydantic import TypeAdapter, ValidationError

from hpo.config.syntax import KeyPath, shown
from hpo.config.wording import explain, nearest
from hpo.space import Choice, Condition, Fixed, FloatRange, IntRange, Parameter, Scalar, SearchSpace
from hpo.training.hyperparameters import ADAPT, OF_STAGE, Hyperparameters

Fault: TypeAlias = tuple[KeyPath, str]

FIELDS = Hyperparameters.model_fields | {
    f"{ADAPT}{name}": Hyperparameters.model_fields[name] for name in sorted(OF_STAGE)
}
WHOLE_IF_WRITTEN_SO = frozenset({"num_train_epochs", f"{ADAPT}num_train_epochs"})
"""Fields of real numbers whose values stay whole where they are all written as whole numbers."""

_RANGE = ("low", "high", "step", "log", "when")
_FORMS = {"value": ("value", "when"), "values": ("values", "when")}


class _RefusedError(Exception):
    """A parameter cannot be made; the faults say why."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__(faults)
        self.faults = faults


def parse_space(section: Mapping[str, Any]) -> tuple[SearchSpace, list[Fault]]:
    """The space, of those parameters that are right, and everything that is wrong, with paths inside the section."""
    faults: list[Fault] = []
    parameters: dict[str, Parameter] = {}
    for name, written in section.items():
        if name not in FIELDS:
            faults.append(((name,), f"unknown hyperparameter; {nearest(name, FIELDS)}"))
            continue
        try:
            parameters[name] = _parameter(name, written)
        except _RefusedError as refused:
            faults += refused.faults
    faults += _impossible_conditions(parameters, section)
    try:
        space = SearchSpace(parameters)
    except ValueError:
        in_circle = [name for name in parameters if _is_in_circle(name, parameters)]
        faults += [
            ((name, "when"), f"{', '.join(in_circle)} depend on each other; remove a `when`") for name in in_circle
        ]
        return SearchSpace(), faults
    if not faults and not space.varying:
        faults.append(((), "nothing varies; give one parameter a list or a range, such as {low: 1e-5, high: 1e-4}"))
    return space, faults


def written(space: SearchSpace) -> dict[str, Any]:
    """The section that `parse_space` turns into `space`."""
    return {name: _written(own) for name, own in space.parameters.items()}


def check_value(name: str, value: Any) -> Scalar:
    """`value` as the field `name` holds it. ValueError with value, rule and remedy."""
    if value is None:
        raise ValueError("no value is given; write one, or remove the line to take the default")
    if isinstance(value, list | dict):
        raise ValueError(f"{shown(value)} is not one value")
    try:
        checked: Scalar = _adapter(name).validate_python(value, strict=True)
    except ValidationError as error:
        raise ValueError(explain(error.errors(include_url=False)[0])) from None
    return value if name in WHOLE_IF_WRITTEN_SO and isinstance(value, int) else checked


@functools.cache
def _adapter(name: str) -> TypeAdapter[Any]:
    info = FIELDS[name]
    annotated: Any = Annotated[(info.annotation, *info.metadata)] if info.metadata else info.annotation
    return TypeAdapter(annotated)


@functools.cache
def _kind(name: str) -> type:
    """What the values of a field are: float, int, bool or str."""
    for value, kind in ((0.5, float), (1, int), (True, bool)):
        try:
            _adapter(name).validate_python(value, strict=True)
        except ValidationError as error:
            if any(
                one["type"] in ("int_type", "int_from_float", "bool_type", "literal_error") for one in error.errors()
            ):
                continue
        return kind
    return str


def _parameter(name: str, written: Any) -> Parameter:
    if not isinstance(written, dict):
        return _values(name, written, (), (name,))
    faults: list[Fault] = []
    form = next((key for key in _FORMS if key in written), None)
    known = _FORMS[form] if form else _RANGE
    for key in written:
        if key not in known:
            faults.append(((name, key), f"unknown key; {nearest(key, known)}"))
    when: tuple[Condition, ...] = ()
    try:
        when = _conditions(name, written["when"]) if "when" in written else ()
    except _RefusedError as refused:
        faults += refused.faults
    own: Parameter | None = None
    try:
        if form == "values" and not isinstance(written["values"], list):
            raise _RefusedError([((name, "values"), f"{shown(written['values'])} is not a list; write [a, b]")])
        own = _values(name, written[form], when, (name, form)) if form else _range(name, written, when)
    except _RefusedError as refused:
        faults += refused.faults
    if faults or own is None:
        raise _RefusedError(faults)
    return own


def _values(name: str, written: Any, when: tuple[Condition, ...], path: KeyPath) -> Fixed | Choice:
    if not isinstance(written, list):
        try:
            return Fixed(check_value(name, written), when)
        except ValueError as error:
            raise _RefusedError([(path, str(error))]) from None
    if not written:
        raise _RefusedError([(path, "an empty list has nothing to choose from; write some values")])
    faults: list[Fault] = []
    values: list[Scalar] = []
    for index, item in enumerate(written):
        try:
            value = check_value(name, item)
        except ValueError as error:
            faults.append(((*path, index), str(error)))
            continue
        if value in values:
            faults.append(((*path, index), f"{shown(item)} is in the list already; remove it"))
        values.append(value)
    if faults:
        raise _RefusedError(faults)
    if not all(isinstance(value, int) for value in values):
        values = [float(value) if isinstance(value, int) and _kind(name) is float else value for value in values]
    return Choice(tuple(values), when)


def _range(name: str, written: dict[str, Any], when: tuple[Condition, ...]) -> IntRange | FloatRange:
    if _kind(name) in (str, bool):
        raise _RefusedError([((name,), "is not a number and has no range; write a list of values")])
    faults: list[Fault] = [
        ((name, key), "is missing; a range has low and high") for key in ("low", "high") if key not in written
    ]
    for key in ("low", "high"):
        if key in written:
            try:
                check_value(name, written[key])
            except ValueError as error:
                faults.append(((name, key), f"{error}"))
    step, log = written.get("step"), written.get("log", False)
    if "step" in written and not _is_number(step):
        faults.append(((name, "step"), f"{shown(step)} is not a number; write one, or remove the line"))
    if not isinstance(log, bool):
        faults.append(((name, "log"), f"{shown(log)} is neither true nor false; write one of them"))
    if faults:
        raise _RefusedError(faults)
    low, high = written["low"], written["high"]
    numbers = [low, high] if step is None else [low, high, step]
    whole = _kind(name) is int or (name in WHOLE_IF_WRITTEN_SO and all(isinstance(one, int) for one in numbers))
    if low > high:
        faults.append(((name,), f"low={shown(low)} is above high={shown(high)}; swap them"))
    if low == high:
        faults.append(((name,), f"low and high are both {shown(low)}; write it as a fixed value: {name}: {shown(low)}"))
    if log and low <= 0:
        faults.append(((name, "low"), f"{shown(low)} has no logarithm; write a low above 0, or leave log out"))
    if log and step is not None:
        faults.append(((name, "step"), "log and step exclude each other; remove one of them"))
    if step is not None and step <= 0:
        faults.append(((name, "step"), f"{shown(step)} is not above 0; write how far apart two values are"))
    elif step is not None and low < high < low + step:
        faults.append(
            ((name, "step"), f"{shown(step)} is longer than the range from {shown(low)} to {shown(high)}; lower it")
        )
    if whole and step is not None and not isinstance(step, int):
        faults.append(((name, "step"), f"{shown(step)} is not a whole number, but the values of {name} are; write one"))
    if faults:
        raise _RefusedError(faults)
    if whole:
        step = 1 if step is None else step
        return IntRange(low, high - (high - low) % step, step, log, when)
    if step is None:
        return FloatRange(float(low), float(high), None, log, when)
    return FloatRange(float(low), _last_value(float(low), float(high), float(step)), float(step), log, when)


def _last_value(low: float, high: float, step: float) -> float:
    """Where a range by `step` ends: at `high`, or below it where the steps do not meet it. In decimals, as written."""
    first, by = Decimal(str(low)), Decimal(str(step))
    steps = (Decimal(str(high)) - first) / by
    if abs(steps - round(steps)) < 1e-9:
        return high
    return float(first + by * math.floor(steps))


def _conditions(name: str, written: Any) -> tuple[Condition, ...]:
    if not isinstance(written, dict) or not written:
        raise _RefusedError([((name, "when"), f"{shown(written)} is not a condition; write when: {{loss: focal}}")])
    conditions: list[Condition] = []
    faults: list[Fault] = []
    for parent, wanted in written.items():
        values = wanted if isinstance(wanted, list) else [wanted]
        if not values or any(isinstance(value, list | dict) or value is None for value in values):
            faults.append(((name, "when", parent), f"{shown(wanted)} is not a value or a list of values"))
        conditions.append(Condition(parent, tuple(values)))
    if faults:
        raise _RefusedError(faults)
    return tuple(conditions)


def _impossible_conditions(parameters: Mapping[str, Parameter], section: Mapping[str, Any]) -> Iterator[Fault]:
    """Conditions that can never hold. Those on a parameter that is itself wrong are passed over."""
    for name, own in parameters.items():
        for condition in own.when:
            path = (name, "when", condition.parameter)
            parent = parameters.get(condition.parameter)
            if condition.parameter == name:
                yield path, f"{name} cannot depend on itself; name another parameter"
            elif condition.parameter not in section:
                remedy = nearest(condition.parameter, set(section) - {name})
                yield path, f"{shown(condition.parameter)} is no parameter of this space; {remedy}"
            elif isinstance(parent, FloatRange) and parent.step is None:
                yield path, f"{condition.parameter} is a range of real numbers, which no value hits; make it a list"
            elif parent is not None:
                for value in condition.values:
                    if not parent.contains(value):
                        yield path, f"{condition.parameter} never is {shown(value)}; it {takes(parent)}"


def _is_in_circle(name: str, parameters: Mapping[str, Parameter]) -> bool:
    """Whether a parameter depends on itself through others; where it does so directly is told elsewhere."""
    if any(condition.parameter == name for condition in parameters[name].when):
        return False
    seen: set[str] = set()
    ahead = [condition.parameter for condition in parameters[name].when]
    while ahead:
        parent = ahead.pop()
        if parent == name:
            return True
        if parent in parameters and parent not in seen:
            seen.add(parent)
            ahead += [condition.parameter for condition in parameters[parent].when]
    return False


def takes(own: Parameter) -> str:
    """What a parameter can be, in words."""
    match own:
        case Fixed(value):
            return f"is always {shown(value)}"
        case Choice(values):
            return f"is one of {', '.join(shown(value) for value in values)}"
        case IntRange() | FloatRange():
            by = f" by {shown(own.step)}" if own.step not in (None, 1) else ""
            return f"goes from {shown(own.low)} to {shown(own.high)}{by}"


def _written(own: Parameter) -> Any:
    when = {one.parameter: one.values[0] if len(one.values) == 1 else list(one.values) for one in own.when}
    match own:
        case Fixed(value):
            return {"value": value, "when": when} if when else value
        case Choice(values):
            return {"values": list(values), "when": when} if when else list(values)
        case IntRange() | FloatRange():
            form: dict[str, Any] = {"low": own.low, "high": own.high}
            if own.step is not None and (own.step != 1 or isinstance(own, FloatRange)):
                form["step"] = own.step
            if own.log:
                form["log"] = True
            return form | ({"when": when} if when else {})


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
