"""Texts that are longer than a model reads: which part of them it sees, or all of them in windows. Must not know tasks.

Works on token ids with one special token before and one behind, as all encoders of one text have them.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

from hpo.tasks.contract import Tokenize
from hpo.tasks.reading import BLOCK

if TYPE_CHECKING:
    from hpo.encoded import Array, Encoded

Truncation: TypeAlias = Literal["head", "tail", "head_tail", "windows"]
"""head, tail: the first or the last tokens. head_tail: a quarter of them from the beginning, the others from the end
(Sun et al. 2019, arXiv:1905.05583, section 5.3.1). windows: everything, max_length tokens at a time; the mean of their
logits is the answer."""

MOST = 8_192
"""Tokens of a text; what is behind them is not read, whatever is asked for."""


def cut(ids: Sequence[int], max_length: int, how: Truncation, stride: int = 0) -> list[list[int]]:
    """The features of one text, each of at most max_length tokens, special ones included. stride: tokens that two
    windows share."""
    if len(ids) <= max_length:
        return [list(ids)]
    first, body, last = list(ids[:1]), ids[1:-1], list(ids[-1:])
    room = max_length - 2
    match how:
        case "head":
            parts = [body[:room]]
        case "tail":
            parts = [body[-room:]]
        case "head_tail":
            parts = [[*body[: room // 4], *body[-(room - room // 4) :]]]
        case "windows":
            starts = range(0, max(1, len(body) - stride), room - stride)
            parts = [body[start : start + room] for start in starts]
    return [[*first, *part, *last] for part in parts]


def encode(texts: Sequence[str], max_length: int, how: Truncation, stride: int, tokenize: Tokenize) -> "Encoded":
    """Ragged input_ids; a row of several windows is one of `owners`, which say how many tokens it has."""
    from hpo.encoded import OWNER, Encoded, Ragged

    features: list[list[int]] = []
    rows: list[int] = []
    lengths: list[list[int]] = []
    for start in range(0, len(texts), BLOCK):
        for ids in tokenize(list(texts[start : start + BLOCK]), None, MOST)["input_ids"]:
            parts = cut(ids, max_length, how, stride)
            features += parts
            rows += [len(lengths)] * len(parts)
            lengths.append([len(ids)])
    owners = Encoded({"lengths": Ragged.of(lengths)}, {})
    if how != "windows":
        return Encoded({"input_ids": Ragged.of(features)}, {})
    import numpy as np

    return Encoded({"input_ids": Ragged.of(features)}, {OWNER: np.array(rows, np.int64)}, owners)


def pooled(outputs: "Array", encoded: "Encoded") -> "Array":
    """(rows, classes) from (features, classes): the mean over the windows of a row."""
    import numpy as np

    from hpo.encoded import OWNER

    if encoded.owners is None:
        return outputs
    owner = encoded.flat[OWNER]
    sums = np.zeros((encoded.rows, outputs.shape[-1]), np.float64)
    np.add.at(sums, owner, outputs)
    means: Array = (sums / np.bincount(owner, minlength=encoded.rows)[:, None]).astype(np.float32)
    return means
