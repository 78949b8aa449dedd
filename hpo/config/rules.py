"""The `constraints:` section: rules between hyperparameters, bound to the space whose assignments they leave out.

    constraints:
      - per_device_train_batch_size * max_length <= 8192
      - warmup_ratio <= 0.1 or learning_rate >= 3e-5

They name hyperparameters of the space and numbers of the task. The language itself is in `hpo.constraints`.
"""

import itertools
import math
from collections.abc import Iterator, Sequence

from hpo.config.parameters import FIELDS, Fault
from hpo.config.syntax import shown
from hpo.constraints import Constraint, Kind, parse
from hpo.space import Choice, Fixed, Parameter, SearchSpace
from hpo.tasks import Task

LEAST_SHARE = 0.001
"""Of the space, that the rules have to leave: below it, a sampler draws a thousand times for each trial."""

_ENUMERATED = 5_000
"""Spaces of no more assignments are looked at one by one."""


def bind(space: SearchSpace, texts: Sequence[str], task: Task) -> tuple[SearchSpace, list[Fault]]:
    """The space with those rules that can be read and say something about it, and what is wrong with the others."""
    kinds = {name: _kind(own) for name, own in space.parameters.items()}
    numbers = {name: value for name, value in task if isinstance(value, int | float) and not isinstance(value, bool)}
    rules: list[Constraint] = []
    faults: list[Fault] = []
    for index, text in enumerate(texts):
        try:
            rule = parse(text, kinds, numbers)
        except ValueError as error:
            faults.append((("constraints", index), _of_the_space(str(error), text, space)))
            continue
        if not rule.names & space.varying.keys():
            named = ", ".join(sorted(rule.names)) or "a hyperparameter"
            faults.append((("constraints", index), f"{shown(text)} says nothing: {named} does not vary; remove it"))
        elif any(rule == known for known in rules):
            faults.append((("constraints", index), f"{shown(text)} is there already; remove it"))
        else:
            rules.append(rule)
    return SearchSpace(space.parameters, tuple(rules)), faults


def check_room(space: SearchSpace, texts: Sequence[str]) -> Iterator[Fault]:
    """Refuse rules that leave (almost) nothing to search. texts: those of the section, for the place of the fault."""
    if not space.constraints:
        return
    if (space.size or math.inf) <= _ENUMERATED:
        left = len(list(itertools.islice(space.grid(), 2)))
        if left < 2:
            what = "one assignment" if left else "nothing"
            yield _place(space, texts), f"the rules leave {what} of the space; widen them, or the space"
        return
    share = space.share_allowed()
    if share < LEAST_SHARE:
        yield (
            _place(space, texts),
            f"the rules leave {f'{share:.2%} of' if share else 'next to nothing of'} the space; widen them, or write "
            "what they leave as the ranges themselves (an == on a range of real numbers is a fixed value)",
        )


def _place(space: SearchSpace, texts: Sequence[str]) -> tuple[str | int, ...]:
    """Of the rule that leaves nothing by itself; else the section."""
    for rule in space.constraints:
        if SearchSpace(space.parameters, (rule,)).share_allowed(1_000) < LEAST_SHARE:
            return "constraints", list(texts).index(rule.text)
    return ("constraints",)


def _kind(own: Parameter) -> Kind:
    values = own.values if isinstance(own, Choice) else (own.value,) if isinstance(own, Fixed) else ()
    if any(isinstance(value, str) for value in values):
        return "text"
    return "truth" if any(isinstance(value, bool) for value in values) else "number"


def _of_the_space(message: str, text: str, space: SearchSpace) -> str:
    """A hyperparameter that exists but is not in this space is worth another remedy than a misspelled one."""
    name = message.split(" ", 1)[0]
    if name in FIELDS and name not in space.parameters and name in text:
        return f"{name} is not in the space, so trials take its default; add it there, or leave it out here"
    return message
