import pytest

from hpo.report import words


@pytest.mark.parametrize(
    ("value", "written"),
    [(3.14159e-5, "3.1e-05"), (0.1234, "0.12"), (16, "16"), (True, "True"), ("linear", "linear"), (123.456, "123.5")],
)
def test_values_are_short(value, written):
    assert words.short_value(value) == written


def test_params_keep_the_order_asked_for_and_leave_out_what_is_inactive():
    params = {"per_device_train_batch_size": 16, "learning_rate": 3e-5}
    names = ["learning_rate", "focal_gamma", "per_device_train_batch_size"]
    assert words.short_params(params, names) == "lr 3e-05  batch 16"


@pytest.mark.parametrize(("seconds", "written"), [(42, "00:42"), (187, "03:07"), (4000, "1:06:40"), (-1, "00:00")])
def test_clock(seconds, written):
    assert words.clock(seconds) == written


@pytest.mark.parametrize(("seconds", "written"), [(48.2, "48 s"), (192, "3 min 12 s"), (7500, "2 h 5 min")])
def test_duration(seconds, written):
    assert words.duration(seconds) == written


def test_a_gain_is_read_in_points_unless_the_metric_has_a_unit():
    assert words.gain("accuracy", 0.75, 0.70) == "+5.0 points"
    assert words.gain("mse", 0.30, 0.50) == "-0.2000"
