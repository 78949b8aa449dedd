import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
import transformers
from mlflow import MlflowClient
from tiny_bert import write_tiny_bert

from hpo.errors import ModelError, ServiceError
from hpo.mlflow_client import open_client
from hpo.records import Confirmed, Decision, Origin
from hpo.registry import Registry, Standing, Version, words
from hpo.tasks import SequenceClassification

# MLflow's own queries ask SQLAlchemy for a loader that is on its way out.
SINGLE = SequenceClassification(text="sentence", label="label", max_length=32)
PAIR = SequenceClassification(text=("first", "second"), label="label", max_length=32)
REGRESSION = SequenceClassification(text="sentence", label="label", max_length=32, problem_type="regression")
TEXTS = ["this film was great", "what a boring plot", "it is not bad"]
PAIRS = [("this film was great", "a good movie"), ("what a boring plot", "great"), ("it is not bad", "a good movie")]


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bert(tmp_path_factory.mktemp("classifier") / "checkpoint")


@pytest.fixture
def uri(store: str) -> str:
    return store


@pytest.fixture
def run_id(uri: str, tmp_path: Path) -> str:
    """A run that has ended."""
    client = MlflowClient(uri)
    experiment = client.create_experiment("toy", artifact_location=str(tmp_path / "mlartifacts"))
    run = client.create_run(experiment)
    client.set_terminated(run.info.run_id)
    return str(run.info.run_id)


def decision(verdict: Any = "promote", standing: Standing | None = None) -> Decision:
    """standing: that it was made on; none is one without versions."""
    against = standing.champion.number if standing and standing.champion else None
    reasons = ("accuracy is 0.9 on 10 test rows",)
    seen = standing.seen if standing else 0
    return Decision(verdict=verdict, reasons=reasons, challenger_score=0.9, against=against, seen=seen)


def register(uri: str, run_id: str, checkpoint: Path, verdict: str = "promote", **other: Any) -> Version:
    given = {"task": SINGLE, "labels": ("neg", "pos"), "examples": TEXTS, "tags": {"hpo.study": "toy"}} | other
    given["pipeline"] = transformers.pipeline("text-classification", model=str(checkpoint), device="cpu")
    registry = Registry(uri)
    given.setdefault("decision", decision(verdict, registry.standing("toy")))
    return registry.register("toy", checkpoint, run_id=run_id, **given)


@pytest.fixture(autouse=True)
def forget_the_address() -> Iterator[None]:
    yield
    mlflow.set_tracking_uri(None)


def served(uri: str, version: Version) -> Any:
    mlflow.set_tracking_uri(uri)
    return mlflow.pyfunc.load_model(version.uri)


def direct(checkpoint: Path, inputs: Any) -> list[float]:
    pipeline = transformers.pipeline("text-classification", model=str(checkpoint), device="cpu")
    return [answer["score"] for answer in pipeline(inputs)]


def test_there_is_no_champion_before_there_is_one(uri: str) -> None:
    assert Registry(uri).champion("toy") is None


def test_a_promoted_checkpoint_becomes_the_champion(uri: str, run_id: str, classifier: Path) -> None:
    version = register(uri, run_id, classifier)
    assert (version.number, version.alias, version.uri) == (1, "champion", "models:/toy@champion")
    champion = Registry(uri).champion("toy")
    assert champion is not None
    assert (champion.number, champion.run_id) == (1, run_id)
    assert champion.tags["hpo.study"] == "toy"
    assert champion.tags["hpo.reasons"] == "accuracy is 0.9 on 10 test rows"
    assert (
        "Promoted to champion: accuracy is 0.9 on 10 test rows"
        in MlflowClient(uri).get_model_version("toy", "1").description
    )


def test_a_kept_one_is_a_challenger_and_the_champion_stays(
    uri: str, run_id: str, classifier: Path, tmp_path: Path
) -> None:
    register(uri, run_id, classifier)
    second = register(uri, run_id, write_tiny_bert(tmp_path / "other", seed=1), verdict="keep")
    assert (second.number, second.alias) == (2, "challenger")
    champion = Registry(uri).champion("toy")
    assert champion is not None
    assert champion.number == 1
    assert "not promoted" in MlflowClient(uri).get_model_version("toy", "2").description


