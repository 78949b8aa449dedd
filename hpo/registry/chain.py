"""The chain of champions of one name: which promotions stand, and which version is the champion.

Pure: what the registry holds goes in, what it means comes out. Must not know MLflow.

The registry can't compare and set, but it gives versions their numbers in one order, and their first tags with them.
Whoever judges a challenger first remembers the highest number (`seen`), then asks who the champion is; a promoted
version stands if no other promotion that stands got a number in between, as that one it never met. One that does not
stand has lost a race and is judged again. So by induction every link of the chain met the one before it, or what a
person had put in that one's place, and the last link is the head. The alias follows the head.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

Act: TypeAlias = Literal["gate", "by-hand", "rollback"]
"""How a version came to be promoted: by its test, past the gate, or as an older champion that returned."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A version as the chain sees it. against: the version compared with, or replaced. seen: the highest number when
    that was looked up. copy_of: the version whose files it has, for what people did. is_settled: the alias was here.
    """

    number: int
    is_promoted: bool
    act: Act = "gate"
    against: int | None = None
    seen: int = 0
    copy_of: int | None = None
    is_settled: bool = True
    lost: int | None = None

    @property
    def origin(self) -> int:
        return self.copy_of or self.number


@dataclass(frozen=True)
class Chain:
    """All versions of a name, and where the alias is. moving: versions that some writer of this program is just
    putting the alias on, or was when it died."""

    entries: tuple[Entry, ...] = ()
    alias: int | None = None
    moving: frozenset[int] = frozenset()

    @cached_property
    def links(self) -> tuple[Entry, ...]:
        """The promotions that stand, the oldest first."""
        found: list[Entry] = []
        for entry in sorted(self.entries, key=lambda own: own.number):
            if entry.is_promoted and _not_met(entry, found) is None:
                found.append(entry)
        return tuple(found)

    @property
    def head(self) -> Entry | None:
        return self.links[-1] if self.links else None

    @property
    def seen(self) -> int:
        """The highest number; 0 where there are no versions."""
        return max((entry.number for entry in self.entries), default=0)

    @property
    def is_by_hand(self) -> bool:
        """Whether a person put the alias where it is: it is not at the head, the head once had it, and no writer of
        this program can have moved it away. A missing alias makes nobody champion, so the head stays the one to beat.
        """
        if self.alias is None or self.alias in self.moving:
            return False
        return self.head is None or (self.alias != self.head.number and self.head.is_settled)

    @property
    def champion(self) -> int | None:
        """The version that a challenger has to beat."""
        if self.is_by_hand:
            return self.alias
        return self.head.number if self.head else None

    @property
    def is_at_rest(self) -> bool:
        """Whether the alias is where it belongs, and known to be."""
        if self.head is None or self.is_by_hand:
            return True
        if not self.head.is_settled:
            return False
        return self.alias == self.head.number or (self.alias is None and not self.moving)

    def lost_to(self, number: int) -> int | None:
        """The champion that came in between, for a promotion that does not stand."""
        entry = self.entry(number)
        if entry is None or not entry.is_promoted:
            return None
        return _not_met(entry, [link for link in self.links if link.number < number])

    def entry(self, number: int) -> Entry | None:
        return next((entry for entry in self.entries if entry.number == number), None)

    @cached_property
    def line(self) -> tuple[int, ...]:
        """The champions one after the other, the oldest first, without those that rollbacks took back."""
        found: list[int] = []
        for link in self.links:
            if link.act == "rollback" and link.origin in found:
                del found[_last(found, link.origin) + 1 :]
            elif link.origin != (found[-1] if found else None):  # else it is served again
                found.append(link.origin)
        return tuple(found)

    def before(self, number: int) -> int | None:
        """The version to return to when the champion `number` has to go; None where there was none before it."""
        entry = self.entry(number)
        origin = entry.origin if entry else number
        if origin not in self.line:  # a person put it there: what it stands in the way of is the head
            return self.line[-1] if self.line else None
        place = _last(self.line, origin)
        return self.line[place - 1] if place else None


def _not_met(entry: Entry, links: Iterable[Entry]) -> int | None:
    """The newest of the links that came after the champion was looked up, and is neither that one nor before it."""
    if entry.lost is not None:
        return entry.lost
    since = max(entry.seen, entry.against or 0)
    return max((link.number for link in links if since < link.number < entry.number), default=None)


def _last(line: Sequence[int], number: int) -> int:
    return len(line) - 1 - line[::-1].index(number)
