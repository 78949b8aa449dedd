"""The pages of MLflow on which people read a study, in a real browser. Owns their addresses.

python tests/browser/pages.py SERVER STUDY FOLDER    # the pictures of docs/pictures, from a study of one's own
"""

import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

GREETED = {
    "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true",
    "mlflow.assistant.panelOpen_v1": "false",
}
"""What the page keeps of somebody who has seen its greetings before."""

_TRAINING = "workflowType=machine_learning"


def chromium() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((found for name in names if (found := shutil.which(name))), None)


@contextmanager
def browser(width: int = 1280, height: int = 720) -> Iterator[Any]:
    """A fresh page."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        own = play.chromium.launch(
            executable_path=chromium(), args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        context = own.new_context(viewport={"width": width, "height": height}, locale="en-GB", color_scheme="light")
        for item in GREETED.items():
            context.add_init_script(f"localStorage.setItem({', '.join(map(json.dumps, item))})")
        page = context.new_page()
        page.set_default_timeout(90_000)
        yield page
        own.close()


def runs(server: str, experiment: str) -> str:
    return f"{server}/#/experiments/{experiment}/runs?{_TRAINING}"


def trials(server: str, experiment: str, parent: str) -> str:
    """The view of its trials that a study leaves."""
    return f"{server}/#/experiments/{experiment}/runs?viewStateShareKey={parent}&{_TRAINING}"


def compare(server: str, experiment: str, ids: Sequence[str]) -> str:
    chosen = f"runs={quote(json.dumps(list(ids)))}&experiments={quote(json.dumps([experiment]))}"
    return f"{server}/#/compare-runs?{chosen}&{_TRAINING}"


def run(server: str, experiment: str, run_id: str) -> str:
    return f"{server}/#/experiments/{experiment}/runs/{run_id}?{_TRAINING}"


def artifact(server: str, experiment: str, run_id: str, path: str) -> str:
    return f"{server}/#/experiments/{experiment}/runs/{run_id}/artifacts/{path}?{_TRAINING}"


def version(server: str, model: str, number: int) -> str:
    return f"{server}/#/models/{quote(model)}/versions/{number}?{_TRAINING}"


def take_pictures(server: str, study: str, folder: Path) -> None:
    """Of a finished study that promoted a model of its own name."""
    from mlflow import MlflowClient

    client = MlflowClient(server)
    experiment = client.get_experiment_by_name(study)
    assert experiment is not None, f"no experiment {study} at {server}"
    number = experiment.experiment_id
    ids = {run.info.run_name: run.info.run_id for run in client.search_runs([number])}
    own = [run_id for name, run_id in ids.items() if name and name.startswith("trial-") and "seed" not in name]
    shown = {
        "trials": trials(server, number, ids[study]),
        "compare": compare(server, number, own),
        "report": artifact(server, number, ids[study], "report.html"),
        "champion": version(server, study, 1),
    }
    folder.mkdir(parents=True, exist_ok=True)
    with browser() as page:
        for name, address in shown.items():
            page.goto(address)
            page.wait_for_timeout(12_000)  # all is drawn by then; nothing on the page says so
            page.screenshot(path=str(folder / f"{name}.png"))


if __name__ == "__main__":
    take_pictures(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