def test_an_ended_run_stays_ended_and_shows_its_model(uri: str, run_id: str, classifier: Path) -> None:
    before = MlflowClient(uri).get_run(run_id).info
    register(uri, run_id, classifier)
    run = MlflowClient(uri).get_run(run_id)
    assert (run.info.status, run.info.end_time) == ("FINISHED", before.end_time)
    assert len(run.outputs.model_outputs) == 1


def test_the_same_weights_of_a_run_are_registered_once(uri: str, run_id: str, classifier: Path) -> None:
    assert register(uri, run_id, classifier).number == register(uri, run_id, classifier).number
    assert len(MlflowClient(uri).search_model_versions("name = 'toy'")) == 1


def test_a_fetched_model_is_the_checkpoint(uri: str, run_id: str, classifier: Path, tmp_path: Path) -> None:
    version = register(uri, run_id, classifier)
    folder = Registry(uri).fetch(version, tmp_path / "fetched")
    assert (folder / "model.safetensors").read_bytes() == (classifier / "model.safetensors").read_bytes()
    assert direct(folder, TEXTS) == direct(classifier, TEXTS)
    assert list(folder.rglob("*.bin")) == []


def test_the_model_says_what_it_is_and_asks_for_no_more_than_it_needs(uri: str, run_id: str, classifier: Path) -> None:
    version = register(uri, run_id, classifier)
    mlflow.set_tracking_uri(uri)
    info = mlflow.models.get_model_info(version.uri)
    assert info.metadata["hpo"]["task"]["max_length"] == 32
    assert info.metadata["hpo"]["labels"] == ["neg", "pos"]
    source = MlflowClient(uri).get_logged_model(info.model_id).artifact_location
    requirements = (Path(source) / "requirements.txt").read_text().split()
    assert sorted(own.partition("==")[0] for own in requirements) == ["mlflow", "torch", "transformers"]
    assert not any("+" in own for own in requirements)


def test_pyfunc_answers_single_sentences(uri: str, run_id: str, classifier: Path) -> None:
    model = served(uri, register(uri, run_id, classifier))
    answers = model.predict(TEXTS)
    assert list(answers.columns) == ["label", "score"]
    assert set(answers["label"]) <= {"neg", "pos"}
    assert answers["score"].tolist() == pytest.approx(direct(classifier, TEXTS))
    assert len(model.predict(["great " * 500])) == 1, "longer than the model: cut, not refused"


def test_pyfunc_answers_pairs(uri: str, run_id: str, classifier: Path) -> None:
    import pandas as pd

    model = served(uri, register(uri, run_id, classifier, task=PAIR, examples=PAIRS))
    answers = model.predict(pd.DataFrame(PAIRS, columns=["text", "text_pair"]))
    expected = direct(classifier, [{"text": one, "text_pair": other} for one, other in PAIRS])
    assert answers["score"].tolist() == pytest.approx(expected)
    assert answers["score"].tolist() != pytest.approx(direct(classifier, [one for one, _ in PAIRS]))


def test_pyfunc_answers_a_regression_with_the_number_itself(uri: str, run_id: str, tmp_path: Path) -> None:
    checkpoint = write_tiny_bert(tmp_path / "regression", labels=())
    model = served(uri, register(uri, run_id, checkpoint, task=REGRESSION, labels=()))
    scores = model.predict(TEXTS)["score"].tolist()
    assert scores == pytest.approx(direct(checkpoint, TEXTS))
    assert not all(0.0 <= score <= 1.0 for score in scores), "a number, not a probability"


