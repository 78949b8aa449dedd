"""Points of a space that are named, not sampled: the default configuration, the BERT paper's grid, the user's own."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, TypeAlias

from hpo.space import Scalar, SearchSpace
from hpo.training.hyperparameters import BERT_PAPER_GRID, DEFAULT_DROPOUT, Hyperparameters

First: TypeAlias = Literal["default", "bert-paper-grid"] | dict[str, Any]
"""An item of `search.first`; a mapping names what differs from the default configuration."""


def default_point(space: SearchSpace) -> dict[str, Scalar]:
    """The default configuration, for every parameter that varies."""
    defaults = Hyperparameters().model_dump()
    return {name: DEFAULT_DROPOUT if defaults[name] is None else defaults[name] for name in space.varying}


def first_points(first: Iterable[First], space: SearchSpace) -> list[tuple[str, dict[str, Scalar]]]:
    """(origin, params) each, as near to what was asked for as the space allows, none twice.

    A point that is also the default configuration is called so, wherever it comes: results are compared with it.
    """
    items = list(first)
    default = space.project(default_point(space)) if "default" in items else None
    points: list[tuple[str, dict[str, Scalar]]] = []
    for item in items:
        for origin, changes in _expanded(item):
            params = space.project(default_point(space) | dict(changes))
            if all(params != known for _, known in points):
                points.append(("default" if params == default else origin, params))
    return points


def _expanded(first: First) -> Iterator[tuple[str, Mapping[str, Scalar]]]:
    """One item of `first` as points: what differs from the default configuration."""
    match first:
        case "default":
            yield "default", {}
        case "bert-paper-grid":
            for values in itertools.product(*BERT_PAPER_GRID.values()):
                yield "bert-paper-grid", dict(zip(BERT_PAPER_GRID, values, strict=True))
        case changes:
            yield "first", changes
