"""What a study takes over: finished trials of other studies, and what is left of its own after its space was changed.

Of the same model, data, task and metric, trials are evidence for a sampler that learns. Of anything else, the best ones
are first points: what was good on one task is worth a try on another (Feurer et al., AAAI 2015). Never imported: a
winner. Every study is used once.
"""

import fnmatch
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hpo.config import StudyConfig
from hpo.errors import ConfigError, Problem
from hpo.ledger import Ledger
from hpo.ledger.fit import fit
from hpo.ledger.past import PastStudy, read_named, read_studies
from hpo.mlflow_client import without_password
from hpo.objectives import NO_LIMITS, Limits
from hpo.records import TrialRecord, TrialState
from hpo.report import words
from hpo.space import Params
from hpo.study.folder import MODELS, SAVED, STAGE_DATA
from hpo.study.trials import again_of, has_weights, ranked
from hpo.training.hyperparameters import ADAPT, Hyperparameters

_KNOWN = {name: own for name, own in Hyperparameters().model_dump().items() if own is not None}
TRAINED_WITHOUT: Params = {**_KNOWN, **{f"{ADAPT}{name}": own for name, own in _KNOWN.items()}}
"""What a trial trains with where its assignment is silent; a dropout is the model's own, and not known here."""


def trained_without(config: StudyConfig) -> Params:
    """The same, with the model that trials of this study start from where they name none."""
    adapted = {"adapt": True} if config.stages else {}
    return {**TRAINED_WITHOUT, **adapted, "model": config.model.name}


KEY = "search.warm_start"

FIRST = 3
"""Points that another task gives, best ones first."""

LOOKED_AT = 30
"""Trials that these are taken from: to bring one into a space with rules can take half a second."""

_LEARN = frozenset({"tpe", "gp"})
"""Samplers to which a trial that they did not propose is evidence."""


@dataclass(frozen=True)
class Source:
    """A study that is there to be used. name: as it was asked for, without a password. saved: its study.json."""

    name: str
    past: PastStudy
    saved: Mapping[str, Any]


def find(config: StudyConfig, done: frozenset[str]) -> list[Source]:
    """The studies that `search.warm_start` names, but for those that were used before. ConfigError with all that are
    not there, ServiceError where a ledger can't be read."""
    found: dict[str, Source] = {}
    problems: list[Problem] = []
    for index, name in enumerate(config.search.warm_start):
        try:
            for source in _sources(name, config, done):
                found.setdefault(source.name, source)
        except ValueError as error:
            problems.append(Problem(f"search.warm_start[{index}]", str(error)))
    if problems:
        raise ConfigError(problems)
    return list(found.values())


def take_over(
    sources: Sequence[Source], ledger: Ledger, config: StudyConfig, facts: Mapping[str, str]
) -> tuple[str, ...]:
    """Bring in what each of the sources has. A crash on the way is made good by the next run. Returns, in words, which
    sources have nothing to give yet: they are asked again by the next run. ConfigError where a source has nothing in
    common with the space."""
    empty = []
    for source in sources:
        strange = _differs(source, config, facts)
        defaults = {**trained_without(config), "model": _our_name(source, config, facts) or ""}
        fitting = [
            record.model_copy(update={"params": params})
            for record in source.past.records
            if record.state is not TrialState.FAILED
            and not record.exploits  # what it began with did not earn its values
            and isinstance(params := fit(record.params, config.space, defaults), dict)
        ]
        told = f"warm start from {source.name}:"
        if strange is None and fitting and config.search.sampler.type in _LEARN:
            count = ledger.bring_in(source.name, fitting)
            ledger.take_over(source.name, f"{told} {_as_evidence(count, source.past)}")
        elif points := list(_first_points(source.past, config)):
            ledger.enqueue((f"warm:{source.past.name}", point) for point in points)
            why = strange or _no_evidence(source.past, fitting, config)
            said = f"its best {words.count(len(points), 'assignment')} tried first ({why})"
            ledger.take_over(source.name, f"{told} {said}")
        else:
            empty.append(f"{told} it has no complete trial yet; --resume looks again")
    return tuple(empty)


def _as_evidence(count: int, past: PastStudy) -> str:
    left = len(past.records) - count
    why = "failed, outside of the space, or tried here too"
    if any(record.exploits for record in past.records):
        why = "failed, trained with changing values, outside of the space, or tried here too"
    return f"{words.count(count, 'trial')} taken over as evidence" + (f", {left} left out ({why})" if left else "")


def _no_evidence(past: PastStudy, fitting: Sequence[TrialRecord], config: StudyConfig) -> str:
    if fitting:
        return f"{config.search.sampler.type} takes no evidence"
    is_changing = all(record.exploits for record in past.records if record.state is not TrialState.FAILED)
    return "its trials changed their values on the way" if is_changing else "another space"


def train_again(ledger: Ledger, mode: Literal["min", "max"], limits: Limits = NO_LIMITS) -> None:
    """Queue the best trial once more where its weights are gone: after a change of the space it may have lost its
    checkpoint to one that does not fit. Not for a study that confirms: its winner's weights are of a fresh seed."""
    records = ledger.records()
    best = next(iter(ranked(records, mode, limits)), None)
    if best is None or has_weights(best) or best.final_params in ledger.queued:
        return
    if not any(has_weights(twin) or not twin.state.is_finished for twin in again_of(best, records)):
        ledger.train_again(best)


