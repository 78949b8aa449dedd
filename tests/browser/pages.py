"""The pages of MLflow that people read a study on, in a real browser. Owns their addresses and what to wait for."""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

QUIET = {
    "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true",
    "mlflow.assistant.panelOpen_v1": "false",
}
"""What the page keeps of somebody who has seen its greetings before."""


def chromium() -> str | None:
    return next(
        (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
    )


@contextmanager
def browser(width: int = 1440, height: int = 900) -> Iterator[Any]:
    """A fresh page."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        own = play.chromium.launch(
            executable_path=chromium(), args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        context = own.new_context(viewport={"width": width, "height": height}, locale="en-GB", color_scheme="light")
        script = "".join(
            f"localStorage.setItem({json.dumps(key)}, {json.dumps(value)});" for key, value in QUIET.items()
        )
        context.add_init_script(script)
        page = context.new_page()
        page.set_default_timeout(60_000)
        yield page
        own.close()


def runs(server: str, experiment: str) -> str:
    """All runs of a study, its trials under their parent."""
    return f"{server}/#/experiments/{experiment}/runs"


def compare(server: str, experiment: str, ids: Sequence[str]) -> str:
    return f"{server}/#/compare-runs?runs={quote(json.dumps(list(ids)))}&experiments={quote(json.dumps([experiment]))}"


def run(server: str, experiment: str, run_id: str) -> str:
    return f"{server}/#/experiments/{experiment}/runs/{run_id}"


def artifact(server: str, experiment: str, run_id: str, path: str) -> str:
    return f"{run(server, experiment, run_id)}/artifacts/{path}"


def model(server: str, name: str) -> str:
    return f"{server}/#/models/{quote(name)}"


def shoot(page: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=str(path))
