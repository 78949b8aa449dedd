import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from test_registry import uri
from test_registry_races import at, client

from hpo import champion
from hpo.records import Confirmed, Decision, Origin
from hpo.registry import Registry
from hpo.registry.succession import Succession
from hpo.registry.version import DECISION, ORIGIN

__all__ = ["at", "client", "uri"]

SEEDS = Confirmed(number=4, origin="tpe", first=0.91, values=(0.9, 0.88), mean=0.89)


@pytest.fixture
def name(client: MlflowClient) -> str:
    client.create_registered_model("toy")
    return "toy"


def enter(client: MlflowClient, verdict: Any, score: float, **given: Any) -> int:
    """A version as the gate makes it: judged against the champion of now, or when `seen` was the last number."""
    succession = Succession(client, "toy")
    chain = succession.settle().chain
    against, seen = given.get("seen", chain.champion), given.get("seen", chain.seen)
    facts: dict[str, Any] = {"against": against, "seen": seen, "metric": "accuracy", "rows": 500, "digest": "d1" * 32}
    if against is not None:
        facts |= {"improvement": 0.04, "low": 0.01, "high": 0.07, "p_value": 0.002, "champion_score": score - 0.04}
    decision = Decision(verdict=verdict, reasons=(f"accuracy is {score:.4f}",), challenger_score=score, **facts)
    origin = Origin(study="films", trial=4, params={"learning_rate": 2e-5}, confirmed=SEEDS, commit="e" * 40)
    tags = {DECISION: decision.model_dump_json(), ORIGIN: origin.model_dump_json()}
    tags |= {"hpo.study": "films", "hpo.trial": "4"} | ({"hpo.against": str(against)} if against else {})
    made = succession.enter(
        verdict=verdict,
        seen=seen or 0,
        source="mlflow-artifacts:/nowhere",
        run_id=None,
        model_id=None,
        description="",
        tags=tags,
    )
    succession.settle()
    return int(made.version)


@pytest.fixture
def run(uri: str, capsys: pytest.CaptureFixture[str]) -> Any:
    """`run("show")` -> (exit code, stdout, stderr)"""

    def call(act: str, *options: str) -> tuple[int, str, str]:
        code = champion.main([act, "--model", "toy", "--tracking-uri", uri, *options])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def test_what_is_printed_can_be_typed(run: Any, uri: str, client: MlflowClient, name: str) -> None:
    enter(client, "promote", 0.80)
    said = run("show")[1]
    assert f"--output answers.csv --tracking-uri {uri}\n" in said
    assert f"MLFLOW_TRACKING_URI={uri} mlflow models serve" in said
    assert f"history --model toy --tracking-uri {uri}" in run("promote", "--version", "7")[2]


def test_show_says_who_is_champion_and_why(run: Any, client: MlflowClient, name: str) -> None:
    enter(client, "promote", 0.80)
    enter(client, "promote", 0.84)
    code, said, _ = run("show")
    assert code == 0
    for part in (
        "toy: version 2, champion (promoted)",
        "accuracy is 0.8400",
        "improvement +0.0400, 0.95 interval +0.0100 to +0.0700",
        "test rows: 500",
        "trial 4 of the study films",
        "learning_rate 2e-05",
        "validation: 0.8900 over 2 fresh seeds, 0.9100 in the search",
        "hpo.predict --model models:/toy@champion",
    ):
        assert part in said


def test_history_tells_what_became_of_every_version(run: Any, client: MlflowClient, name: str) -> None:
    enter(client, "promote", 0.80)
    enter(client, "keep", 0.79)
    enter(client, "promote", 0.84)
    enter(client, "promote", 0.82, seen=1)
    assert run("rollback", "--reason", "wrong on short texts")[0] == 0
    _, said, _ = run("history")
    lines = said.splitlines()
    assert [line.split()[0] for line in lines[1:6]] == ["1", "2", "3", "4", "5"]
    for line, part in zip(
        lines[1:6],
        ("promoted", "challenger", "promoted", "lost the race to 3", "champion (rollback to 1)"),
        strict=True,
    ):
        assert part in line
    assert lines[3].split()[-5:] == ["0.002", "1", "films,", "trial", "4"]
    assert "wrong on short texts" in lines[6]


def test_rollbacks_go_back_step_by_step_and_then_no_further(run: Any, client: MlflowClient, name: str) -> None:
    for score in (0.80, 0.82, 0.84):
        enter(client, "promote", score)
    assert "version 2 of toy is champion again, as version 4 in place of version 3" in run("rollback")[1]
    assert "version 1 of toy is champion again, as version 5 in place of version 4" in run("rollback")[1]
    code, _, said = run("rollback")
    assert code == 2
    assert "its first champion" in said
    assert client.get_model_version_by_alias("toy", "champion").version == 5


def test_a_rollback_to_a_version_names_one_that_was_champion(run: Any, client: MlflowClient, name: str) -> None:
    enter(client, "promote", 0.80)
    enter(client, "keep", 0.79)
    enter(client, "promote", 0.84)
    for wrong, part in (("2", "has never been its champion; 1, 3 have"), ("9", "has never been"), ("3", "already")):
        code, _, said = run("rollback", "--to", wrong)
        assert code == 2
        assert part in said
    assert run("rollback", "--to", "1")[0] == 0


