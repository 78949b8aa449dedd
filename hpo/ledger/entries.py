"""One entry of the ledger: an Optuna trial, and what it says as a TrialRecord. Pure."""

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from hpo.records import Exploited, Seeds, TrialRecord, TrialState
from hpo.space import Choice, FloatRange, IntRange, Params, Scalar, Varying

if TYPE_CHECKING:
    import optuna

PARTS = 1_000_000
"""The ledger counts progress in millionths: Optuna's steps are whole numbers."""


CURVE = "curve"
"""Attribute with the curve of a trial of several objectives, for which Optuna keeps no intermediate values."""

EXPLOITS = "exploits"
"""Attribute with all that the trial took from others of its population."""


BASELINE = "default"
"""Origin of the default configuration."""

DROPPED = "dropped"
"""Mark of a trial that is none of the space any more, with the state and the values that it had."""

HIDDEN = frozenset({"repeats", "rejected", "left_out", "imported"})
"""Marks of entries that are no trials of this study: proposals that were never trained, and evidence of others."""


def part_of(progress: float) -> int:
    """Progress in millionths."""
    return round(progress * PARTS)


def parts_of(trial: "optuna.trial.FrozenTrial") -> dict[int, float]:
    """What was reported, by millionths of progress."""
    kept = {int(part): value for part, value in trial.user_attrs.get(CURVE, {}).items()}
    return {**trial.intermediate_values, **kept}


def curve_of(values: Mapping[int, float]) -> dict[float, float]:
    return {part / PARTS: value for part, value in sorted(values.items())}


def attributes_of(trial: "optuna.trial.FrozenTrial") -> dict[str, Any]:
    """What `ask` and `enqueue` wrote; a crash between Optuna's ask and ours leaves its params only."""
    found: dict[str, Any] = trial.user_attrs.get("hpo", {"origin": "sampler", "params": dict(trial.params)})
    return found


def exploits_of(attributes: Mapping[str, Any]) -> tuple[Exploited, ...]:
    return tuple(Exploited.model_validate(one) for one in attributes.get(EXPLOITS, ()))


def is_trial(trial: "optuna.trial.FrozenTrial") -> bool:
    """Whether it was started here, to be trained."""
    return was_started(trial) and not attributes_of(trial).keys() & HIDDEN


def is_live(trial: "optuna.trial.FrozenTrial") -> bool:
    """Whether it is a trial of the space as it is now: trained, running or queued."""
    return not attributes_of(trial).keys() & (HIDDEN | {DROPPED})


def new_points(
    points: Iterable[tuple[str, Params]], trials: "Sequence[optuna.trial.FrozenTrial]"
) -> Iterator[tuple[str, Params]]:
    """Those (origin, params) that no trial has; of the default configuration, that no trial has under this name."""
    live = [attributes_of(trial) for trial in trials if is_live(trial)]
    known = [own["params"] for own in live]
    defaults = [own["params"] for own in live if own["origin"] == BASELINE]
    for origin, params in points:
        if dict(params) not in (defaults[-1:] if origin == BASELINE and defaults else known):
            known.append(dict(params))
            yield origin, params


def refused_in_a_row(trials: "Sequence[optuna.trial.FrozenTrial]") -> int:
    """How many of the latest entries are proposals that were not trained."""
    refused = (attributes_of(trial).keys() & {"repeats", "rejected"} for trial in reversed(trials))
    return sum(1 for _ in itertools.takewhile(bool, refused))


def was_started(trial: "optuna.trial.FrozenTrial") -> bool:
    return trial.state.name != "WAITING"


def record_of(trial: "optuna.trial.FrozenTrial", seeds: Seeds, checkpoints: Path) -> TrialRecord:
    """checkpoints: the folder that holds them; the ledger knows their names only."""
    attributes, outcome = attributes_of(trial), trial.user_attrs.get("outcome", {})
    name = attributes[DROPPED]["state"] if DROPPED in attributes else trial.state.name
    state = TrialState("failed" if name == "FAIL" else name.lower())
    return TrialRecord(
        number=trial.number,
        state=state,
        origin=attributes["origin"],
        params=attributes["params"],
        value=trial.values[0] if state is TrialState.COMPLETE and trial.values else None,
        curve=curve_of(parts_of(trial)),
        metrics=outcome.get("metrics", {}),
        seeds=seeds,
        checkpoint=checkpoints / outcome["checkpoint"] if outcome.get("checkpoint") else None,
        seconds=outcome.get("seconds"),
        reason=outcome.get("reason"),
        exploits=exploits_of(trial.user_attrs),
        dropped=DROPPED in attributes,
    )


def distribution_of(own: Varying) -> "optuna.distributions.BaseDistribution":
    """The same that `suggest` asks for."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    match own:
        case Choice():
            return CategoricalDistribution(own.values)
        case IntRange():
            return IntDistribution(own.low, own.high, log=own.log, step=own.step)
        case FloatRange():
            return FloatDistribution(own.low, own.high, log=own.log, step=own.step)


def suggest(trial: "optuna.trial.Trial", name: str, own: Varying) -> Scalar:
    """The trial's value of a parameter that varies: the one it has, else the sampler's."""
    match own:
        case Choice():
            return cast(Scalar, trial.suggest_categorical(name, own.values))
        case IntRange():
            return trial.suggest_int(name, own.low, own.high, step=own.step, log=own.log)
        case FloatRange():
            return trial.suggest_float(name, own.low, own.high, step=own.step, log=own.log)


def hashed(*parts: int | str) -> int:
    """31 bits that depend on all parts and on nothing else."""
    digest = hashlib.sha256(json.dumps(parts).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
