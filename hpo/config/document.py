"""A space file as it was written, with what the command line sets in it; knows no section by name."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpo.config.syntax import KeyPath, Source, dotted, parse, shown
from hpo.errors import ConfigError, Problem
from hpo.mlflow_client import without_password

MAX_BYTES = 256 * 1024


@dataclass
class Document(Source):
    """`origins`: the command-line option that set a key, instead of a line of the file."""

    origins: dict[KeyPath, str] = field(default_factory=dict)

    def problem(self, path: KeyPath, message: str) -> Problem:
        """A Problem at the nearest place known: the option that set the key, else its line, else its parent's."""
        for length in range(len(path), -1, -1):
            if origin := self.origins.get(path[:length]):
                return Problem(dotted(path), f"{message} ({origin})")
            if length and (line := self.lines.get(path[:length])):
                return Problem(dotted(path), message, self.file, line)
        return Problem(dotted(path), message, self.file, 1 if self.file else None)

    def set(self, path: KeyPath, value: Any, origin: str) -> None:
        """Put a value given on the command line; mappings on the way are made. ConfigError where one cannot be."""
        parent = self.values
        for depth, key in enumerate(path[:-1], start=1):
            inner = parent.get(str(key))
            if inner is None:
                inner = parent[str(key)] = {}
                self.origins.setdefault(path[:depth], origin)
            if not isinstance(inner, dict):
                what = f"{dotted(path[:depth])} is {shown(inner)}, which has no keys; set {dotted(path[:depth])} itself"
                raise ConfigError([Problem(dotted(path), f"{what} ({origin})")])
            parent = inner
        parent[str(path[-1])] = value
        for known in (self.lines, self.origins):
            for old in [old for old in known if old[: len(path)] == path]:
                del known[old]
        self.refused = {old: one for old, one in self.refused.items() if old[: len(path)] != path}
        self.origins[path] = origin

    def override(self, option: str) -> None:
        """Apply the `a.b=value` of `--set a.b=value`; the value is YAML. ConfigError."""
        origin = f"--set {without_password(option)}"
        name, equals, text = option.partition("=")
        keys = name.strip().split(".")
        if not equals or not all(keys):
            raise ConfigError([Problem("", f"{origin} is not a key and a value; write --set budget.trials=20")])
        try:
            wrapped = parse(f"value: {text}" if text.strip() else "value:", None)
        except ConfigError as error:
            raise ConfigError([Problem(name, f"{one.message} ({origin})") for one in error.problems]) from None
        refused = [*wrapped.problems, *wrapped.refused.values()]
        if refused or wrapped.values.keys() != {"value"}:
            message = refused[0].message if refused else f"{shown(text)} is not one YAML value; quote it"
            raise ConfigError([Problem(name, f"{message} ({origin})")])
        self.set(tuple(keys), wrapped.values["value"], origin)


def read(path: Path) -> Document:
    """The document in a file. ConfigError where it is not readable, too large, or not YAML at all."""
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError([Problem("", f"cannot be read: {error.strerror}", path)]) from None
    if len(data) > MAX_BYTES:
        raise ConfigError([Problem("", f"is larger than {MAX_BYTES // 1024} KiB; a space file is a page", path, 1)])
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            [Problem("", f"byte {error.start} is not UTF-8; save the file as UTF-8", path, line)]
        ) from None
    source = parse(text, path)
    return Document(source.file, source.values, source.lines, source.problems, source.refused)
