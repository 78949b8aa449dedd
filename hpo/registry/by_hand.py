"""What people do past the gate: promote a version, or return to an earlier champion.

Either is a new version with the files of the old one, so that the numbers stay the order of the chain, and whoever is
just testing a challenger against the replaced champion finds out. Must not know the gate.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from hpo.errors import ModelError
from hpo.registry import words
from hpo.registry.chain import Act, Chain
from hpo.registry.succession import ACT, AGAINST, CHAMPION, COPY_OF, LOST_TO, Read, Succession
from hpo.registry.version import DECISION, ORIGIN, SHA256, Version, model_id_of, version_of

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

BY = "hpo.by"
REASON = "hpo.reason"
_KEPT = (DECISION, ORIGIN, SHA256, "hpo.study", "hpo.trial", "hpo.test_score")


def rollback(succession: Succession, *, to: int | None, by: str, reason: str | None) -> Version:
    """Raises ModelError where there is nothing to return to, and where somebody was promoted meanwhile."""
    found = succession.settle()
    chain, name = found.chain, succession.name
    present = chain.champion
    if present is None:
        raise ModelError(f"{name}: it has no champion, so there is nothing to roll back; promote a version by hand")
    target = to if to is not None else chain.before(present)
    if target is None:
        raise ModelError(
            f"{name}: version {present} is its first champion, so there is none to return to; "
            "promote another version by hand, or delete the alias in MLflow"
        )
    earlier = {origin for link in chain.links for origin in (link.number, link.origin)}
    if target not in earlier or target not in found.versions:
        past = _listed(number for number in earlier if number in found.versions)
        raise ModelError(
            f"{name}: version {target} has never been its champion; {past} have. "
            f"To make it one past the gate: {succession.command('promote', f' --version {target}')}"
        )
    return _act(succession, found, "rollback", target, present, by, reason)


def promote(succession: Succession, number: int, *, by: str, reason: str | None) -> Version:
    """Raises ModelError where there is no such version or it is served as champion, and where somebody was promoted
    meanwhile."""
    found = succession.settle()
    if number not in found.versions:
        raise ModelError(
            f"{succession.name}: there is no version {number}; there are {_listed(found.versions)}. "
            f"What they are: {succession.command('history')}"
        )
    return _act(succession, found, "by-hand", number, found.chain.champion, by, reason)


def _act(
    succession: Succession, found: Read, act: Act, number: int, present: int | None, by: str, reason: str | None
) -> Version:
    chain = found.chain
    origin = _origin(chain, number)
    if present is not None and origin == _origin(chain, present) and chain.alias is not None:
        raise ModelError(f"{succession.name}: version {number} is the champion already; nothing was changed")
    source = found.versions[origin if origin in found.versions else number]
    tags = {key: source.tags[key] for key in _KEPT if key in source.tags}
    tags |= {ACT: act, COPY_OF: str(origin), BY: by} | ({REASON: reason} if reason else {})
    made = succession.enter(
        verdict="promote",
        seen=chain.seen,
        source=source.source,
        run_id=source.run_id,
        model_id=model_id_of(source),
        description=words.of_act(act, origin, present, by, reason),
        tags=tags | ({AGAINST: str(present)} if present is not None else {}),
    )
    return _settled(succession, made)


def _settled(succession: Succession, made: "ModelVersion") -> Version:
    number = int(made.version)
    after = succession.settle()
    if (rival := after.chain.lost_to(number)) is not None:
        succession.note(number, LOST_TO, str(rival))
        raise ModelError(
            f"{succession.name}: version {rival} became champion at the same moment, so nothing was changed; "
            f"look at it with `{succession.command('show')}`, and repeat the command if it has to go as well"
        )
    return version_of(after.versions[number], CHAMPION if after.chain.alias == number else None)


def _origin(chain: Chain, number: int) -> int:
    entry = chain.entry(number)
    return entry.origin if entry else number


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(str(number) for number in sorted(numbers)) or "none"
