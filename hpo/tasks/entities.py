"""Entities of a sentence's tags, and how well some agree with others: the rules of conlleval (Tjong Kim Sang and
Buchholz 2000), which seqeval has too. A sentence is a list of tags, one a word.

One rule reads IOB1, IOB2, IOBES and BILOU alike, since each only says more than the one before. Tags without a prefix
are types themselves, and neighbours of one type are one entity.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

OUTSIDE = "O"

_PREFIXED = re.compile(r"[BIESLU]-.+", re.DOTALL)
_FIRST = frozenset("BSU")
_LAST = frozenset("ESLU")


@dataclass(frozen=True, slots=True, order=True)
class Entity:
    """Words [start, end) of a sentence."""

    start: int
    end: int
    type: str


def is_prefixed(tag: str) -> bool:
    """Whether a tag says how a word stands in its entity, as `B-person` does."""
    return _PREFIXED.fullmatch(tag) is not None


def type_of(tag: str) -> str:
    """`person` of `B-person`, and of `person`."""
    return tag[2:] if is_prefixed(tag) else tag


def entities(tags: Sequence[str]) -> list[Entity]:
    """In order. One begins where a prefix says so, behind another's end, and where the type changes."""
    found: list[Entity] = []
    start, before, kind = 0, OUTSIDE, ""
    for place, tag in enumerate([*tags, OUTSIDE]):
        prefix, own = (tag[0], tag[2:]) if is_prefixed(tag) else (OUTSIDE, "") if tag == OUTSIDE else ("I", tag)
        is_inside = prefix != OUTSIDE
        goes_on = is_inside and own == kind and prefix not in _FIRST and before not in _LAST | {OUTSIDE}
        if before != OUTSIDE and not goes_on:
            found.append(Entity(start, place, kind))
        if is_inside and not goes_on:
            start = place
        before, kind = prefix, own
    return found


def as_iob2(tags: Sequence[str]) -> list[str]:
    """The same entities in the one scheme that models learn here; tags without prefixes as they are."""
    if not any(map(is_prefixed, tags)):
        return list(tags)
    written = [OUTSIDE] * len(tags)
    for own in entities(tags):
        written[own.start : own.end] = [f"B-{own.type}", *[f"I-{own.type}"] * (own.end - own.start - 1)]
    return written


@dataclass(frozen=True, slots=True)
class Counts:
    """hits: entities with the right type and both ends right. said: predicted ones. there: true ones."""

    hits: int = 0
    said: int = 0
    there: int = 0

    @property
    def precision(self) -> float:
        return self.hits / self.said if self.said else 0.0

    @property
    def recall(self) -> float:
        return self.hits / self.there if self.there else 0.0

    @property
    def f1(self) -> float:
        return 2 * self.hits / (self.said + self.there) if self.said + self.there else 0.0


def count(said: Iterable[Entity], there: Iterable[Entity]) -> Counts:
    """Of one sentence."""
    own, true = set(said), set(there)
    return Counts(len(own & true), len(own), len(true))


def by_type(predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> dict[str, Counts]:
    """Over all sentences, for every type that is there or predicted, sorted."""
    hits, said, there = Counter[str](), Counter[str](), Counter[str]()
    for own, true in zip(predictions, references, strict=True):
        found, wanted = set(entities(own)), set(entities(true))
        hits.update(one.type for one in found & wanted)
        said.update(one.type for one in found)
        there.update(one.type for one in wanted)
    return {kind: Counts(hits[kind], said[kind], there[kind]) for kind in sorted(said | there)}


def figures(predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """f1, precision and recall of entities, over all sentences together; accuracy of tags."""
    parts = by_type(predictions, references).values()
    whole = Counts(*(sum(getattr(part, name) for part in parts) for name in ("hits", "said", "there")))
    pairs = [pair for own, true in zip(predictions, references, strict=True) for pair in zip(own, true, strict=True)]
    right = sum(own == true for own, true in pairs)
    return {
        "f1": whole.f1,
        "precision": whole.precision,
        "recall": whole.recall,
        "accuracy": right / len(pairs) if pairs else 0.0,
    }
