"""Generations of a study in its ledger: when the space changes, all trials are written anew under what it is now.

Optuna holds a parameter to one distribution for life, so a changed space is another Optuna study in the same database,
with the same trials under the same numbers. One that still fits has the new distributions; one that does not is kept
as history, out of every sampler's sight, and counts again should the space change back. A generation that was not
finished is made anew: the one before it stays as it was.
"""

import dataclasses
import json
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from hpo.draws import distribution_of
from hpo.ledger.entries import DROPPED, HIDDEN, attributes_of, was_started
from hpo.ledger.fit import fit
from hpo.space import Fixed, Parameter, Params, Scalar, SearchSpace

if TYPE_CHECKING:
    import optuna

Direction: TypeAlias = Literal["minimize", "maximize"]

SPACE, FINISHED, NOTES = "space", "finished", "notes"

TAKEN = "taken_over"
"""Attribute of the study: source -> what was taken over from it, in words."""

RUNS = " seeds"
"""Suffix of the Optuna study with the runs over fresh seeds. No study's own name has a space."""

SECONDS_USED = "seconds_used"
"""Attribute of the study: wall time of all its drivers."""

_GENERATION = re.compile(r"(.*)@(\d+)")
_LISTED = 8


def open_study(
    storage: "optuna.storages.BaseStorage",
    name: str,
    directions: Sequence[Direction],
    space: SearchSpace,
    defaults: Params,
) -> "optuna.Study":
    """The latest generation of study `name`, and a new one where its space is not `space`; made if it is not there."""
    import optuna

    numbers = {}
    for known in storage.get_all_studies():
        base, number = _base(known.study_name)
        if base == name and number and not known.user_attrs.get(FINISHED):
            optuna.delete_study(study_name=known.study_name, storage=storage)
        elif base == name:
            numbers[number] = known.study_name
    number = max(numbers, default=0)
    latest = numbers.get(number, name)
    study = optuna.create_study(study_name=latest, storage=storage, directions=list(directions), load_if_exists=True)
    shape = shape_of(space)
    if study.user_attrs.get(SPACE) == shape:
        return study
    trials = study.get_trials(deepcopy=False)
    if not trials:
        study.set_user_attr(SPACE, shape)
        return study
    fresh = optuna.create_study(study_name=f"{name}@{number + 1}", storage=storage, directions=list(directions))
    copies = [_copied(trial, space, defaults) for trial in trials]
    for trial, _ in copies:
        fresh.add_trial(trial)
    notes = [*study.user_attrs.get(NOTES, ()), _note(trials, [reason for _, reason in copies])]
    for key, value in {**study.user_attrs, SPACE: shape, NOTES: notes}.items():
        if key != FINISHED:
            fresh.set_user_attr(key, value)
    fresh.set_user_attr(FINISHED, True)
    return fresh


def latest_of(storage: "optuna.storages.BaseStorage") -> dict[str, str]:
    """Of every study in the storage: its name, and that of its latest generation that was finished."""
    found: dict[str, tuple[int, str]] = {}
    for known in storage.get_all_studies():
        base, number = _base(known.study_name)
        is_whole = not number or known.user_attrs.get(FINISHED)
        if is_whole and not base.endswith(RUNS) and number >= found.get(base, (0, ""))[0]:
            found[base] = (number, known.study_name)
    return {name: latest for name, (_, latest) in found.items()}


def _base(name: str) -> tuple[str, int]:
    match = _GENERATION.fullmatch(name)
    return (match[1], int(match[2])) if match else (name, 0)


def shape_of(space: SearchSpace) -> str:
    """Equal for spaces that say the same, in whatever order. The order of a list is part of what it says: Optuna holds
    it for another list."""
    parameters = [[name, type(own).__name__, _plain(own)] for name, own in sorted(space.parameters.items())]
    return json.dumps([parameters, sorted([rule.text, rule.numbers] for rule in space.constraints)])


def _plain(own: Parameter) -> dict[str, Any]:
    found = dataclasses.asdict(own)
    return found | {"when": sorted(found["when"], key=json.dumps)} if "when" in found else found


