"""One entry of the ledger: an Optuna trial, and what it says as a TrialRecord. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from hpo.records import BASELINE, Answered, Exploited, Failure, Seeds, TrialRecord, TrialState, is_owed
from hpo.space import Choice, FloatRange, IntRange, Params, Scalar, Varying

if TYPE_CHECKING:
    import optuna

PARTS = 1_000_000
"""The ledger counts progress in millionths: Optuna's steps are whole numbers."""


CURVE = "curve"
"""Attribute with the curve of a trial by its own progress, where Optuna's intermediate values are not that: they count
another amount of training, or there are none, of several objectives."""

TOLD = "told"
"""Attribute with what the scheduler told the trial, and what it has been through."""

TOLD_FIELDS = frozenset({"exploits", "answered", "setbacks", "micro_batch", "adapt_micro_batch"})


DROPPED = "dropped"
"""Mark of a trial that is none of the space any more, with the state and the values that it had."""

ENDED = "ended"
"""In the outcome of a trial that took weights from others: the state and the values that it ended with. Optuna holds it
for failed, since what it was proposed with did not earn these values, and so no sampler learns from it."""

HIDDEN = frozenset({"repeats", "rejected", "left_out", "imported"})
"""Marks of entries that are no trials of this study: proposals that were never trained, and evidence of others."""


def part_of(progress: float) -> int:
    """Progress in millionths."""
    return round(progress * PARTS)


def parts_of(trial: "optuna.trial.FrozenTrial") -> dict[int, float]:
    """What was reported, by millionths of progress."""
    kept = {int(part): value for part, value in trial.user_attrs.get(CURVE, {}).items()}
    return kept or dict(trial.intermediate_values)


def curve_of(values: Mapping[int, float]) -> dict[float, float]:
    return {part / PARTS: value for part, value in sorted(values.items())}


def attributes_of(trial: "optuna.trial.FrozenTrial") -> dict[str, Any]:
    """What `ask` and `enqueue` wrote; a crash between Optuna's ask and ours leaves its params only."""
    found: dict[str, Any] = trial.user_attrs.get("hpo", {"origin": "sampler", "params": dict(trial.params)})
    return found


def told_of(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """What `Ledger.told` wrote, as fields of a TrialRecord."""
    told = attributes.get(TOLD, {})
    return {
        "exploits": tuple(Exploited.model_validate(one) for one in told.get("exploits", ())),
        "answered": Answered.model_validate(told["answered"]) if told.get("answered") else None,
        "setbacks": tuple(Failure.model_validate(one) for one in told.get("setbacks", ())),
        "micro_batch": told.get("micro_batch"),
        "adapt_micro_batch": told.get("adapt_micro_batch"),
    }


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


def was_started(trial: "optuna.trial.FrozenTrial") -> bool:
    return trial.state.name != "WAITING"


def unfinished_of(study: "optuna.Study") -> "list[optuna.trial.FrozenTrial]":
    """Those that wait or run, by number."""
    import optuna

    states = optuna.trial.TrialState
    return study.get_trials(deepcopy=False, states=(states.WAITING, states.RUNNING))


def owed_of(trials: "Iterable[optuna.trial.FrozenTrial]") -> "list[optuna.trial.FrozenTrial]":
    """Those that wait and that the study trains whatever its budget is."""
    return [trial for trial in trials if not was_started(trial) and is_owed(attributes_of(trial)["origin"])]


def record_of(trial: "optuna.trial.FrozenTrial", seeds: Seeds, checkpoints: Path) -> TrialRecord:
    """checkpoints: the folder that holds them; the ledger knows their names only."""
    attributes, outcome = attributes_of(trial), trial.user_attrs.get("outcome", {})
    is_dropped = DROPPED in attributes
    ended = attributes[DROPPED] if is_dropped else {"state": trial.state.name, "values": trial.values}
    ended = {**ended, **outcome.get(ENDED, {})}
    state = TrialState("failed" if ended["state"] == "FAIL" else ended["state"].lower())
    return TrialRecord(
        number=trial.number,
        state=state,
        origin=attributes["origin"],
        params=attributes["params"],
        value=ended["values"][0] if state is TrialState.COMPLETE and ended["values"] and not is_dropped else None,
        curve=curve_of(parts_of(trial)),
        metrics=outcome.get("metrics", {}),
        seeds=seeds,
        checkpoint=checkpoints / outcome["checkpoint"] if outcome.get("checkpoint") else None,
        seconds=outcome.get("seconds"),
        reason=outcome.get("reason"),
        **told_of(trial.user_attrs),
        dropped=is_dropped,
    )


def has_outcome(entry: "optuna.trial.FrozenTrial") -> bool:
    """Of a run over a fresh seed: whether it was trained to its end, be it a bad one, and not given up."""
    return entry.state.name in ("COMPLETE", "FAIL")


def run_of(entry: "optuna.trial.FrozenTrial", seeds: Seeds, checkpoints: Path) -> TrialRecord:
    """Of a run over a fresh seed: with the number of the trial that is retrained, and the replicate."""
    mark = entry.user_attrs["hpo"]
    record = record_of(entry, seeds, checkpoints)
    return record.model_copy(update={"number": mark["of"], "replicate": mark["replicate"]})


def suggest(trial: "optuna.trial.Trial", name: str, own: Varying) -> Scalar:
    """The trial's value of a parameter that varies: the one it has, else the sampler's."""
    match own:
        case Choice():
            return cast(Scalar, trial.suggest_categorical(name, own.values))
        case IntRange():
            return trial.suggest_int(name, own.low, own.high, step=own.step, log=own.log)
        case FloatRange():
            return trial.suggest_float(name, own.low, own.high, step=own.step, log=own.log)
