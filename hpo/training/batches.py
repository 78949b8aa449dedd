"""Which rows go together: batches of similar length, in an order that depends on seed and epoch alone."""

import math
from collections.abc import Callable, Iterator

import numpy as np

from hpo.encoded import Array

Choose = Callable[[int], Array]
"""Epoch, from 0 -> the numbers of its rows, as many in each."""

_POOL = 50
"""The most batches' worth of rows that are sorted by length together: near 1.05 tokens paid for one used."""

_POOLS = 4
"""The least pools of an epoch, so that few rows are mixed, too: in one pool the same rows share a batch in every epoch,
whatever the seed. Both as in transformers' `get_length_grouped_indices`."""


def length_grouped(lengths: Array, batch_size: int, *, seed: int, epoch: int) -> list[Array]:
    """Every row once. lengths: (rows,). Returns row numbers, batch by batch; one of them may be smaller."""
    draw = np.random.default_rng((seed, epoch))
    order = draw.permutation(len(lengths))
    batches: list[Array] = []
    size = batch_size * max(1, min(_POOL, len(order) // (_POOLS * batch_size)))
    for start in range(0, len(order), size):
        pool = order[start : start + size]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        batches += [pool[place : place + batch_size] for place in range(0, len(pool), batch_size)]
    return [batches[place] for place in draw.permutation(len(batches))]


def steps_per_epoch(rows: int, batch_size: int, accumulation: int) -> int:
    """Optimiser steps; the last one of an epoch may hold fewer batches."""
    return math.ceil(math.ceil(rows / batch_size) / accumulation)


def drawn(lengths: Array, batch_size: int, choose: Choose | None, *, seed: int, epoch: int) -> list[Array]:
    """As `length_grouped`, of the rows that `choose` has for an epoch; None: of all."""
    if choose is None:
        return length_grouped(lengths, batch_size, seed=seed, epoch=epoch)
    rows = choose(epoch)
    return [rows[batch] for batch in length_grouped(lengths[rows], batch_size, seed=seed, epoch=epoch)]


def micro_batches(
    lengths: Array, batch_size: int, accumulation: int, *, seed: int, choose: Choose | None = None
) -> Iterator[list[Array]]:
    """Endless: the batches of one optimiser step after the other."""
    epoch = 0
    while True:
        batches = drawn(lengths, batch_size, choose, seed=seed, epoch=epoch)
        for start in range(0, len(batches), accumulation):
            yield batches[start : start + accumulation]
        epoch += 1


def split(rows: Array, most: int | None) -> list[Array]:
    """`rows` in order, in as few and as even parts as there can be of at most `most` each; None: in one."""
    if most is None or len(rows) <= most:
        return [rows]
    return np.array_split(rows, math.ceil(len(rows) / most))


def sorted_by_length(lengths: Array, tokens: int) -> list[Array]:
    """Every row once, longest first, at most `tokens` padded tokens a batch. For evaluation, where order is free."""
    order = np.argsort(-lengths, kind="stable")
    batches, start = [], 0
    while start < len(order):
        size = max(1, tokens // max(1, int(lengths[order[start]])))
        batches.append(order[start : start + size])
        start += size
    return batches
