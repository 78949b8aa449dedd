"""Pairs for the next-sentence objective (Devlin et al. 2019, 3.1, task 2): the second half of a text behind the first,
or that of another text. Must not know tasks.

What stands behind a first half is settled once, by the text and by those that it is read with.
"""

import re
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hpo.columns import IGNORED
from hpo.tasks.whole_words import Read

if TYPE_CHECKING:
    from hpo.encoded import Array

FOLLOWS, STRANGER, UNKNOWN = 0, 1, IGNORED
"""Classes, as BERT's own head has them; UNKNOWN: a text of one sentence, which has no second half."""

_BETWEEN = re.compile(r"(?<=[.!?])[\"')\]]*(\s+)|(\s*\n\s*)")


def halves(text: str) -> tuple[str, str]:
    """Parted between the two sentences that are nearest to the middle; all and nothing where it is one sentence."""
    ends = [found.span(found.lastindex or 0) for found in _BETWEEN.finditer(text)]
    inside = [(start, end) for start, end in ends if text[:start].strip() and text[end:].strip()]
    if not inside:
        return text, ""
    start, end = min(inside, key=lambda own: abs(own[0] - len(text) / 2))
    return text[:start], text[end:]


def pairs(texts: Sequence[str]) -> "tuple[list[str], list[str], Array]":
    """First halves, what stands behind them, and (rows,) what that is. About half are strangers, where there are two
    texts that have halves."""
    import numpy as np

    parted = [halves(text) for text in texts]
    whole = [row for row, (_, second) in enumerate(parted) if second]
    seconds, found = [second for _, second in parted], np.full(len(texts), UNKNOWN, np.int64)
    for place, row in enumerate(whole):
        drawn = zlib.crc32(texts[row].encode("utf-8", "surrogatepass"))
        found[row] = FOLLOWS
        if drawn & 1 and len(whole) > 1:
            other = whole[(place + 1 + (drawn >> 1) % (len(whole) - 1)) % len(whole)]
            seconds[row] = parted[other][1]
            found[row] = FOLLOWS if seconds[row] == parted[row][1] else STRANGER
    return [first for first, _ in parted], seconds, found


def joined(first: Read, second: Read, most: int) -> Read:
    """[CLS] first [SEP] second [SEP], at most so many tokens: the longer half is cut first."""
    import numpy as np

    ours, theirs, room = len(first.ids) - 2, len(second.ids) - 2, most - 3
    if is_cut := ours + theirs > room:
        ours = min(ours, max(room - theirs, (room + 1) // 2))
        theirs = room - ours
    special = np.full(1, -1, np.int32)
    behind = second.words[1 : 1 + theirs] + 1 + first.words.max(initial=-1)
    return Read(
        ids=[*first.ids[: 1 + ours], first.ids[-1], *second.ids[1 : 1 + theirs], first.ids[-1]],
        words=np.concatenate([first.words[: 1 + ours], special, behind, special]).astype(np.int32),
        goes_on=is_cut or first.goes_on or second.goes_on,
        types=np.repeat([0, 1], [ours + 2, theirs + 1]),
    )
