"""Scores as the official scripts give them, and the search for the best answer."""

import numpy as np
import pytest

from hpo.tasks import squad


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  Denver Broncos!", "denver broncos"),
        ("an apple, a day", "apple day"),
        ("Santa Clara, California.", "santa clara california"),
        ("the", ""),
        ("theatre", "theatre"),
        ("Beyonc\u00e9", "beyonc\u00e9"),
        ("20\u201316", "20\u201316"),
        ("$1.2 million", "12 million"),
    ],
)
def test_texts_are_normalised_as_officially(text: str, expected: str) -> None:
    assert squad.normalised(text) == expected


@pytest.mark.parametrize(
    ("said", "true", "exact", "f1"),
    [
        ("Denver Broncos", "the Denver Broncos", 1.0, 1.0),
        ("Broncos", "Denver Broncos", 0.0, 2 / 3),
        ("in 1976 or so", "1976", 0.0, 0.4),
        ("b b a c", "b c c", 0.0, 2 * 2 / (3 + 3)),
        ("left", "right", 0.0, 0.0),
        ("", "right", 0.0, 0.0),
        ("", "", 1.0, 1.0),
        ("the", "", 1.0, 1.0),
    ],
)
def test_one_answer_scores_as_officially(said: str, true: str, exact: float, f1: float) -> None:
    assert squad.exact_match(said, true) == exact
    assert squad.f1(said, true) == pytest.approx(f1)


def test_the_reference_that_fits_best_counts_and_no_references_ask_for_no_answer() -> None:
    assert squad.best_of(squad.f1, "gold", ["golden", "the gold", "gold medal"]) == 1.0
    assert squad.best_of(squad.f1, "", []) == 1.0
    assert squad.best_of(squad.f1, "gold", []) == 0.0
    found = squad.figures([["gold"], [""], ["x"]], [["gold", "golden"], [], ["y"]])
    assert found == pytest.approx({"exact_match": 2 / 3, "f1": 2 / 3})


def window(first: list[float], last: list[float], starts: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Words of three characters; a start of -1 is a token that is not of the text."""
    places = np.array(starts)
    return np.stack([first, last], axis=1).astype(float), places, np.where(places < 0, -1, places + 3)


def test_the_best_answer_lies_within_the_text_forwards_and_is_not_too_long() -> None:
    first, last = [9.0, 1.0, 5.0, 0.0, 2.0], [9.0, 6.0, 0.0, 1.0, 5.5]
    one = window(first, last, [-1, 0, 4, 8, 12])
    found = squad.best_answer([one], 3, with_null=False)
    assert (found.start, found.end, found.score) == (4, 15, 10.5)  # not backwards to the 6.0, nor the special token
    assert (found.null, found.null_share) == (18.0, 0.0)
    assert 0.0 < found.share < 1.0
    short = squad.best_answer([one], 1, with_null=False)
    assert (short.start, short.end, short.score) == (12, 15, 7.5)


def test_the_best_of_all_windows_counts_and_no_answer_is_worth_what_the_worst_one_says() -> None:
    weak = window([1.0, 2.0], [1.0, 2.0], [-1, 0])
    strong = window([3.0, 4.0], [0.5, 4.0], [-1, 40])
    found = squad.best_answer([weak, strong], 5, with_null=True)
    assert (found.start, found.end, found.score, found.null) == (40, 43, 8.0, 2.0)
    assert found.share + found.null_share <= 1.0
    nothing = squad.best_answer([window([1.0], [1.0], [-1])], 5, with_null=True)
    assert (nothing.start, nothing.end, nothing.share, nothing.null_share) == (0, 0, 0.0, 1.0)


def test_scores_of_any_size_give_probabilities() -> None:
    with np.errstate(all="raise"):
        found = squad.best_answer([window([900.0, 800.0], [0.0, 100.0], [-1, 0])], 5, with_null=True)
    assert found.share == pytest.approx(0.5)


def test_the_threshold_for_no_answer_is_the_best_there_is() -> None:
    margins = np.array([-3.0, -1.0, 0.5, 2.0])
    given, none = np.array([1.0, 0.8, 0.0, 0.0]), np.array([0.0, 0.0, 1.0, 1.0])
    threshold = squad.best_threshold(margins, given, none)
    assert -1.0 < threshold < 0.5
    assert squad.best_threshold(margins, np.ones(4), np.zeros(4)) > 2.0  # always an answer
    assert squad.best_threshold(margins, np.zeros(4), np.ones(4)) < -3.0  # never
    draw = np.random.default_rng(1)
    for _ in range(50):
        margins = draw.integers(-3, 4, 12).astype(float)
        given, none = draw.random(12), (draw.random(12) < 0.4).astype(float)
        threshold = squad.best_threshold(margins, given, none)
        reached = np.where(margins > threshold, none, given).mean()
        best = max(np.where(margins > one, none, given).mean() for one in (*margins, -9.0))
        assert reached == pytest.approx(best)


def test_the_threshold_is_finite_though_a_row_has_no_candidate() -> None:
    margins, given, none = np.array([-3.0, -1.0, np.inf]), np.array([1.0, 1.0, 0.0]), np.zeros(3)
    assert -1.0 < squad.best_threshold(margins, given, none) < np.inf
    assert squad.best_threshold(np.array([np.inf]), np.ones(1), np.zeros(1)) == 0.0