def test_a_name_that_is_not_there_is_told_with_what_is(uri: str, run_id: str, classifier: Path) -> None:
    registry = Registry(uri)
    with pytest.raises(ModelError, match="it has no models at all"):
        registry.resolve("models:/toy@champion")
    register(uri, run_id, classifier)
    assert registry.resolve("models:/toy@champion").number == registry.resolve("models:/toy/1").number == 1
    with pytest.raises(ModelError, match=r"it has of toy: @champion"):
        registry.resolve("models:/toy@best")
    with pytest.raises(ModelError, match=r"it has the models toy"):
        registry.resolve("models:/tox@champion")
    with pytest.raises(ModelError, match="names no version"):
        registry.resolve("models:/toy/latest")


def test_a_version_without_its_files_cannot_be_fetched(uri: str, run_id: str, classifier: Path, tmp_path: Path) -> None:
    version = register(uri, run_id, classifier)
    shutil.rmtree(tmp_path / "mlartifacts")
    with pytest.raises(ModelError, match="models:/toy/1"):
        Registry(uri).fetch(version, tmp_path / "fetched")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "MLmodel"])
def test_a_version_without_one_of_its_files_is_incomplete(
    name: str, uri: str, run_id: str, classifier: Path, tmp_path: Path
) -> None:
    version = register(uri, run_id, classifier)
    for path in (tmp_path / "mlartifacts").rglob(name):
        path.unlink()
    with pytest.raises(ModelError, match=f"models:/toy/1: {name} is missing"):
        Registry(uri).fetch(version, tmp_path / "fetched")


def test_a_version_with_a_garbled_description_cannot_be_fetched(
    uri: str, run_id: str, classifier: Path, tmp_path: Path
) -> None:
    version = register(uri, run_id, classifier)
    next((tmp_path / "mlartifacts").rglob("MLmodel")).write_text("flavors: [\n")
    with pytest.raises(ModelError, match="its MLmodel is no description"):
        Registry(uri).fetch(version, tmp_path / "fetched")


def test_a_deleted_version_is_gone_and_cannot_be_fetched(
    uri: str, run_id: str, classifier: Path, tmp_path: Path
) -> None:
    version, registry = register(uri, run_id, classifier), Registry(uri)
    assert registry.has("models:/toy/1")
    assert registry.has("models:/toy@champion")
    MlflowClient(uri).delete_model_version("toy", "1")
    assert not registry.has("models:/toy/1")
    assert not registry.has("models:/toy@champion")
    assert not registry.has("models:/other/1")
    with pytest.raises(ModelError, match="names no version"):
        registry.has("models:/toy")
    with pytest.raises(ModelError, match="models:/toy/1: it is gone"):
        registry.fetch(version, tmp_path / "fetched")


def test_a_store_that_does_not_answer_is_no_verdict_on_its_model(
    uri: str, run_id: str, classifier: Path, tmp_path: Path
) -> None:
    version = register(uri, run_id, classifier)
    away = Registry("http://127.0.0.1:9")
    for ask in (
        lambda: away.fetch(version, tmp_path / "fetched"),
        lambda: away.has(version.uri),
        lambda: away.decided("toy", run_id, classifier),
    ):
        with pytest.raises(ServiceError, match="check that the service is up"):
            ask()
    (tmp_path / "a file").touch()
    with pytest.raises(ServiceError, match="its disk"):
        Registry(uri).fetch(version, tmp_path / "a file")


@pytest.mark.service
def test_a_server_that_dies_is_no_verdict_and_its_missing_files_are(
    store_template: Path, classifier: Path, tmp_path: Path
) -> None:
    with tracking_server(store_template, tmp_path) as (uri, stop):
        client = open_client(uri)
        run = client.create_run(client.create_experiment("toy"))
        version, registry = register(uri, run.info.run_id, classifier), Registry(uri)
        assert (registry.fetch(version, tmp_path / "fetched") / "model.safetensors").is_file()
        register(uri, run.info.run_id, write_tiny_bert(tmp_path / "second", seed=1))
        again = registry.fetch(registry.rollback("toy", to=None, by="ada", reason=None), tmp_path / "fetched")
        assert (again / "model.safetensors").read_bytes() == (classifier / "model.safetensors").read_bytes()
        for weights in [*(tmp_path / "artifacts").rglob("model.safetensors")]:
            weights.unlink()
        with pytest.raises(ModelError, match=r"model\.safetensors is missing"):
            registry.fetch(version, tmp_path / "fetched")
        shutil.rmtree(tmp_path / "artifacts")
        with pytest.raises(ModelError, match="is missing"):
            registry.fetch(version, tmp_path / "fetched")
        stop()
        with pytest.raises(ServiceError, match="check that the service is up"):
            registry.fetch(version, tmp_path / "fetched")


