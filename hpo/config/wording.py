"""Pydantic's errors in our own words: the value, the rule, the remedy. Knows no section by name."""

import difflib
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from hpo.config.document import Document
from hpo.config.syntax import KeyPath, shown
from hpo.errors import Problem

_RULES = {
    "missing": "is missing; add it",
    "int_type": "is not a whole number; write one such as 4, without quotes",
    "int_parsing": "is not a whole number; write one such as 4, without quotes",
    "int_from_float": "is not a whole number; write one such as 4, without a fraction",
    "float_type": "is not a number; write one such as 0.5, without quotes",
    "float_parsing": "is not a number; write one such as 0.5, without quotes",
    "bool_type": "is neither true nor false; write one of them",
    "bool_parsing": "is neither true nor false; write one of them",
    "string_type": "is not text; write text, in quotes where it looks like a number",
    "path_type": "is not a path; write text",
    "greater_than": "is not above {gt}; raise it",
    "greater_than_equal": "is below {ge}; write {ge} or more",
    "less_than": "is not below {lt}; lower it",
    "less_than_equal": "is above {le}; write {le} or less",
    "literal_error": "is not one of {expected}",
    "union_tag_invalid": "is not one of {expected_tags}",
    "union_tag_not_found": "has no `type`; add one",
    "model_type": "is not a section of keys; write `key: value` below it",
    "model_attributes_type": "is not a section of keys; write `key: value` below it",
    "dict_type": "is not a section of keys; write `key: value` below it",
    "list_type": "is not a list; write [a, b]",
    "tuple_type": "is not a list; write [a, b]",
    "too_short": "has fewer items than {min_length}; add some",
    "too_long": "has more items than {max_length}; remove some",
    "string_too_short": "is too short; write at least {min_length} characters",
    "string_too_long": "is too long; write at most {max_length} characters",
    "byte_size": "is not a size; write 2GB or 500MB",
    "byte_size_unit": "is not a size; write 2GB or 500MB",
}


def nearest(name: str, known: Iterable[str]) -> str:
    """The remedy for a name that is not known, to be put behind a semicolon."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(names)}" if names else "remove it"


def explain(error: ErrorDetails) -> str:
    """One message for one error, without the key's path. A validator's own words are kept as they are."""
    kind, value = error["type"], error["input"]
    context: Mapping[str, Any] = error.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind == "missing":
        return _RULES[kind]
    if kind in ("literal_error", "union_tag_invalid"):
        expected = str(context.get("expected", context.get("expected_tags")))
        options = [option.strip().strip("'") for option in expected.replace(" or ", ", ").split(",")]
        tag = context.get("tag", value)
        return f"{shown(tag)} is not one of {', '.join(options)}; {_option(tag, options)}"
    if kind not in _RULES:
        return f"{shown(value)} is refused: {error['msg'][0].lower()}{error['msg'][1:]}; change it"
    return f"{shown(value)} {_RULES[kind].format(**{name: _plain(number) for name, number in context.items()})}"


def problems_of(error: ValidationError, document: Document, model: type[BaseModel]) -> Iterator[Problem]:
    """Every error of a validation of `model` by `document.values`, at its key; what a refused value caused is left out.

    Where several members of a union refuse the same value, the refusals that only say "another type" give way.
    """
    found: dict[KeyPath, list[ErrorDetails]] = {}
    for one in error.errors(include_url=False):
        found.setdefault(_path(one, document.values), []).append(one)
    for path, errors in found.items():
        if any(path[: len(refused)] == refused for refused in document.refused):
            continue
        deeper = any(other != path and other[: len(path)] == path for other in found)
        telling = [one for one in errors if not one["type"].endswith("_type")] or ([] if deeper else errors)
        messages = [
            f"unknown key; {nearest(str(path[-1]), _keys(model, one['loc'][:-1]))}"
            if one["type"] == "extra_forbidden"
            else explain(one)
            for one in telling
        ]
        if messages:
            yield document.problem(path, ", or: ".join(dict.fromkeys(messages)))


def coerced(values: Any, validated: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, str]]:
    """Scalars that pydantic turned into another kind ("3" into 3, true into 1): in a file they are mistakes."""
    if isinstance(validated, BaseModel):
        names = {info.alias or name: name for name, info in type(validated).model_fields.items()}
        validated = {key: getattr(validated, name) for key, name in names.items()}
    if isinstance(values, Mapping) and isinstance(validated, Mapping):
        for key, value in values.items():
            yield from coerced(value, validated.get(key), (*path, key))
    elif isinstance(values, list) and isinstance(validated, list | tuple):
        for index, pair in enumerate(zip(values, validated, strict=False)):
            yield from coerced(*pair, (*path, index))
    elif type(validated) in (int, float) and isinstance(values, bool | str):
        yield path, f"{shown(values)} is not a number; write one without quotes"
    elif type(validated) is bool and not isinstance(values, bool):
        yield path, f"{shown(values)} is neither true nor false; write one of them"


def _path(error: ErrorDetails, values: Any) -> KeyPath:
    """The location as a path of keys: what pydantic puts between them (the member of a union) is left out."""
    path: list[str | int] = []
    place: Any = values
    for position, key in enumerate(error["loc"]):
        inside = (isinstance(place, dict) and key in place) or (
            isinstance(place, list) and isinstance(key, int) and key < len(place)
        )
        if inside:
            path.append(key)
            place = place[key]
        elif error["type"] == "missing" and position == len(error["loc"]) - 1:
            path.append(key)
    if error["type"] == "union_tag_invalid":
        path.append("type")
    return tuple(path)


def _keys(model: type[BaseModel], location: KeyPath) -> set[str]:
    """The keys that are known at `location`, below `model`."""
    models = [model]
    for key in location:
        fields = [own for one in models for name, own in _fields(one).items() if name == key]
        if fields:
            models = [inner for annotation in fields for inner in _models_in(annotation)]
        else:
            models = [one for one in models if key in _tags(one)] or models
    return {name for one in models for name in _fields(one)}


def _fields(model: type[BaseModel]) -> dict[str, Any]:
    return {info.alias or name: info.annotation for name, info in model.model_fields.items()}


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models_in(argument)


def _tags(model: type[BaseModel]) -> tuple[str, ...]:
    annotation: Any = model.model_fields["type"].annotation if "type" in model.model_fields else None
    return (model.__name__, *typing.get_args(annotation))


def _option(value: Any, options: list[str]) -> str:
    close = difflib.get_close_matches(str(value), options, n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else "write one of them"


def _plain(value: Any) -> Any:
    return f"{value:g}" if isinstance(value, float) else value