def test_promote_makes_a_version_champion_past_the_gate(run: Any, client: MlflowClient, name: str) -> None:
    enter(client, "promote", 0.80)
    enter(client, "keep", 0.79)
    code, said, _ = run("promote", "--version", "2", "--reason", "smaller")
    assert (code, said) == (0, "version 2 of toy is champion, past the gate, as version 3 in place of version 1\n")
    version = client.get_model_version_by_alias("toy", "champion")
    assert (version.version, version.tags["hpo.act"], version.tags["hpo.reason"]) == (3, "by-hand", "smaller")
    assert version.tags["hpo.by"]
    assert "past the gate" in version.description
    assert "smaller" in version.description
    assert "2 by hand" in run("show")[1]
    for wrong, part in (("7", "there is no version 7; there are 1, 2, 3"), ("2", "already"), ("3", "already")):
        code, _, said = run("promote", "--version", wrong)
        assert code == 2
        assert part in said


def test_a_challenger_that_was_being_tested_meets_what_a_person_did(run: Any, client: MlflowClient, name: str) -> None:
    enter(client, "promote", 0.80)
    enter(client, "promote", 0.82)
    assert run("rollback")[0] == 0
    assert enter(client, "promote", 0.84, seen=2) == 4, "it was compared with version 2, which is gone"
    chain = Succession(client, "toy").read().chain
    assert (chain.lost_to(4), chain.alias) == (3, 3)


def test_a_rollback_that_somebody_overtakes_changes_nothing_and_says_so(
    uri: str, client: MlflowClient, name: str
) -> None:
    from test_registry_races import Paced

    from hpo.errors import ModelError

    enter(client, "promote", 0.80)
    enter(client, "promote", 0.82)
    calls: list[str] = []

    def step(point: str) -> None:
        calls.append(point)
        if point == "create_model_version":
            enter(client, "promote", 0.84)

    registry = Registry(uri, Paced(client, step))  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="version 3 became champion at the same moment"):
        registry.rollback("toy", to=None, by="ada", reason=None)
    assert client.get_model_version_by_alias("toy", "champion").version == 3
    assert "create_model_version" in calls


def test_json_is_for_scripts(run: Any, client: MlflowClient, name: str) -> None:
    enter(client, "promote", 0.80)
    enter(client, "promote", 0.84)
    shown = json.loads(run("show", "--json")[1])
    assert (shown["version"], shown["is_champion"], shown["has_alias"], shown["against"]) == (2, True, True, 1)
    assert shown["decision"]["p_value"] == 0.002
    assert shown["origin"]["confirmed"]["mean"] == 0.89
    assert [own["version"] for own in json.loads(run("history", "--json")[1])] == [1, 2]
    made = json.loads(run("rollback", "--json", "--reason", "so")[1])
    assert (made["version"], made["act"], made["copy_of"], made["reason"]) == (3, "rollback", 1, "so")


def test_what_a_person_did_in_mlflow_is_said(run: Any, client: MlflowClient, name: str) -> None:
    enter(client, "promote", 0.80)
    enter(client, "promote", 0.84)
    client.set_registered_model_alias("toy", "champion", "1")
    assert "version 1, champion (promoted)" in (said := run("show")[1])
    assert "a person put the alias there" in said
    client.delete_registered_model_alias("toy", "champion")
    assert "its alias was taken away" in run("show")[1]


@pytest.mark.parametrize("act", [("promote", "--version", "2"), ("rollback", "--to", "2")])
def test_a_champion_whose_alias_was_taken_away_is_served_again_on_request(
    run: Any, client: MlflowClient, name: str, act: tuple[str, ...]
) -> None:
    enter(client, "promote", 0.80)
    enter(client, "promote", 0.84)
    client.delete_registered_model_alias("toy", "champion")
    assert "to serve it again: python -m hpo.champion promote --model toy --version 2" in run("show")[1]
    assert run(*act)[0] == 0
    assert client.get_model_version_by_alias("toy", "champion").version == 3
    assert "already" in run(*act)[2]
    assert "version 1 of toy is champion again" in run("rollback")[1], "not version 2, which just has to go"


def test_names_without_versions_and_without_champions_are_told_apart(run: Any, client: MlflowClient) -> None:
    for act in ("show", "history", "rollback"):
        code, _, said = run(act)
        assert code == 2
        assert "the registry has no versions of it; it has no models at all" in said
    client.create_registered_model("toy")
    enter(client, "keep", 0.5)
    assert "none was ever promoted; there are 1" in run("show")[2]
    assert "nothing to roll back" in run("rollback")[2]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["show"], "--model"),
        (["rollback", "--model", "toy", "--to", "one"], "--to"),
        (["promote", "--model", "toy"], "--version"),
        (["delete", "--model", "toy"], "delete"),
    ],
)
def test_wrong_arguments_are_told_at_once(given: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        champion.main(given)
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


def test_a_store_that_is_not_there_is_told_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys; from hpo.champion import main; "
        f"code = main(['show', '--model', 'models:/toy', '--tracking-uri', 'sqlite:///{tmp_path}/none.db']); "
        "assert not {'mlflow', 'torch', 'numpy', 'ray', 'optuna'} & set(sys.modules); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert "none.db; name the store" in done.stderr
    assert "write it without models:/" in done.stderr


def test_a_server_that_is_away_is_exit_code_4(capsys: pytest.CaptureFixture[str]) -> None:
    assert champion.main(["show", "--model", "toy", "--tracking-uri", "http://127.0.0.1:9"]) == 4
    assert "check that the service is up" in capsys.readouterr().err
