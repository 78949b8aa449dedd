"""Which sampler can serve which space, scheduler and number of metrics. Each fault says what to take instead.

Refuses what cannot work, not what is slow: NSGA-II and GP learn from complete trials alone, and still serve under ASHA.
"""

from collections.abc import Iterator
from typing import Any

from hpo.config.parameters import Fault
from hpo.config.schema import SearchConfig
from hpo.schedulers import PbtConfig
from hpo.space import Choice, FloatRange, SearchSpace

BLIND = frozenset({"random", "grid", "qmc"})
"""Samplers that propose without a look at results. All others learn from the values that trials end with."""

CHANGES_TRIALS = frozenset({"pbt"})
"""Schedulers under which a trial ends with other values than it was proposed with."""

ONE_METRIC = frozenset({"cmaes"})
"""Samplers that follow a single value."""

MAX_GRID = 100_000
"""Points of a grid. More are no plan; and every proposal passes over those that were tried."""

_SAMPLER = ("search", "sampler", "type")


def misfit(sampler: str, scheduler: str) -> str | None:
    """Why the two cannot serve together, and what can; None where they can."""
    if scheduler in CHANGES_TRIALS and sampler not in BLIND:
        return (
            f"{scheduler} changes values while a trial trains, so how it ends is no evidence for what {sampler} "
            f"proposed; take {_one_of(BLIND)}, or another scheduler, such as asha"
        )
    return None


def check_pairs(search: SearchConfig, space: SearchSpace | None) -> Iterator[Fault]:
    """Every fault of sampler and scheduler. space: None where it is not known in full, and then passed over."""
    sampler = search.sampler.type
    if message := misfit(sampler, search.scheduler.type):
        yield _SAMPLER, message
    if sampler in ONE_METRIC and (count := _metrics(search.metric)) > 1:
        what = f"{sampler} searches for one metric, and search.metric names {count}"
        yield _SAMPLER, f"{what}; name one, or take another sampler, such as tpe or nsga2"
    if space is not None:
        if isinstance(search.scheduler, PbtConfig):
            yield from ((("search", "scheduler", *path), text) for path, text in search.scheduler.faults(space))
            if "model" in space.varying:
                what = "pbt hands weights from one trial to another, which all have to be of one model"
                yield ("space", "model"), f"{what}; write one, or take another scheduler, such as asha"
        match sampler:
            case "grid":
                yield from _grid(space)
            case "cmaes":
                yield from _cmaes(space)


def _grid(space: SearchSpace) -> Iterator[Fault]:
    for name, own in space.varying.items():
        if isinstance(own, FloatRange) and own.step is None:
            values = "its values as a list" if own.log else "a step, or its values as a list"
            yield (
                ("space", name),
                f"a range without a step has no grid; write {values}, or take another sampler, such as qmc",
            )
    if (size := space.size) is not None and size > MAX_GRID:
        yield (
            _SAMPLER,
            f"the grid of this space has {size:,} points, and {MAX_GRID:,} are allowed; write fewer values or longer "
            "steps, or take another sampler, such as qmc",
        )


def _cmaes(space: SearchSpace) -> Iterator[Fault]:
    ranges = {name: own for name, own in space.varying.items() if not isinstance(own, Choice)}
    if not ranges:
        what = "only choices vary" if space.varying else "nothing varies"
        yield _SAMPLER, f"cmaes learns how to draw ranges, and {what} here; write a range, or take tpe"
    for name, own in ranges.items():
        if own.when:
            yield (
                ("space", name, "when"),
                "cmaes needs every range in every trial; remove the condition, or take another sampler, such as tpe",
            )


def _metrics(metric: Any) -> int:
    return 1 if metric is None or isinstance(metric, str) else len(metric)


def _one_of(names: frozenset[str]) -> str:
    *first, last = sorted(names)
    return f"{', '.join(first)} or {last}"
