"""Refusals: what comes from elsewhere runs no code, leaves no folder, and sees no secret.

Here are those that belong to no single room; docs/reliability.md lists them all.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_bert import write_tiny_bert

from hpo.errors import ModelError
from hpo.training import device, inference

ROOT = Path(__file__).parent.parent

RAY_WITHOUT_TOKEN = """
import os, subprocess, sys
from pathlib import Path
os.environ["HOME"] = sys.argv[1]
from hpo.runners.ray import _ray
STRANGER = '''
import ray
ray.init(address=__import__("sys").argv[1], log_to_driver=False, logging_level="FATAL")
print("in", flush=True)
'''
with _ray(None, 1):
    import ray
    address = ray.get_runtime_context().gcs_address
    def knocks(**token):
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        command = [sys.executable, "-c", STRANGER, address]
        done = subprocess.run(command, env={**kept, **token}, capture_output=True, text=True, timeout=120)
        return done.returncode == 0 and "in" in done.stdout
    own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": os.environ["RAY_AUTH_TOKEN"]}
    print("owner", knocks(**own))
    print("stranger", knocks(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="0" * 64))
    print("nobody", knocks(RAY_AUTH_MODE="disabled"))
    print("file", (Path.home() / ".ray" / "auth_token").exists())
"""


@pytest.mark.service
def test_nobody_joins_our_ray_without_its_token(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", RAY_WITHOUT_TOKEN, str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = dict(line.split() for line in done.stdout.splitlines() if line.count(" ") == 1)
    assert said == {"owner": "True", "stranger": "False", "nobody": "False", "file": "False"}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("auto_map", {"AutoModelForSequenceClassification": "evil.Model"}),
        ("_attn_implementation_internal", "somebody/kernel"),
    ],
)
def test_a_checkpoint_that_names_foreign_code_is_not_loaded(tmp_path: Path, key: str, value: object) -> None:
    folder = write_tiny_bert(tmp_path / "model")
    (folder / "evil.py").write_text("raise SystemExit('foreign code runs')")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, key: value}))
    with pytest.raises(ModelError, match=f"has the key {key}, which runs code from elsewhere"):
        inference.load(folder, "AutoModelForSequenceClassification", device.pick_device(0.0))


def test_a_checkpoint_of_pickled_weights_is_not_loaded(tmp_path: Path) -> None:
    import torch

    folder = write_tiny_bert(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="its weights can't be loaded"):
        inference.load(folder, "AutoModelForSequenceClassification", device.pick_device(0.0))


def test_no_pickle_is_read_anywhere() -> None:
    """`torch.load`, pickle and `yaml.load` are not used; the tokens of a call, not the words of a sentence."""
    forbidden = re.compile(r"\b(torch\.load|pickle\.loads?|yaml\.(unsafe_|full_)?load|joblib\.load|eval|exec)\(")
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in sorted((ROOT / "hpo").rglob("*.py"))
        for line in path.read_text("utf-8").splitlines()
        if forbidden.search(line) and "model.eval()" not in line and ".eval()" not in line
    ]
    assert found == []


def test_foreign_code_is_refused_wherever_transformers_loads() -> None:
    texts = {path: path.read_text("utf-8") for path in (ROOT / "hpo").rglob("*.py")}
    calls = [(path.name, part) for path, text in texts.items() for part in text.split("from_pretrained(")[1:]]
    assert calls
    named = [(name, part) for name, part in calls if not part.lstrip().startswith("None,")]  # None: of a class at hand
    assert [name for name, part in named if "trust_remote_code=False" not in part[:300]] == []


def test_the_image_opens_no_port_and_runs_as_nobody_in_particular() -> None:
    """By itself it keeps MLflow in a file. The server that it can be as well knows its users, by password."""
    lines = [line.strip() for line in (ROOT / "docker" / "Dockerfile").read_text().splitlines()]
    code = [line for line in lines if not line.startswith("#")]
    assert not [line for line in code if line.startswith("EXPOSE")]
    assert not [line for line in code if re.search(r"mlflow (server|ui)|ray start", line)]
    assert [line for line in code if line.startswith("USER")] == ["USER 10001"]
    installing = (ROOT / "docker" / "install.sh").read_text()
    assert "uv export --quiet --locked" in installing
    assert "uv pip install --no-deps --require-hashes" in installing
    assert '"--app-name", "basic-auth"' in (ROOT / "docker" / "mlflow_server.py").read_text()
    assert not [line for line in code if re.search(r"(?i)(password|secret|token)\s*=", line)]
    told = (ROOT / "docker" / "README.md").read_text()
    assert "mlflow server" not in told or "basic-auth" in told


def test_make_ui_stays_on_the_loopback() -> None:
    [line] = [line for line in (ROOT / "Makefile").read_text().splitlines() if "mlflow ui" in line]
    assert "0.0.0.0" not in line
    assert "--host" not in line  # its default is 127.0.0.1


@pytest.mark.parametrize("name", ["../up", "/etc/passwd", "a/b", "a\0b", ".hidden", "x" * 101])
def test_no_name_leaves_the_storage(name: str, tmp_path: Path) -> None:
    from hpo.config.schema import checked_name

    with pytest.raises(ValueError, match="becomes a folder"):
        checked_name(name)


def test_nothing_goes_through_a_shell() -> None:
    found = [
        path.name for path in (ROOT / "hpo").rglob("*.py") if re.search(r"shell=True|os\.system", path.read_text())
    ]
    assert found == []
