import json

from hpo.tracking.view import TAG_LIMIT, run_color, view_tag


def test_a_view_fits_the_tag_however_many_params_there_are() -> None:
    names = [f"a_param_with_a_long_name_{number}" for number in range(500)]
    _, text = view_tag("abc", "accuracy", "max", names, names[:300])
    assert len(text) <= TAG_LIMIT
    assert f"params.`{names[0]}`" in json.loads(text)["selectedColumns"]


def test_a_metric_to_minimise_is_sorted_upwards() -> None:
    _, text = view_tag("abc", "loss", "min", ["learning_rate"], ["learning_rate"])
    assert json.loads(text)["orderByAsc"] is True


def test_charts_have_only_params_that_every_trial_has() -> None:
    _, text = view_tag("abc", "accuracy", "max", ["learning_rate", "focal_gamma"], ["learning_rate"])
    view = json.loads(text)
    assert "params.`focal_gamma`" in view["selectedColumns"]
    assert view["compareRunCharts"][0]["selectedParams"] == ["learning_rate"]


def test_neighbouring_trials_have_different_colours() -> None:
    assert len({run_color(number) for number in range(10)}) == 10
