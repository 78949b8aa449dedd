"""What people see of a finished study in MLflow: asked of a real server, by a real browser."""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pages
import pytest
from films import write_space
from mlflow_server import Server

pytestmark = [
    pytest.mark.xdist_group("browser"),
    pytest.mark.service,
    pytest.mark.skipif(pages.chromium() is None, reason="no Chromium on the PATH"),
    pytest.mark.skipif(importlib.util.find_spec("playwright") is None, reason="playwright is not installed"),
]


@dataclass(frozen=True)
class Seen:
    """A finished study behind a server. runs: ids by name."""

    uri: str
    experiment: str
    runs: dict[str, str]


@pytest.fixture(scope="module")
def seen(tiny_bert: Path, store_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    from mlflow import MlflowClient

    folder = tmp_path_factory.mktemp("seen")
    space = write_space(folder, tiny_bert)
    shutil.copy(store_template, folder / "mlflow.db")
    server = Server(folder)
    server.start()
    try:
        server.wait()
        arguments = ["--set", f"tracking.uri={server.uri}", "--set", "confirm={top: 1, seeds: 2}"]
        subprocess.run([sys.executable, "-m", "hpo.run", "--space", str(space), *arguments], check=True, env=os.environ)
        client = MlflowClient(server.uri)
        experiment = client.get_experiment_by_name("films")
        assert experiment is not None
        found = client.search_runs([experiment.experiment_id])
        ids = {str(run.info.run_name): run.info.run_id for run in found}
        yield Seen(server.uri, experiment.experiment_id, ids)
    finally:
        server.kill()


@pytest.fixture
def page() -> Iterator[Any]:
    with pages.browser() as own:
        yield own


def test_the_trials_stand_side_by_side_with_the_columns_that_matter(seen: Seen, page: Any) -> None:
    page.goto(pages.trials(seen.uri, seen.experiment, seen.runs["films"]))
    for name in ("trial-0000", "trial-0003"):
        page.get_by_text(name).first.wait_for()
    heads = page.get_by_role("columnheader").all_inner_texts()
    for head in ("best_accuracy", "confirmed_mean", "learning_rate", "num_train_epochs", "hpo.origin"):
        assert any(head[:8] in own for own in heads), heads


def test_the_trials_hang_under_their_study_and_seeds_under_their_trial(seen: Seen, page: Any) -> None:
    page.goto(pages.runs(seen.uri, seen.experiment))
    page.get_by_text("films").first.wait_for()
    page.goto(pages.run(seen.uri, seen.experiment, seen.runs["films"]))
    page.get_by_text("Child runs", exact=True).wait_for()
    for number in range(4):
        page.get_by_role("link", name=f"trial-{number:04d}").first.wait_for()
    assert any("seed" in name for name in seen.runs)


def test_runs_can_be_compared_in_parallel_coordinates(seen: Seen, page: Any) -> None:
    ids = [run for name, run in seen.runs.items() if name.startswith("trial-") and "seed" not in name]
    page.goto(pages.compare(seen.uri, seen.experiment, ids))
    page.get_by_text("Comparing 4 Runs").wait_for()
    page.get_by_text("Parallel Coordinates Plot").first.wait_for()
    page.locator(".js-plotly-plot").first.wait_for()
    drawn = page.locator(".js-plotly-plot").first.inner_text()
    assert "learning_rate" in drawn
    assert "accuracy" in drawn


def test_the_report_is_a_page_of_the_study(seen: Seen, page: Any) -> None:
    page.goto(pages.artifact(seen.uri, seen.experiment, seen.runs["films"], "report.html"))
    report = page.frame_locator("iframe").first
    report.get_by_text("What it bought").wait_for()
    report.get_by_text("Can I have it?").wait_for()
    report.locator(".js-plotly-plot").first.wait_for()


def test_the_champion_shows_what_it_was_judged_by(seen: Seen, page: Any) -> None:
    page.goto(pages.version(seen.uri, "films", 1))
    page.get_by_text("champion", exact=False).first.wait_for()
    page.get_by_text("Promoted to champion: accuracy is").wait_for()
    page.get_by_text("fresh seeds").first.wait_for()
    page.get_by_text("hpo.decision").first.wait_for()