def test_a_decision_is_known_again_by_run_and_weights(uri: str, run_id: str, classifier: Path, tmp_path: Path) -> None:
    registry, other = Registry(uri), write_tiny_bert(tmp_path / "other", seed=1)
    assert registry.decided("toy", run_id, classifier) is None
    register(uri, run_id, classifier)
    known = registry.decided("toy", run_id, classifier)
    assert known is not None
    assert (known[0].number, known[0].alias, known[1]) == (1, "champion", decision())
    assert registry.decided("toy", run_id, other) is None
    assert registry.decided("toy", "another run", classifier) is None
    assert registry.decided("another", run_id, classifier) is None


def test_what_was_decided_once_is_not_reversed_by_registering_again(uri: str, run_id: str, classifier: Path) -> None:
    register(uri, run_id, classifier)
    assert register(uri, run_id, classifier, verdict="keep").alias == "champion"
    known = Registry(uri).decided("toy", run_id, classifier)
    assert known is not None
    assert known[1].verdict == "promote"
    assert "Promoted" in MlflowClient(uri).get_model_version("toy", "1").description


def test_what_was_kept_by_another_gate_takes_the_new_decision(
    uri: str, run_id: str, classifier: Path, tmp_path: Path
) -> None:
    register(uri, run_id, write_tiny_bert(tmp_path / "champion", seed=1))
    assert register(uri, run_id, classifier, verdict="keep").alias == "challenger"
    standing = Registry(uri).standing("toy")
    assert register(uri, run_id, classifier, decision=decision("promote", standing)).alias == "challenger"
    loose = decision("promote", standing).model_copy(update={"limits": {"latency": 9.0}})
    assert register(uri, run_id, classifier, decision=loose).alias == "champion"
    known = Registry(uri).decided("toy", run_id, classifier)
    assert known is not None
    assert known[1] == loose


def test_a_crash_before_the_alias_is_completed_by_the_stored_decision(uri: str, run_id: str, classifier: Path) -> None:
    register(uri, run_id, classifier)
    MlflowClient(uri).delete_registered_model_alias("toy", "champion")  # as it stood in between
    MlflowClient(uri).delete_model_version_tag("toy", "1", "hpo.champion_since")
    known = Registry(uri).decided("toy", run_id, classifier)
    assert known is not None
    assert (known[0].uri, known[1]) == ("models:/toy/1", decision())
    assert register(uri, run_id, classifier).uri == "models:/toy@champion"
    champion = Registry(uri).champion("toy")
    assert champion is not None
    assert champion.number == 1


def test_registering_again_takes_no_alias_from_a_later_version(
    uri: str, run_id: str, classifier: Path, tmp_path: Path
) -> None:
    register(uri, run_id, classifier)
    register(uri, run_id, write_tiny_bert(tmp_path / "later", seed=1))
    assert register(uri, run_id, classifier).uri == "models:/toy/1"
    champion = Registry(uri).champion("toy")
    assert champion is not None
    assert champion.number == 2


def test_who_was_overtaken_while_testing_is_told_to_judge_again(
    uri: str, run_id: str, classifier: Path, tmp_path: Path
) -> None:
    registry = Registry(uri)
    before = registry.standing("toy")
    register(uri, run_id, write_tiny_bert(tmp_path / "rival", seed=1))
    late = register(uri, run_id, classifier, decision=decision("promote", before))
    assert (late.number, late.alias, late.lost_to) == (2, None, 1)
    assert "Not champion, since version 1 was promoted" in MlflowClient(uri).get_model_version("toy", "2").description
    assert registry.decided("toy", run_id, classifier) is None, "a decision on the old champion does not count"
    again = register(uri, run_id, classifier)
    assert (again.number, again.alias, again.lost_to) == (3, "champion", None)
    assert again.tags["hpo.against"] == "1"
    assert register(uri, run_id, classifier).number == 3
    versions = MlflowClient(uri).search_model_versions("name = 'toy'")
    sources = {int(version.version): version.source for version in versions}
    assert sources[2] == sources[3], "it was logged once"


