"""One YAML file -> a frozen StudyConfig, all problems reported at once. Imports nothing heavy and starts nothing."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError

from hpo.config.checks import check
from hpo.config.document import Document, read
from hpo.config.parameters import Fault, parse_space
from hpo.config.places import find, shipped
from hpo.config.schema import PACKAGE, ModelConfig, SearchConfig, StudyConfig, models_of
from hpo.config.sections import BudgetConfig, CheckpointsConfig, ResourcesConfig
from hpo.config.syntax import KeyPath
from hpo.config.wording import coerced, nearest, problems_of
from hpo.errors import ConfigError, Problem

__all__ = [
    "BudgetConfig",
    "CheckpointsConfig",
    "ModelConfig",
    "ResourcesConfig",
    "SearchConfig",
    "StudyConfig",
    "find",
    "load",
    "located",
    "shipped",
]

_SECTIONS = {name: info for name, info in StudyConfig.model_fields.items() if name != "base"}
_SHORT = ("sampler", "scheduler")
DATE = "HPO_DATE"
"""In the environment: what `{date}` stands for, instead of today (UTC). A night's study that goes on past midnight, or
is started again then, is still that night's."""
NUMBER = "HPO_NUMBER"
"""In the environment: what `{number}` stands for, where several drivers search one file beside each other. It is added
to the seed, since the same seed would propose the same."""


def load(path: Path, overrides: Sequence[str] = (), storage: Path | None = None) -> StudyConfig:
    """Read, override (`a.b=value` each), check and resolve a space file.

    Relative paths in the file start at its folder, those in an override at the working folder. ConfigError with every
    problem, in the order of the file.
    """
    document, problems = _opened(path, overrides)
    if storage is not None:
        document.set(("storage",), str(storage), f"--storage {storage}")
    problems += document.refused.values()
    config, found = _validated(document, Path(os.path.abspath(path)).parent)
    problems += found
    if problems or config is None:
        raise ConfigError(_in_order(problems))
    return config


def located(error: ConfigError, path: Path, overrides: Sequence[str] = ()) -> ConfigError:
    """The same, of what only model or rows could tell, with the line of each key, or the option that set it."""
    document, _ = _opened(path, overrides)
    return ConfigError([_placed(one, document) for one in error.problems])


def _opened(path: Path, overrides: Sequence[str]) -> tuple[Document, list[Problem]]:
    """What is written there, with what overrides set, and what is wrong with either."""
    document = read(path)
    problems = list(document.problems)
    _write_out_short_forms(document)
    for option in overrides:
        try:
            document.override(option)
        except ConfigError as error:
            problems += error.problems
    return document, problems


def _placed(problem: Problem, document: Document) -> Problem:
    """With its line, where it is about a key of the document: `search.warm_start[0]`."""
    keys: KeyPath = tuple(int(key) if key.isdigit() else key for key in re.findall(r"[^.\[\]]+", problem.where))
    if problem.file or not keys or keys[0] not in document.values:
        return problem
    return document.problem(keys, problem.message)


def _validated(document: Document, base: Path) -> tuple[StudyConfig | None, list[Problem]]:
    """The configuration where it can be made, and what is wrong all the same."""
    problems = [*_drop_unknown_sections(document), *_name(document)]
    _resolve(document, base)
    values: dict[str, Any] = {name: value for name, value in document.values.items() if value is not None}
    faults: list[Fault] = []
    wrong: set[str] = set()
    if isinstance(values.get("space"), dict):
        written = values["space"]
        values["space"], found = parse_space(written)
        faults += [(("space", *path), message) for path, message in found]
        if values.get("model") is None and (names := models_of(values["space"])):
            values["model"] = {"name": names[0]}
        wrong = (written.keys() - values["space"].parameters.keys()) | {str(path[0]) for path, _ in found if path}
    values.setdefault("tracking", {})  # else its default, of the environment, would be checked apart from all others
    config: StudyConfig | None = None
    try:
        config = StudyConfig.model_validate({**values, "base": base})
        sections = dict(config)
    except ValidationError as error:
        problems += problems_of(error, document, StudyConfig)
        broken = {one["loc"][0] for one in error.errors() if one["loc"]}
        sections = {
            name: _adapter(name).validate_python(values[name]) if name in values else info.default
            for name, info in _SECTIONS.items()
            if name not in broken
        }
    for name, section in sections.items():
        if name in values and name != "space":
            faults += coerced(values[name], section, (name,))
    faults += check(sections, wrong)
    wanted = [(path, message) for path, message in faults if not _is_refused(path, document)]
    return config, problems + [document.problem(path, message) for path, message in wanted]


