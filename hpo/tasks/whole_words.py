"""Texts as tokens that know which word they are a part of. Must not know tasks."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpo.tasks import reading
from hpo.tasks.contract import Tokenize

if TYPE_CHECKING:
    from hpo.encoded import Array

_WORD = re.compile(r"\w")


@dataclass(frozen=True, slots=True)
class Read:
    """A text as tokens, special ones included. words: (tokens,), the number of each one's word, -1 for special ones.
    types: (tokens,), 1 for those of a second half. goes_on: whether there is more of the text."""

    ids: list[int]
    words: "Array"
    goes_on: bool
    types: "Array | None" = None


def read(texts: Sequence[str], most: int, tokenize: Tokenize) -> list[Read]:
    """Each text, cut to so many tokens."""
    import numpy as np

    rows = []
    for start in range(0, len(texts), reading.BLOCK):
        block = list(texts[start : start + reading.BLOCK])
        found = tokenize.aligned(block, most)
        for text, ids, starts, ends in zip(block, found["input_ids"], found["starts"], found["ends"], strict=True):
            words = _words(text, starts, ends).astype(np.int32)
            rows.append(Read(ids, words, goes_on=len(text.rstrip()) > max(0, *ends)))
    return rows


def _words(text: str, starts: Sequence[int], ends: Sequence[int]) -> "Array":
    """The number of the word of each token, -1 for special ones. A token goes on with the word before it where letters
    or digits meet without anything between them."""
    import numpy as np

    numbers = np.full(len(starts), -1, np.int32)
    word, before = -1, -1
    for place, (start, end) in enumerate(zip(starts, ends, strict=True)):
        if start < 0 or end <= start:
            continue
        goes_on = start == before and bool(_WORD.match(text[start]) and _WORD.match(text[start - 1]))
        word += not goes_on
        numbers[place], before = word, end
    return numbers
