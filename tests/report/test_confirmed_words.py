"""The closing words where the winner was confirmed over fresh seeds."""

import pytest

from hpo.records import Confirmed
from hpo.report.answers import can_i_have_it
from hpo.report.findings import Background
from hpo.report.pages import write_report
from hpo.report.summary import summary_markdown, summary_text

WINNER = Confirmed(
    number=10,
    origin="tpe",
    first=0.7751,
    values=(0.75, 0.76, 0.77),
    mean=0.76,
    low=0.7352,
    high=0.7848,
    gain=0.03,
    gain_low=-0.004,
    gain_high=0.064,
)
DEFAULT = Confirmed(
    number=0, origin="default", first=0.74, values=(0.72, 0.73, 0.74), mean=0.73, low=0.7052, high=0.7548
)


@pytest.fixture
def confirmed(summary):
    return summary.model_copy(update={"confirmed": (WINNER, DEFAULT)})


def test_a_confirmed_winner_is_said_by_its_mean_with_what_tuning_bought_and_how_lucky_it_was(confirmed):
    text = summary_text(confirmed)
    assert "confirmed   accuracy 0.7600 (95 %: 0.7352 to 0.7848), the mean over 3 fresh seeds on 400 rows\n" in text
    assert "the default reaches 0.7300 on the same seeds: +3.0 points (95 %: -0.4 to +6.4)\n" in text
    assert "its first score, 0.7751, was 1.5 points too good\n" in text
    another = WINNER.model_copy(update={"number": 3, "first": 0.77})
    several = confirmed.model_copy(update={"confirmed": (WINNER, another, DEFAULT)})
    assert "was 1.5 points too good; those of all 2 leaders on average " in summary_text(several)
    assert "\n  validation" not in text
    assert "the mean over 3 fresh seeds" in summary_markdown(confirmed)


def test_a_winner_among_several_is_said_to_be_the_best_of_their_means(confirmed, trials, space, tmp_path):
    own = confirmed.model_copy(update={"confirmed": (WINNER.model_copy(update={"among": 4}), DEFAULT)})
    assert "(95 %: 0.7352 to 0.7848), the best of 4 means over 3 fresh seeds on 400 rows\n" in summary_text(own)
    write_report(tmp_path, own, trials, Background(space.varying))
    assert (
        "named by its mean, the best of 4 means and so a little too good itself" in (tmp_path / "report.md").read_text()
    )


def test_a_confirmed_default_bought_nothing(confirmed):
    text = summary_text(confirmed.model_copy(update={"best": confirmed.baseline, "confirmed": (DEFAULT, WINNER)}))
    assert "the default configuration won, so tuning bought nothing" in text
    assert "on the same seeds" not in text


def test_one_seed_has_no_interval_to_say(confirmed):
    bare = {"low": None, "high": None, "gain_low": None, "gain_high": None, "values": (0.76,)}
    text = summary_text(confirmed.model_copy(update={"confirmed": (WINNER.model_copy(update=bare), DEFAULT)}))
    assert "accuracy 0.7600, the mean over 1 fresh seed on 400 rows" in text
    assert "+3.0 points\n" in text


def test_a_loss_below_its_first_value_was_too_bad_and_has_no_points(confirmed):
    better = WINNER.model_copy(update={"first": 0.31, "mean": 0.30, "gain": 0.02, "gain_low": 0.01, "gain_high": 0.03})
    default = DEFAULT.model_copy(update={"first": 0.33, "mean": 0.32})
    changes = {"metric": "loss", "mode": "min", "confirmed": (better, default)}
    text = summary_text(confirmed.model_copy(update=changes))
    assert "+0.0200 (95 %: +0.0100 to +0.0300)" in text
    assert "its first score, 0.3100, was 0.0100 too bad" in text


def test_seeds_that_are_all_alike_make_no_interval_anywhere(confirmed, trials, space, tmp_path):
    alike = {"values": (1.0, 1.0, 1.0), "mean": 1.0, "low": None, "high": None, "gain_low": None, "gain_high": None}
    certain = confirmed.model_copy(update={"confirmed": (WINNER.model_copy(update=alike), DEFAULT)})
    assert "accuracy 1.0000 (all seeds alike), the mean over 3 fresh seeds on 400 rows\n" in summary_text(certain)
    write_report(tmp_path, certain, trials, Background(space.varying))
    text = (tmp_path / "report.md").read_text()
    assert "How sure: **all seeds alike**" in text
    assert "| 0.7751 | 1.0000 | all seeds alike | 1.0000, 1.0000, 1.0000 |" in text
    assert "1.0000 to 1.0000" not in text


def test_whose_seed_is_served_is_said_with_what_it_was_chosen_among(confirmed):
    served = confirmed.model_copy(update={"replicate": 2})
    own = "trial 10, seed 2, the best of its 3 fresh seeds on the validation rows"
    assert f"its weights: {own}\n" in summary_text(served)
    assert can_i_have_it(served).endswith(f"Its weights are those of {own}.")
    assert "weights" not in summary_text(confirmed)