def _sources(name: str, config: StudyConfig, done: frozenset[str]) -> Iterator[Source]:
    """ValueError in words where nothing is there."""
    shown = without_password(name)
    if "://" in name:
        if shown not in done:
            yield _only(shown, read_studies(_existing(name), key=KEY), {})
        return
    folder = (config.base / Path(name).expanduser()) if "/" in name else config.storage / name
    if "/" not in name and any(sign in name for sign in "*?["):
        for other in fnmatch.filter(_studies(config.storage), name):
            saved = _saved(config.storage / other)
            if other != config.study and other not in done and (found := _found(config.storage / other, saved)):
                yield _only(other, found, saved)
        return
    if shown in done:
        return
    if folder.resolve() == config.folder.resolve():
        raise ValueError(f"{name} is this study itself, which goes on with --resume; name another one")
    if not _is_study(folder):
        there = [other for other in _studies(config.storage) if other != config.study]
        listed = f"{config.storage} has {', '.join(there)}" if there else f"{config.storage} has no other study"
        raise ValueError(f"{name} has no ledger ({folder / 'ledger.db'}); {listed}")
    yield _in_folder(shown, folder)


def _studies(storage: Path) -> list[str]:
    return sorted(folder.name for folder in storage.glob("*") if _is_study(folder))


def _is_study(folder: Path) -> bool:
    return (folder / "ledger.db").is_file() or _ledger_of(_saved(folder)) is not None


def _in_folder(name: str, folder: Path) -> Source:
    saved = _saved(folder)
    return _only(name, _found(folder, saved), saved)


def _found(folder: Path, saved: Mapping[str, Any]) -> list[PastStudy]:
    """One, unless its driver ended before it had a ledger."""
    if url := _ledger_of(saved):
        return read_named(url, str(saved["config"]["study"]), key=KEY)
    return read_studies((folder / "ledger.db").resolve(), key=KEY)


def _saved(folder: Path) -> dict[str, Any]:
    """Its study.json; empty where it never began, or is no study of ours: nothing is known about its task."""
    try:
        saved: dict[str, Any] = json.loads((folder / SAVED).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return saved


def _ledger_of(saved: Mapping[str, Any]) -> str | None:
    """The database server of its ledger, where it is not a file of its folder."""
    url: str | None = saved.get("config", {}).get("ledger")
    return url


def _existing(url: str) -> str:
    """A URL of SQLite makes the file that it names: not here."""
    path = url.partition("sqlite:///")[2]
    if path and not Path(path).is_file():
        raise ValueError(f"{url} names a file that is not there; name a ledger, such as sqlite:////data/x/ledger.db")
    return url


def _only(name: str, studies: Sequence[PastStudy], saved: Mapping[str, Any]) -> Source:
    if len(studies) != 1:
        listed = ", ".join(study.name for study in studies) or "none"
        raise ValueError(f"{name} holds {len(studies)} studies ({listed}); name the folder of one")
    return Source(name, studies[0], saved)


def _differs(source: Source, config: StudyConfig, facts: Mapping[str, str]) -> str | None:
    """What makes its values no evidence here; None where they were measured on the same."""
    theirs, ours = source.saved.get("config", {}), json.loads(config.to_json())
    known = source.saved.get("facts", {})
    if not theirs:
        return "nobody knows its data"
    if theirs.get("task") != ours["task"]:
        return "another task"
    if theirs.get("stages") != ours.get("stages") or known.get(STAGE_DATA) != facts.get(STAGE_DATA):
        return "other stages"
    if _metrics(theirs, config) != tuple(config.objectives) or source.past.mode != config.mode:
        return "another metric"
    if _our_name(source, config, facts) is None:
        return "another model"
    others, own = json.loads(known.get(MODELS, "{}")), _digests(config, facts)
    if any(others[name] != own[name] for name in others.keys() & own.keys()):
        return "another model"
    if known.get("teacher_sha256") != facts.get("teacher_sha256"):
        return "another teacher"
    return "other data" if known.get("data_sha256") != facts["data_sha256"] else None


def _digests(config: StudyConfig, facts: Mapping[str, str]) -> dict[str, str]:
    """sha256 of each model's weights, by name."""
    return {config.model.name: facts["model_sha256"], **json.loads(facts.get(MODELS, "{}"))}


def _our_name(source: Source, config: StudyConfig, facts: Mapping[str, str]) -> str | None:
    """The model of this study that those trials started from which name none."""
    theirs = source.saved.get("facts", {}).get("model_sha256")
    return next((name for name, digest in _digests(config, facts).items() if digest == theirs), None)


def _metrics(saved: Mapping[str, Any], config: StudyConfig) -> tuple[str, ...]:
    asked = saved.get("search", {}).get("metric") or config.task.default_metric
    return (asked,) if isinstance(asked, str) else tuple(asked)


def _first_points(past: PastStudy, config: StudyConfig) -> Iterator[Params]:
    """The best few, as near as this space comes to them. ConfigError where they have no searched parameter of it."""
    best = ranked(past.records, past.mode)
    if best and not any(record.params.keys() & config.space.varying.keys() for record in best):
        raise ConfigError(
            [
                Problem(
                    "search.warm_start",
                    f"{past.name} has nothing in common with this space, which searches "
                    f"{', '.join(config.space.varying)}; leave it out",
                )
            ]
        )
    points: list[Params] = []
    for record in best[:LOOKED_AT]:
        point = config.space.project({**config.default_point(), **record.final_params})
        if point in points:
            continue
        points.append(point)
        yield point
        if len(points) == FIRST:
            return
