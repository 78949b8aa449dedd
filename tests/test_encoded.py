"""Rows of different lengths, one after the other."""

import numpy as np
import pytest

from hpo.encoded import Ragged


@pytest.mark.parametrize("texts", [[], [""], ["a", "", "naïve 東京", "\ud800 lone", "x" * 1_000]])
def test_texts_come_back_as_they_were(texts: list[str]) -> None:
    ragged = Ragged.of_texts(texts)
    assert [ragged.text(row) for row in range(len(ragged))] == texts
    assert (ragged.values.dtype, ragged.offsets.dtype) == (np.uint8, np.int64)
    slowly = Ragged.of([text.encode("utf-8", "surrogatepass") for text in texts], np.uint8)
    assert np.array_equal(ragged.values, slowly.values)
    assert np.array_equal(ragged.offsets, slowly.offsets)
