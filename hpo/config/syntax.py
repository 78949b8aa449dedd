"""The part of YAML that a space file may use: text -> plain values, with the line of every key.

A subset of YAML 1.2: one document, plain values, text keys. `1e-5` is a number; only true and false are booleans, so
`on`, `no` and 2026-01-01 are text. Refused: tags, keys given twice, merge keys, numbers that are not finite, and what
makes a small file large (aliases, nesting). PyYAML gives the events; its own constructors are not used.
"""

import copy
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from hpo.errors import ConfigError, Problem
from hpo.mlflow_client import without_password

KeyPath: TypeAlias = tuple[str | int, ...]

MAX_DEPTH = 20
MAX_VALUES = 20_000

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_CONTROL = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NULL = ("", "~", "null", "Null", "NULL")
_BOOLEAN = {text: text[0] in "tT" for text in ("true", "True", "TRUE", "false", "False", "FALSE")}
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


@dataclass
class Source:
    """values: the whole mapping. lines: of each key, and of each item of a list, counted from 1.

    problems: keys that were refused. refused: values that were, by path; in `values` they are null.
    """

    file: Path | None
    values: dict[str, Any] = field(default_factory=dict)
    lines: dict[KeyPath, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    refused: dict[KeyPath, Problem] = field(default_factory=dict)


def parse(text: str, file: Path | None) -> Source:
    """ConfigError where the text is not one YAML mapping; smaller faults are in `problems` of the result."""
    if found := _CONTROL.search(text):
        line = text.count("\n", 0, found.start()) + 1
        raise ConfigError([Problem("", f"control character {found.group()!a}; remove it", file, line)])
    source = Source(file)
    try:
        values = _Composer(yaml.parse(text, Loader=_LOADER), source).compose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        # libyaml marks the end of the text on a line after the last one
        line = min(mark.line, text.rstrip("\n").count("\n")) + 1 if mark else 1
        context = f" {error.context}" if error.context else ""
        raise ConfigError([Problem("", f"not YAML: {error.problem}{context}", file, line)]) from None
    except yaml.YAMLError as error:
        raise ConfigError([Problem("", f"not YAML: {error}", file, 1)]) from None
    if not isinstance(values, dict):
        what = "is empty" if values is None else f"holds {shown(values)}, not keys with values"
        raise ConfigError(
            [*source.problems, *source.refused.values(), Problem("", f"{what}; begin with `study: a-name`", file, 1)]
        )
    source.values = values
    return source


def dump(values: dict[str, Any]) -> str:
    """YAML text that `parse` turns into the same values."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def dotted(path: KeyPath) -> str:
    """("search", "first", 2, "loss") -> search.first[2].loss"""
    text = ""
    for key in path:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else key
    return text if len(text) <= 200 else text[:197] + "..."


def shown(value: Any) -> str:
    """A value as an error quotes it: short, on one line."""
    if isinstance(value, dict):
        return "a section of keys" if value else "an empty section"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(without_password(value)) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


class _Composer:
    """Events -> values. Nesting is bounded by MAX_DEPTH, so plain recursion is safe."""

    def __init__(self, events: Iterator[yaml.Event], source: Source) -> None:
        self._events = events
        self._source = source
        self._count = 0
        self._anchors: dict[str, tuple[Any, int, int] | None] = {}  # value, number of values in it, height

    def compose(self) -> Any:
        values: Any = None
        documents = 0
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise self._refusal(event, (), "a second document begins; keep one in a file, without `---`")
                values, _ = self._value(next(self._events), (), 1)
        return values

    def _value(self, event: yaml.Event, path: KeyPath, depth: int) -> tuple[Any, int]:
        """The value that begins with `event`, and how deep it is."""
        before = self._count
        self._count += 1
        self._check_size(event, path)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, path, depth)
        anchor = getattr(event, "anchor", None)
        if anchor is not None:
            self._anchors[anchor] = None
        if (tag := getattr(event, "tag", None)) is not None:
            self._refuse_value(event, path, f"tag {shown(tag)} is not allowed; write the plain value")
        value: Any
        height = 0
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event, path)
        elif depth > MAX_DEPTH:
            raise self._refusal(event, path, f"is nested deeper than {MAX_DEPTH} levels")
        elif isinstance(event, yaml.SequenceStartEvent):
            value, height = self._sequence(path, depth)
        else:
            value, height = self._mapping(path, depth)
        if anchor is not None:
            self._anchors[anchor] = (value, self._count - before, height)
        return value, height

    def _sequence(self, path: KeyPath, depth: int) -> tuple[list[Any], int]:
        items: list[Any] = []
        tallest = 0
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            place = (*path, len(items))
            self._source.lines[place] = _line(event)
            item, height = self._value(event, place, depth + 1)
            tallest = max(tallest, height)
            items.append(item)
        return items, tallest + 1

    def _mapping(self, path: KeyPath, depth: int) -> tuple[dict[str, Any], int]:
        items: dict[str, Any] = {}
        tallest = 0
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._key(event, path, items)
            place = (*path, key if key is not None else "?")
            if key is not None:
                self._source.lines[place] = _line(event)
            value, height = self._value(next(self._events), place, depth + 1)
            tallest = max(tallest, height)
            if key is not None:
                items[key] = value
        return items, tallest + 1

    def _key(self, event: yaml.Event, path: KeyPath, items: dict[str, Any]) -> str | None:
        """The key's text; None where it is refused."""
        self._count += 1
        if not isinstance(event, yaml.ScalarEvent):
            if not isinstance(event, yaml.AliasEvent):
                self._value(event, (*path, "?"), MAX_DEPTH)
            self._refuse(event, path, "a key is not plain text; write `name: value`")
            return None
        if event.tag is not None or event.anchor is not None:
            self._refuse(event, path, f"key {shown(event.value)} has a tag or an anchor; write the plain key")
            return None
        if event.value == "<<" and event.implicit[0]:
            self._refuse(event, path, "merge keys (<<) are not supported; write the keys out")
            return None
        if event.implicit[0] and not isinstance(resolved(event.value), str):
            self._refuse(event, path, f"key {event.value[:60]} is not text; put it into quotes")
            return None
        if found := _CONTROL.search(event.value.replace("\n", "\0")):
            self._refuse(event, path, f"a key holds the control character {found.group()!a}; remove it")
            return None
        if event.value in items:
            first = self._source.lines[(*path, event.value)]
            self._refuse(event, (*path, event.value), f"is given twice, first on line {first}; remove one of them")
            return None
        return str(event.value)

    def _scalar(self, event: yaml.ScalarEvent, path: KeyPath) -> Any:
        if not event.implicit[0]:
            if found := _CONTROL.search(event.value):
                self._refuse_value(event, path, f"holds the control character {found.group()!a}; remove it")
                return None
            return event.value
        value = resolved(event.value)
        if isinstance(value, float) and not math.isfinite(value):
            self._refuse_value(event, path, f"{event.value[:60]} is not a finite number")
            return None
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            self._refuse_value(event, path, f"{event.value[:60]} does not fit into 64 bits")
            return None
        return value

    def _alias(self, event: yaml.AliasEvent, path: KeyPath, depth: int) -> tuple[Any, int]:
        anchor = str(event.anchor)
        known = self._anchors.get(anchor, ...)
        if known is ...:
            raise self._refusal(event, path, f"alias *{anchor} has no anchor &{anchor} before it")
        if known is None:
            raise self._refusal(event, path, f"alias *{anchor} contains itself; write the values out")
        value, size, height = known
        self._count += size
        self._check_size(event, path)
        if depth + height - 1 > MAX_DEPTH:
            raise self._refusal(event, path, f"is nested deeper than {MAX_DEPTH} levels")
        return copy.deepcopy(value), height

    def _check_size(self, event: yaml.Event, path: KeyPath) -> None:
        if self._count > MAX_VALUES:
            raise self._refusal(event, path, f"more than {MAX_VALUES} values, aliases counted; a space file is a page")

    def _refuse(self, event: yaml.Event, path: KeyPath, message: str) -> None:
        self._source.problems.append(Problem(dotted(path), message, self._source.file, _line(event)))

    def _refuse_value(self, event: yaml.Event, path: KeyPath, message: str) -> None:
        self._source.refused[path] = Problem(dotted(path), message, self._source.file, _line(event))

    def _refusal(self, event: yaml.Event, path: KeyPath, message: str) -> ConfigError:
        """What was found so far, and this: reading cannot go on."""
        last = Problem(dotted(path), message, self._source.file, _line(event))
        return ConfigError([*self._source.problems, *self._source.refused.values(), last])


def resolved(text: str) -> Any:
    """A plain (unquoted) scalar by the core schema of YAML 1.2, section 10.3.2."""
    if text in _NULL:
        return None
    if text in _BOOLEAN:
        return _BOOLEAN[text]
    if _NOT_FINITE.fullmatch(text):
        return math.nan
    if _INTEGER.fullmatch(text):
        if text.startswith(("0o", "0x")):
            return int(text, 0)
        return int(text) if len(text) <= 20 else 10**20
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


def _line(event: yaml.Event) -> int:
    mark: Any = event.start_mark
    return int(mark.line) + 1


class _Dumper(yaml.SafeDumper):
    """Quotes every text that would be read back as something else, and never writes an alias."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    style = None if isinstance(resolved(text), str) and text != "<<" else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)
