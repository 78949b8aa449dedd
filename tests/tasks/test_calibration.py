import numpy as np
import pytest

from hpo.encoded import Array
from hpo.tasks.calibration import bins, fit_temperature, log_loss, reliability
from hpo.tasks.reading import softmax


def drawn(rows: int, sharpened: float, seed: int = 0) -> tuple[Array, Array]:
    """Logits whose classes were drawn as they say, and then sharpened: their temperature is known."""
    draw = np.random.default_rng(seed)
    outputs = 2.0 * draw.normal(size=(rows, 3))
    truth = np.array([draw.choice(3, p=row) for row in softmax(outputs)])
    return outputs * sharpened, truth


def test_the_temperature_is_that_by_which_the_logits_were_sharpened() -> None:
    outputs, truth = drawn(20_000, 2.5)
    assert fit_temperature(outputs, truth) == pytest.approx(2.5, rel=0.03)


def test_no_other_temperature_has_a_smaller_loss() -> None:
    outputs, truth = drawn(500, 0.6)
    fitted = fit_temperature(outputs, truth)
    shares = [softmax(outputs / one)[np.arange(500), truth] for one in np.geomspace(0.05, 20.0, 4_000)]
    losses = [-np.log(own).mean() for own in shares]
    assert log_loss(outputs / fitted, truth) == pytest.approx(min(losses), abs=1e-6)


def test_of_two_rows_the_temperature_is_known_by_heart() -> None:
    """Logits 2 apart are right 3 times in 4: the odds that fit are 3, so 2 / T = ln 3."""
    outputs = np.array([[2.0, 0.0]] * 4)
    assert fit_temperature(outputs, np.array([0, 0, 0, 1])) == pytest.approx(2.0 / np.log(3.0), rel=1e-3)


def test_where_all_rows_are_right_nothing_is_fitted() -> None:
    assert fit_temperature(np.array([[3.0, 0.0], [0.0, 1.0]]), np.array([0, 1])) == 1.0


def test_bins_hold_all_rows_and_give_the_error() -> None:
    outputs, truth = drawn(3_000, 2.0)
    found = bins(softmax(outputs), truth)
    assert sum(own.rows for own in found) == 3_000
    assert all(own.low <= own.sure <= own.high for own in found)
    own = reliability(outputs, truth, drawn(3_000, 2.0, seed=1))
    assert own.bins == found
    assert own.error == pytest.approx(sum(one.rows * abs(one.sure - one.right) for one in found) / 3_000)
    assert own.fitted_on == 3_000
    assert own.error_after < 0.03 < own.error
