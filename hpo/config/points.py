"""Points of a space that are named, not sampled: the default configuration, the BERT paper's grid, the user's own."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Literal, TypeAlias

from hpo.space import Fixed, Scalar, SearchSpace
from hpo.training.hyperparameters import ADAPT, BERT_PAPER_GRID, DEFAULT_DROPOUT, Hyperparameters

FIRST = frozenset({"model", "adapt"})
"""Hyperparameters whose first value is the default configuration's."""

GRID: Final = "bert-paper-grid"

First: TypeAlias = Literal["default", "bert-paper-grid"] | dict[str, Any]
"""An item of `search.first`; a mapping names what differs from the default configuration."""


def default_point(space: SearchSpace) -> dict[str, Scalar]:
    """The default configuration, for every parameter that varies."""
    defaults = Hyperparameters().model_dump()
    defaults |= {f"{ADAPT}{name}": value for name, value in defaults.items()}
    known = {name: DEFAULT_DROPOUT if defaults[name] is None else defaults[name] for name in space.varying}
    return known | {name: own.at(0.0) for name, own in space.varying.items() if name in FIRST}


def moved_default(space: SearchSpace) -> dict[str, tuple[Scalar, Scalar]]:
    """(the usual value, the one in its place) of every parameter whose default the space has no room for."""
    usual = default_point(space)
    return {
        name: (usual[name], now) for name, now in space.project(usual).items() if name in usual and usual[name] != now
    }


def first_points(first: Iterable[First], space: SearchSpace) -> list[tuple[str, dict[str, Scalar]]]:
    """(origin, params) each, as near to what was asked for as the space allows, none twice.

    A point that is also the default configuration is called so, wherever it comes: results are compared with it.
    Points of the grid that break a constraint are left out. ValueError where a mapping's own values break one.
    """
    items = list(first)
    default = space.project(default_point(space)) if "default" in items else None
    points: list[tuple[str, dict[str, Scalar]]] = []
    for item in items:
        for origin, changes in _expanded(item):
            point = default_point(space) | dict(changes)
            if origin == GRID and not space.allows(_without_rules(space).project(point)):
                continue
            params = _pinned(space, changes if origin == "first" else {}).project(point)
            if all(params != known for _, known in points):
                points.append(("default" if params == default else origin, params))
    return points


def left_out(first: Iterable[First], space: SearchSpace) -> tuple[str, ...]:
    """What `first_points` does not bring because of the constraints, in words."""
    if GRID not in first:
        return ()
    free = _without_rules(space)
    grid = [free.project(default_point(space) | dict(changes)) for _, changes in _expanded(GRID)]
    broken = sum(not space.allows(params) for params in grid)
    return (f"{broken} of {len(grid)} points of {GRID} break a constraint and are left out",) if broken else ()


def _pinned(space: SearchSpace, changes: Mapping[str, Scalar]) -> SearchSpace:
    """The space with some values given: what the constraints ask for is changed elsewhere."""
    own = {
        name: Fixed(known.nearest(changes[name]), known.when) if name in changes else known
        for name, known in space.parameters.items()
    }
    return SearchSpace(own, space.constraints)


def _without_rules(space: SearchSpace) -> SearchSpace:
    return SearchSpace(space.parameters)


def _expanded(first: First) -> Iterator[tuple[str, Mapping[str, Scalar]]]:
    """One item of `first` as points: what differs from the default configuration."""
    match first:
        case "default":
            yield "default", {}
        case "bert-paper-grid":
            for values in itertools.product(*BERT_PAPER_GRID.values()):
                yield GRID, dict(zip(BERT_PAPER_GRID, values, strict=True))
        case changes:
            yield "first", changes