def _write_out_short_forms(document: Document) -> None:
    """`sampler: tpe` becomes {type: tpe}, so that an override can set a key of it."""
    search = document.values.get("search")
    if isinstance(search, dict):
        for name in _SHORT:
            if isinstance(search.get(name), str):
                search[name] = {"type": search[name]}


def _drop_unknown_sections(document: Document) -> Iterator[Problem]:
    for name in [name for name in document.values if name not in _SECTIONS]:
        yield document.problem((name,), f"unknown key; {nearest(name, _SECTIONS)}")
        del document.values[name]


def _name(document: Document) -> Iterator[Problem]:
    """Put the date and the number into the study's name."""
    values = document.values
    name = values.get("study")
    if not isinstance(name, str):
        return
    number = os.environ.get(NUMBER, "")
    if "{number}" in name and not re.fullmatch(r"[0-9]{1,9}", number):
        message = f"{{number}} is what {NUMBER} says in the environment, a whole number; it is {number!r}, so set it"
        yield document.problem(("study",), message)
        number = "0"
    if "{number}" in name and type(seed := values.get("seed", _SECTIONS["seed"].default)) is int:
        values["seed"] = seed + int(number)
    date = os.environ.get(DATE) or datetime.now(UTC).strftime("%Y-%m-%d")
    values["study"] = name.replace("{date}", date).replace("{number}", number)


def _resolve(document: Document, base: Path) -> None:
    """Make paths absolute: those of the file from `base`, those of an option from here."""
    values = document.values
    model = values.get("model")
    for path in (("data",), ("stages", "adapt", "data")):
        files: Any = values
        for key in (*path, "files"):
            files = files.get(key) if isinstance(files, Mapping) else None
        for split, name in files.items() if isinstance(files, dict) else ():
            if isinstance(name, str) and name:
                files[split] = _absolute(name, (*path, "files", split), document, base)
    if isinstance(model, dict) and "name" in model:
        model["name"] = _folders_of(model["name"], ("model", "name"), document, base)
    if (
        isinstance(model, dict)
        and isinstance(teacher := model.get("teacher"), str)
        and not teacher.startswith("models:")
    ):
        model["teacher"] = _absolute(teacher, ("model", "teacher"), document, base)
    for holder, place in _naming_models(values):
        holder["model"] = _folders_of(holder["model"], (*place, "model"), document, base)


def _naming_models(values: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], KeyPath]]:
    """Every mapping that has the hyperparameter `model` as a key: ranges, conditions, first points."""
    space, search = values.get("space"), values.get("search")
    holders: list[tuple[Any, KeyPath]] = [(space, ("space",))]
    for name, own in space.items() if isinstance(space, dict) else ():
        if isinstance(own, dict):
            holders.append((own.get("when"), ("space", name, "when")))
    first = search.get("first") if isinstance(search, dict) else None
    for place, own in enumerate(first if isinstance(first, list) else ()):
        holders.append((own, ("search", "first", place)))
    return ((holder, path) for holder, path in holders if isinstance(holder, dict) and "model" in holder)


def _folders_of(written: Any, path: KeyPath, document: Document, base: Path) -> Any:
    """Names of models as they are; where they are those of folders, the whole paths."""
    if isinstance(written, dict):
        return {key: _folders_of(own, (*path, key), document, base) for key, own in written.items()}
    if isinstance(written, list):
        return [_folders_of(own, (*path, place), document, base) for place, own in enumerate(written)]
    if not isinstance(written, str) or not written or written.startswith(PACKAGE):
        return written
    folder = _absolute(written, path, document, base)
    return folder if os.path.isdir(folder) else written


def _absolute(name: str, path: KeyPath, document: Document, base: Path) -> str:
    given_here = any(path[: len(known)] == known for known in document.origins)
    expanded = os.path.expanduser(name)
    return os.path.abspath(expanded if given_here else os.path.join(base, expanded))


def _adapter(name: str) -> TypeAdapter[Any]:
    info = _SECTIONS[name]
    annotated: Any = Annotated[(info.annotation, *info.metadata)] if info.metadata else info.annotation
    return TypeAdapter(annotated)


def _is_refused(path: KeyPath, document: Document) -> bool:
    """Whether the fault only follows from a value that the syntax refused."""
    return any(path[: len(refused)] == refused for refused in document.refused)


def _in_order(problems: Sequence[Problem]) -> list[Problem]:
    """By line, those of the command line first; none twice."""
    return sorted(dict.fromkeys(problems), key=lambda problem: problem.line or 0)
