import math

import pytest

from hpo.report.figures import draw_curves, draw_params, draw_pictures, draw_trials
from hpo.space import Choice

PNG = b"\x89PNG\r\n\x1a\n"


def labels(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def test_a_study_has_three_pictures(summary, trials, space):
    pictures = draw_pictures(summary, trials, space.varying)
    assert list(pictures) == ["report-trials.png", "report-params.png", "report-curves.png"]
    assert all(content.startswith(PNG) and caption for content, caption in pictures.values())


def test_every_state_is_drawn_and_named(summary, trials):
    assert labels(draw_trials(summary, trials)) == ["complete", "pruned", "failed", "winner", "best so far", "default"]


def test_a_study_of_one_trial_can_be_drawn(summary, trials, space):
    alone = summary.model_copy(update={"best": trials[0], "baseline": None})
    assert len(draw_pictures(alone, trials[:1], space.varying)) == 3


def test_params_that_no_trial_has_get_no_panel(summary, trials, space):
    assert draw_params(summary, trials, {"frozen_layers": Choice((0, 2))}) is None
    drawn = draw_params(summary, trials, space.varying)
    assert [axes.get_xlabel() for axes in drawn.axes] == list(space.varying)
    assert drawn.axes[0].get_xscale() == "log"


def test_curves_run_over_epochs_so_that_trials_of_any_length_compare(summary, trials):
    axes = draw_curves(summary, trials).axes[0]
    assert axes.get_xlabel() == "epochs trained"
    assert max(max(line.get_xdata()) for line in axes.lines) == 4.0


def test_curves_run_over_the_part_trained_where_no_epochs_are_known(summary, trials):
    bare = [trial.model_copy(update={"params": {}}) for trial in trials]
    assert draw_curves(summary, bare).axes[0].get_xlabel() == "part of the trial's own training"


@pytest.mark.parametrize("curve", [{}, {10: math.nan}])
def test_no_curve_no_figure(summary, trials, curve):
    assert draw_curves(summary, [trials[0].model_copy(update={"curve": curve})]) is None
