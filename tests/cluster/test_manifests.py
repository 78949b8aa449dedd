"""docker/: every file keeps the schema of what reads it, keeps its own house rules, and holds no secret."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
KUBERNETES = DOCKER / "kubernetes"
MANIFESTS = sorted(path for path in KUBERNETES.glob("*.yaml") if path.name != "kustomization.yaml")
SCHEMAS = Path(os.environ.get("HPO_DATA", ROOT.parent / "shared" / "data")).resolve() / "schemas"
KUBERNETES_VERSION = "1.31"


def schema(name: str) -> Any:
    path = SCHEMAS / name
    if not path.is_file():
        pytest.skip(f"no {path}; set HPO_DATA to the folder that holds schemas/{name}")
    return json.loads(path.read_text()) if path.suffix == ".json" else yaml.safe_load(path.read_text())


def documents(path: Path) -> list[dict[str, Any]]:
    return [own for own in yaml.safe_load_all(path.read_text()) if own]


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    return loaded


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The secrets, as `make up` makes them."""
    folder = tmp_path_factory.mktemp("cluster") / "secrets"
    program = [sys.executable, str(DOCKER / "make_secrets.py"), str(folder)]
    said = subprocess.run(program, check=True, capture_output=True, text=True).stdout
    assert not [path for path in folder.iterdir() if path.read_text().strip() in said]
    return folder


def test_compose_keeps_its_schema(compose: dict[str, Any]) -> None:
    import jsonschema

    errors = list(jsonschema.Draft7Validator(schema("compose-spec.json")).iter_errors(compose))
    assert errors == []


def test_every_service_of_compose_is_watched_confined_and_unreachable_from_outside(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert "healthcheck" in service or name == "submit", name
        assert all(str(port).startswith("127.0.0.1:") for port in service.get("ports", ())), name
        assert not service.get("privileged")
        if "bert-hpo" in service["image"]:
            assert service["user"] == "${HPO_UID:-10001}:0", name
            assert service["cap_drop"] == ["ALL"], name
        else:
            assert re.search(r":[\w.-]*\d", service["image"]), f"{name} has no version"
    gpu = compose["services"]["worker-gpu"]
    assert gpu["profiles"] == ["gpu"]
    assert gpu["environment"]["RAY_AUTH_MODE"] == "token"


def test_secrets_are_files_for_their_owner_alone_and_nowhere_else(compose: dict[str, Any], made: Path) -> None:
    files = {Path(own["file"]).name for own in compose["secrets"].values()}
    assert files <= {path.name for path in made.iterdir()}
    assert made.stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in made.iterdir())
    used = {
        own["source"] if isinstance(own, dict) else own
        for service in compose["services"].values()
        for own in service.get("secrets", ())
    }
    assert used == compose["secrets"].keys()
    before = {path.name: path.read_text() for path in made.iterdir()}
    subprocess.run([sys.executable, str(DOCKER / "make_secrets.py"), str(made)], check=True, capture_output=True)
    assert {path.name: path.read_text() for path in made.iterdir()} == before  # a running cluster keeps its own
    for path in (own for own in DOCKER.rglob("*") if own.is_file() and own.suffix in {".yaml", ".sbatch", ".sql", ""}):
        assert not re.search(r"(?i)(password|token|secret)\w*\s*[:=]\s*[\"']?[A-Za-z0-9]{12,}", path.read_text()), path


def test_what_lies_beside_compose_is_in_the_image(compose: dict[str, Any]) -> None:
    ignored = (DOCKER / "Dockerfile.dockerignore").read_text()
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (DOCKER / "Dockerfile").read_text(), re.MULTILINE)
    for source in " ".join(copied).split():
        assert (ROOT / source).exists(), source
        assert f"!{source}" in ignored, source
    [_, program] = compose["services"]["mlflow"]["entrypoint"]
    assert (DOCKER / Path(program).name).is_file()