def test_who_was_overtaken_and_does_not_beat_the_new_champion_is_a_challenger(
    uri: str, run_id: str, classifier: Path, tmp_path: Path
) -> None:
    registry = Registry(uri)
    before = registry.standing("toy")
    register(uri, run_id, write_tiny_bert(tmp_path / "rival", seed=1))
    assert register(uri, run_id, classifier, decision=decision("promote", before)).lost_to == 1
    kept = register(uri, run_id, classifier, "keep")
    assert (kept.number, kept.alias) == (2, "challenger")
    known = registry.decided("toy", run_id, classifier)
    assert known is not None
    assert known[1].verdict == "keep"
    assert "not promoted" in MlflowClient(uri).get_model_version("toy", "2").description


def test_a_decision_that_was_made_on_no_standing_is_refused(uri: str, run_id: str, classifier: Path) -> None:
    with pytest.raises(ValueError, match=r"Registry\.standing"):
        register(uri, run_id, classifier, decision=decision().model_copy(update={"seen": None}))


def test_a_rollback_serves_the_weights_of_before(uri: str, run_id: str, classifier: Path, tmp_path: Path) -> None:
    registry, second = Registry(uri), write_tiny_bert(tmp_path / "second", seed=1)
    register(uri, run_id, classifier)
    register(uri, run_id, second)
    made = registry.rollback("toy", to=None, by="ada", reason="wrong on short texts")
    assert (made.number, made.uri) == (3, "models:/toy@champion")
    folder = registry.fetch(registry.resolve("models:/toy@champion"), tmp_path / "fetched")
    assert (folder / "model.safetensors").read_bytes() == (classifier / "model.safetensors").read_bytes()
    assert register(uri, run_id, second).alias is None, "what was rolled back does not come again by itself"
    assert register(uri, run_id, classifier).number == 1, "the copy is not taken for the study's own version"
    assert "wrong on short texts" in MlflowClient(uri).get_model_version("toy", "3").description


def test_the_evidence_is_stored_with_the_version(uri: str, run_id: str, classifier: Path) -> None:
    facts: dict[str, Any] = {"metric": "accuracy", "rows": 100, "wins": 12, "losses": 2, "low": 0.01, "high": 0.2}
    facts |= {"champion_score": 0.8, "improvement": 0.1, "p_value": 0.0065, "confidence": 0.95, "digest": "ab" * 32}
    seeds = Confirmed(number=3, origin="tpe", first=0.93, values=(0.9, 0.92), mean=0.91, low=0.88, high=0.94)
    params: dict[str, Any] = {"learning_rate": 3e-5, "per_device_train_batch_size": 16}
    origin = Origin(study="films", trial=3, params=params, value=0.93, confirmed=seeds, commit="c" * 40)
    register(uri, run_id, classifier, decision=decision().model_copy(update=facts), origin=origin)
    version = Registry(uri).past("toy").versions[1]
    assert version.origin == origin
    assert version.decision is not None
    assert (version.decision.wins, version.decision.losses, version.decision.digest) == (12, 2, "ab" * 32)
    said = MlflowClient(uri).get_model_version("toy", "1").description
    for part in ("| its 0.95 interval | +0.0100 to +0.2000 |", "| 12, 2 |", "trial 3 of the study `films`", "3e-05"):
        assert part in said
    assert "0.9100 (0.8800 to 0.9400) over 2 fresh seeds, 0.9300 in the search" in said


