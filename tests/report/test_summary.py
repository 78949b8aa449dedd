from urllib.parse import unquote

from hpo.report.answers import can_i_have_it
from hpo.report.summary import predict_command, summary_markdown, summary_text, ui_address, ui_command


def test_the_closing_words_say_what_won_and_what_tuning_bought(summary):
    text = summary_text(summary)
    assert text.startswith("docstrings: 12 trials in 3 min 12 s (8 complete, 3 pruned, 1 failed)")
    assert "trial 10 (tpe)" in text
    assert "accuracy 0.7640 on 500 rows; the default reaches 0.7320: +3.2 points (95 %: -1.0 to +7.4)" in text
    assert "models:/docstrings@champion, promoted" in text
    assert "mlflow ui --backend-store-uri sqlite:///mlflow.db" in text
    assert "python -m hpo.predict --model models:/docstrings@champion" in text


def test_a_winning_default_bought_nothing(summary):
    text = summary_text(summary.model_copy(update={"best": summary.baseline}))
    assert "the default configuration won, so tuning bought nothing" in text


def test_a_kept_champion_is_said_with_its_reasons(summary):
    kept = summary.model_copy(
        update={"decision": "keep", "model_uri": "models:/d@challenger", "reasons": ("no better by 0.5 points",)}
    )
    text = summary_text(kept)
    assert "models:/d@challenger, the present champion is kept" in text
    assert "no better by 0.5 points" in text


def test_a_study_without_promotion_or_test_says_nothing_of_them(summary):
    bare = summary.model_copy(update={"test_best": None, "model_uri": None, "baseline": None, "tracking_uri": ""})
    text = summary_text(bare)
    assert "test" not in text
    assert "predict" not in text
    assert "mlflow" not in text


def test_where_nothing_is_promoted_the_last_words_say_where_the_winner_is_and_how_to_ask_it(
    summary, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    own = {"model_uri": None, "decision": None, "reasons": ()}
    kept = summary.model_copy(update={**own, "checkpoint": tmp_path / "studies/d/checkpoints/trial-0010"})
    text = summary_text(kept)
    assert "model       studies/d/checkpoints/trial-0010\n" in text
    command = "python -m hpo.predict --model studies/d/checkpoints/trial-0010 --input rows.tsv --output answers.tsv"
    assert text.endswith(f"predict     {command}")
    assert "the winner's checkpoint is studies/d/checkpoints/trial-0010." in can_i_have_it(kept)
    assert "no checkpoint was kept" in can_i_have_it(summary.model_copy(update=own))


def test_a_gain_without_an_interval_is_said_without_one(summary):
    matthews = summary.model_copy(
        update={
            "metric": "matthews",
            "test_best": {"matthews": 0.5},
            "test_baseline": {"matthews": 0.4},
            "test_gain": None,
        }
    )
    assert "matthews 0.5000 on 500 rows; the default reaches 0.4000: +10.0 points\n" in summary_text(matthews)


def test_a_default_that_the_space_had_no_room_for_is_not_taken_for_the_usual_one(summary):
    moved = summary.model_copy(update={"moved": {"learning_rate": (3e-5, 1e-4)}})
    assert "the default moved into the space: learning_rate 0.0001 instead of 3e-05" in summary_text(moved)
    assert "moved" not in summary_text(summary)


def test_the_address_is_the_view_that_the_tracker_keeps_for_this_study(summary):
    address = unquote(ui_address(summary))
    assert address.startswith("http://127.0.0.1:5000/#/experiments/1/runs?")
    assert "viewStateShareKey=abc123" in address


def test_a_server_needs_no_command(summary):
    remote = summary.model_copy(update={"tracking_uri": "https://mlflow.example.org/", "experiment_id": None})
    assert ui_command(remote.tracking_uri) is None
    assert ui_address(remote) == "https://mlflow.example.org"
    assert "mlflow ui" not in summary_text(remote)


def test_the_page_holds_the_same_words(summary):
    page = summary_markdown(summary)
    assert page.startswith("docstrings: 12 trials in 3 min 12 s")
    assert "+3.2 points" in page
    assert "\n      mlflow ui --backend-store-uri" in page


def test_a_password_is_not_printed(summary):
    for uri in ("postgresql+psycopg2://hpo:s3cret@db/mlflow", "http://hpo:s3cret@server:5000"):
        assert "s3cret" not in summary_text(summary.model_copy(update={"tracking_uri": uri}))


def test_a_command_names_the_store_unless_it_asks_it_by_itself(summary, monkeypatch):
    there = summary.model_copy(update={"tracking_uri": "http://me:s3cret@mlflow:5000"})
    named = "--tracking-uri 'http://me:***@mlflow:5000'"
    assert "--tracking-uri" not in predict_command(summary)
    assert predict_command(there).endswith(named)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", there.tracking_uri)
    assert predict_command(summary).endswith("--tracking-uri sqlite:///mlflow.db")
    assert "--tracking-uri" not in predict_command(there)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert "--tracking-uri" not in predict_command(summary)


def test_a_winner_without_a_default_beside_it_is_said_plainly(summary):
    alone = summary.model_copy(update={"baseline": None, "test_baseline": None})
    text = summary_text(alone)
    assert "validation  accuracy 0.7751 on 400 rows\n" in text
    assert "test        accuracy 0.7640 on 500 rows\n" in text