def test_the_dockerfile_is_clean() -> None:
    beside = Path(sys.executable).with_name("hadolint")
    program = str(beside) if beside.is_file() else shutil.which("hadolint")
    if program is None:
        pytest.skip("no hadolint; uv sync --group services")
    done = subprocess.run([program, str(DOCKER / "Dockerfile")], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_has_the_programs_that_are_called_in_it() -> None:
    """Triton calls gcc, KubeRay's probes call wget, and slim images have neither."""
    final = (DOCKER / "Dockerfile").read_text().rpartition("\nFROM ")[2]
    [installed] = re.findall(r"apt-get install (.+) \\", final)
    assert {"--no-install-recommends", "gcc", "libc6-dev", "wget"} <= set(installed.split())


def test_the_image_without_cuda_has_every_other_package_with_its_hash(tmp_path: Path) -> None:
    """The names that `install.sh` leaves out, out of the lock itself."""
    lock = (ROOT / "uv.lock").read_text()
    [pattern] = re.findall(r"grep -oE '([^']+)' uv.lock", (DOCKER / "install.sh").read_text())
    left_out = re.findall(pattern, lock, re.MULTILINE)
    torch = re.search(r'^name = "torch"\n.*?^dependencies = \[\n(.*?)^\]', lock, re.MULTILINE | re.DOTALL)
    assert torch is not None
    wanted = {name for name in re.findall(r'name = "([^"]+)"', torch[1]) if re.match(r"nvidia|cuda|triton", name)}
    assert wanted <= set(left_out)
    assert subprocess.run(["bash", "-n", str(DOCKER / "install.sh")]).returncode == 0


def closed(own: Any) -> Any:
    """A CRD's schema that refuses unknown fields, and takes both for int-or-string."""
    if not isinstance(own, dict):
        return [closed(part) for part in own] if isinstance(own, list) else own
    found = {key: closed(part) for key, part in own.items()}
    if found.pop("x-kubernetes-int-or-string", False):
        return {"type": ["integer", "string"]}
    if "properties" in own and isinstance(own["properties"], dict) and "type" in own:
        found.setdefault("additionalProperties", bool(own.get("x-kubernetes-preserve-unknown-fields")))
    return found


@pytest.mark.parametrize(("file", "crd"), [("rayjob", "rayjobs"), ("raycronjob", "raycronjobs")])
def test_ray_manifests_keep_the_schema_of_their_kind(file: str, crd: str) -> None:
    import jsonschema

    [own] = documents(KUBERNETES / f"{file}.yaml")
    versions = schema(f"ray.io_{crd}.yaml")["spec"]["versions"]
    [version] = [one for one in versions if own["apiVersion"] == f"ray.io/{one['name']}"]
    whole = closed(version["schema"]["openAPIV3Schema"])
    whole["properties"]["metadata"] = {"type": "object"}
    errors = list(jsonschema.Draft202012Validator(whole).iter_errors(own))
    assert [(list(error.path), error.message) for error in errors] == []
    broken = json.loads(json.dumps(own))
    broken["spec"]["nonsense"] = 1
    assert list(jsonschema.Draft202012Validator(whole).iter_errors(broken))


def test_core_manifests_keep_the_schema_of_their_kind() -> None:
    if importlib.util.find_spec("kubernetes_validate") is None:
        pytest.skip("no kubernetes-validate; uv sync --group services")
    import kubernetes_validate

    core = [own for path in MANIFESTS for own in documents(path) if not own["apiVersion"].startswith("ray.io")]
    assert {"CronJob", "NetworkPolicy", "PersistentVolumeClaim", "Role", "RoleBinding", "ServiceAccount"} <= {
        own["kind"] for own in core
    }
    for own in core:
        kubernetes_validate.validate(own, KUBERNETES_VERSION, strict=True)
    for template in pods(documents(KUBERNETES / "rayjob.yaml")[0]):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {**template.get("metadata", {}), "name": "x"}}
        kubernetes_validate.validate({**pod, "spec": template["spec"]}, KUBERNETES_VERSION, strict=True)


def pods(own: Any) -> Iterator[dict[str, Any]]:
    """Every template of a pod in a manifest."""
    if isinstance(own, dict):
        if "containers" in own.get("spec", {}):
            yield own
        for part in own.values():
            yield from pods(part)
    elif isinstance(own, list):
        for part in own:
            yield from pods(part)


def test_every_pod_is_confined_and_every_search_is_behind_the_network_policy() -> None:
    [policy] = documents(KUBERNETES / "network.yaml")
    label = policy["spec"]["podSelector"]["matchLabels"]
    found = [(path, pod) for path in MANIFESTS for own in documents(path) for pod in pods(own)]
    assert len(found) == 7
    for path, pod in found:
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
        assert pod["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["spec"]["containers"]:
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
        if path.name != "cronjob.yaml":
            assert pod["metadata"]["labels"] == label, path


def test_both_clocks_start_the_same_search_and_its_options_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    import shlex

    from hpo import config, run

    [job], [timed] = documents(KUBERNETES / "rayjob.yaml"), documents(KUBERNETES / "raycronjob.yaml")
    assert timed["spec"]["jobTemplate"] == job["spec"]
    [cron] = documents(KUBERNETES / "cronjob.yaml")
    assert (cron["spec"]["schedule"], cron["spec"]["timeZone"]) == (
        timed["spec"]["schedule"],
        timed["spec"]["timeZone"],
    )
    kustomization = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())
    assert all((KUBERNETES / name).is_file() for name in kustomization["resources"])
    mounted = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]["volumes"][0]["configMap"]["name"]
    assert kustomization["configMapGenerator"] == [{"name": mounted, "files": ["rayjob.yaml"]}]

    python, flag, module, *options = shlex.split(job["spec"]["entrypoint"])
    assert (python, flag, module) == ("python", "-m", "hpo.run")
    arguments = run._parser().parse_args(options)
    monkeypatch.chdir(ROOT)
    loaded = config.load(config.find(arguments.space), arguments.set, arguments.storage)
    assert arguments.resume
    assert arguments.address == "auto"
    hours, minutes = int(cron["spec"]["schedule"].split()[1]), int(cron["spec"]["schedule"].split()[0])
    assert hours * 3600 + minutes * 60 + job["spec"]["activeDeadlineSeconds"] < 24 * 3600  # still the same {date}
    assert str(loaded.storage) == "/studies"
    assert loaded.ledger is not None


def test_kubernetes_secrets_are_those_that_are_made(made: Path) -> None:
    text = (KUBERNETES / "rayjob.yaml").read_text()
    assert {made / key for key in re.findall(r"name: hpo-secrets, key: (\w+)", text)} <= set(made.iterdir())


def test_the_submit_service_sends_what_submit_takes(compose: dict[str, Any]) -> None:
    from hpo import submit

    python, flag, module, *options = compose["services"]["submit"]["entrypoint"]
    assert (python, flag, module) == ("python", "-m", "hpo.submit")
    submit._parser().parse_args([*options, "--space", "x"])