def test_a_registered_model_says_what_it_is_and_how_to_ask_it(uri: str, run_id: str, classifier: Path) -> None:
    register(uri, run_id, classifier)
    said = MlflowClient(uri).get_registered_model("toy").description
    assert "sequence classification" in said
    assert "2 labels (neg, pos)" in said
    assert "python -m hpo.predict --model models:/toy@champion" in said
    assert '{"inputs": ["one text", ...]}' in said
    MlflowClient(uri).update_registered_model("toy", "a word of the team's own")
    register(uri, run_id, classifier)
    assert MlflowClient(uri).get_registered_model("toy").description == "a word of the team's own"


@pytest.mark.parametrize(
    ("task", "labels", "expected"),
    [
        (PAIR, ("no", "yes"), '{"inputs": [{"text": "one", "text_pair": "other"}, ...]}'),
        (REGRESSION, (), "a number, as `score`"),
        (SINGLE, [f"{number} " + "x" * 300 for number in range(500)], "500 labels"),
    ],
)
def test_the_words_fit_the_task(task: SequenceClassification, labels: Any, expected: str) -> None:
    said = words.of_model("toy", task.usage(labels), "sqlite:///mlflow.db")
    assert expected in said
    assert "/invocations" in said
    assert len(said) < words.DESCRIPTION_LIMIT


def test_a_checkpoint_without_weights_is_not_registered(uri: str, run_id: str, tmp_path: Path) -> None:
    given = {"task": SINGLE, "labels": (), "examples": TEXTS, "tags": {}, "pipeline": None}
    with pytest.raises(ModelError, match="nothing to register"):
        Registry(uri).register("toy", tmp_path, decision=decision(), run_id=run_id, **given)


def test_a_registry_that_is_away_is_a_service_error() -> None:
    with pytest.raises(ServiceError, match="check that the service is up"):
        Registry("http://127.0.0.1:9").champion("toy")


def test_registering_needs_no_network_and_says_nothing(
    uri: str, run_id: str, classifier: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any) -> None:
        raise AssertionError(f"the network was asked for {arguments}")

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    register(uri, run_id, classifier)
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")


@contextlib.contextmanager
def tracking_server(store_template: Path, folder: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """Over a copy of the store `store_template`. Yields its address, and what kills it."""
    shutil.copy(store_template, folder / "mlflow.db")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with started(command, environment, folder, f"http://127.0.0.1:{port}/health") as stop:
        yield f"http://127.0.0.1:{port}", stop


@contextlib.contextmanager
def started(
    command: list[str], environment: dict[str, str], folder: Path, answers_at: str
) -> Iterator[Callable[[], None]]:
    """A process that answers there. Yields what kills it, which is done at the end at the latest."""
    log_path = folder / "process.log"
    with open(log_path, "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=folder, start_new_session=True)

    def stop() -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    try:
        deadline = time.monotonic() + 120.0
        while True:
            try:
                with urllib.request.urlopen(answers_at, timeout=1):
                    break
            except (urllib.error.URLError, OSError):
                said = log_path.read_text("utf-8")[-2_000:]
                assert process.poll() is None, said
                assert time.monotonic() < deadline, said
                time.sleep(0.1)
        yield stop
    finally:
        stop()


@contextlib.contextmanager
def serving(uri: str, model: str, folder: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", model, "--env-manager", "local"]
    environment = os.environ | {"MLFLOW_TRACKING_URI": uri, "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"  # it starts uvicorn by name
    address = f"http://127.0.0.1:{port}"
    with started([*command, "-h", "127.0.0.1", "-p", str(port)], environment, folder, f"{address}/ping"):
        yield address


@pytest.mark.service
def test_mlflow_serves_the_champion(uri: str, run_id: str, classifier: Path, tmp_path: Path) -> None:
    version = register(uri, run_id, classifier)
    with serving(uri, version.uri, tmp_path) as address:
        request = urllib.request.Request(
            f"{address}/invocations",
            data=json.dumps({"inputs": TEXTS}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            answers = json.load(response)["predictions"]
    assert [answer["score"] for answer in answers] == pytest.approx(direct(classifier, TEXTS))