def entry(
    space: SearchSpace, params: dict[str, Scalar], *, state: Any, values: Sequence[float] | None, **fields: Any
) -> "optuna.trial.FrozenTrial":
    """An Optuna trial with an assignment of the space, as if it had been sampled here."""
    import optuna

    varying = {name: own for name, own in space.parameters.items() if name in params and not isinstance(own, Fixed)}
    return optuna.trial.create_trial(
        state=state,
        values=values,
        params={name: params[name] for name in varying},
        distributions={name: distribution_of(own) for name, own in varying.items()},
        constraints={rule.text: rule.violation(params) for rule in space.constraints},
        **fields,
    )


def _copied(
    trial: "optuna.trial.FrozenTrial", space: SearchSpace, defaults: Params
) -> tuple["optuna.trial.FrozenTrial", str | None]:
    """The trial as it is in the new generation, and what keeps it out of the space. Numbers go by order."""
    import optuna

    states = optuna.trial.TrialState
    attributes = dict(attributes_of(trial))
    was = attributes.pop(DROPPED, None) or {"state": trial.state.name, "values": trial.values}
    state, values = states[was["state"]], was["values"]
    fitted: dict[str, Scalar] | str = "it was cut off before it began"
    if "hpo" in trial.user_attrs and not attributes.keys() & HIDDEN - {"imported"}:
        fitted = fit(attributes["params"], space, defaults)
    if isinstance(fitted, dict):
        user_attrs = {**trial.user_attrs, "hpo": {**attributes, "params": fitted}}
        varying = {name: value for name, value in fitted.items() if name in space.varying}
        if state is states.WAITING:
            return optuna.trial.create_trial(
                state=state, system_attrs={"fixed_params": varying}, user_attrs=user_attrs
            ), None
        system = {
            key: value
            for key, value in trial.system_attrs.items()
            if not key.startswith(("constraints", "fixed_params")) and "relative_params" not in key
        }
        if "fixed_params" in trial.system_attrs:
            system["fixed_params"] = varying
        copy = entry(
            space,
            fitted,
            state=state,
            values=values,
            user_attrs=user_attrs,
            system_attrs=system,
            intermediate_values=trial.intermediate_values,
        )
        return _dated(copy, trial), None
    user_attrs = dict(trial.user_attrs)
    if not was_started(trial) or "hpo" not in user_attrs:
        attributes["left_out"] = True
    elif not attributes.keys() & HIDDEN - {"imported"}:
        attributes[DROPPED] = was
        if state is states.RUNNING:
            attributes[DROPPED] = {"state": states.FAIL.name, "values": None}
            reason = "the space changed before it had ended"
            user_attrs["outcome"] = {"metrics": {}, "checkpoint": None, "seconds": None, "reason": reason}
    copy = optuna.trial.create_trial(
        state=states.FAIL,
        user_attrs={**user_attrs, "hpo": attributes},
        intermediate_values=trial.intermediate_values,
    )
    return _dated(copy, trial), fitted


def _dated(copy: "optuna.trial.FrozenTrial", trial: "optuna.trial.FrozenTrial") -> "optuna.trial.FrozenTrial":
    copy.datetime_start = trial.datetime_start or copy.datetime_start
    if copy.datetime_complete is not None:
        copy.datetime_complete = trial.datetime_complete or copy.datetime_complete
    return copy


def _note(trials: Sequence["optuna.trial.FrozenTrial"], reasons: Sequence[str | None]) -> str:
    """What the change of the space kept and dropped. Trials that nobody sees are not spoken of."""
    kept = 0
    dropped: dict[str, list[int]] = defaultdict(list)
    for trial, reason in zip(trials, reasons, strict=True):
        if attributes_of(trial).keys() & HIDDEN or not was_started(trial):
            continue
        if reason is None:
            kept += 1
        else:
            dropped[reason].append(trial.number)
    words = f"the space changed: {kept} of {kept + sum(map(len, dropped.values()))} trials fit the new one and count"
    for reason, numbers in dropped.items():
        shown = ", ".join(map(str, numbers[:_LISTED])) + (", ..." if len(numbers) > _LISTED else "")
        words += f"; {len(numbers)} {'is' if len(numbers) == 1 else 'are'} history only: {reason} (trial {shown})"
    return words
