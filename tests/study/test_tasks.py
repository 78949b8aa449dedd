"""The other tasks through the whole chain: space file, trial, test, report, registry, predict, a served model."""

import io
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import mlflow
import pytest
import uvicorn
from toys import TOYS, Toy

from hpo import predict
from hpo.config import StudyConfig, load
from hpo.mlflow_client import open_client
from hpo.records import Seeds, StudySummary, TrialConfig, TrialRecord, TrialState
from hpo.report.screen import open_screen
from hpo.report.sections import _winner
from hpo.study.finish import Finish, Outcome
from hpo.study.prepare import Prepared, prepare
from hpo.tasks.contract import HasReasons

NAMES = ["classes of windows", "labels", "tags", "answers or none", "choices", "choices in columns", "texts from texts"]
WARM, COLD = 2e-3, 1e-6


@dataclass
class Study:
    """A study over the toy's files, whose trials run in this process."""

    toy: Toy
    folder: Path
    config: StudyConfig
    prepared: Prepared
    said: str

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.folder}/mlflow.db"

    def train(self, number: int, learning_rate: float) -> TrialRecord:
        params = {"learning_rate": learning_rate, "num_train_epochs": 8, "per_device_train_batch_size": 8}
        seeds = Seeds(init=number, order=2)
        *_, last = self.prepared.objective(self.config, self.folder / "checkpoints")(
            TrialConfig(number=number, params=params, seeds=seeds, rungs=(1.0,))
        )
        return TrialRecord(
            number=number,
            state=TrialState.COMPLETE,
            origin="tpe",
            params=params,
            value=last.metrics[self.config.metric],
            seeds=seeds,
            checkpoint=last.checkpoint,
        )

    def judge(self, record: TrialRecord) -> Outcome:
        client = open_client(self.uri)
        experiment = client.get_experiment_by_name("toy")
        kept = (
            experiment.experiment_id
            if experiment
            else client.create_experiment("toy", artifact_location=str(self.folder / "artifacts"))
        )
        return Finish(self.config, self.prepared, self.folder, client.create_run(kept).info.run_id).judge(record, None)


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=pytest.mark.xdist_group(f"task {name}")) for name in NAMES]
)
def study(request: pytest.FixtureRequest, tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    toy, folder = TOYS[request.param], tmp_path_factory.mktemp("task")
    for seed, (split, rows) in enumerate({"train": 160, "validation": 40, "test": 80}.items()):
        lines = [json.dumps(row) + "\n" for row in toy.table(rows, seed).to_pylist()]
        (folder / f"{split}.jsonl").write_text("".join(lines))
    space = folder / "toy.yaml"
    space.write_text(
        f"study: toy\nmodel: {{name: {tiny_bert}}}\n"
        f"task: {json.dumps(toy.task.model_dump(mode='json', exclude_none=True))}\n"
        "data: {files: {train: train.jsonl, validation: validation.jsonl, test: test.jsonl}}\n"
        "space: {learning_rate: {low: 1e-6, high: 1e-2, log: true}}\n"
        "search: {scheduler: fifo}\npromotion: {model: toy}\n"
        f"tracking: {{uri: 'sqlite:///{folder}/mlflow.db'}}\nstorage: {folder}/studies\n"
    )
    config, said = load(space), io.StringIO()
    with open_screen(said) as screen:
        prepared = prepare(config, screen)
    return Study(toy, folder, config, prepared, said.getvalue())


@pytest.fixture(scope="module")
def champion(study: Study) -> Outcome:
    return study.judge(study.train(1, WARM))


@pytest.fixture(scope="module")
def rival(study: Study) -> TrialRecord:
    return study.train(2, COLD)


@pytest.fixture(autouse=True)
def forget_the_address() -> Iterator[None]:
    yield
    mlflow.set_tracking_uri(None)


@contextmanager
def served(model: Any) -> Iterator[str]:
    """The application that `mlflow models serve` hands to uvicorn, behind uvicorn, without a process of its own."""
    from mlflow.pyfunc import scoring_server  # its import warns, but for the first one, which registering does

    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(scoring_server.init(model), log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def test_the_splits_are_read_and_what_became_of_them_is_told(study: Study) -> None:
    assert "train 160 · validation 40 · test 80 rows" in study.said
    if study.toy.task.type == "question-answering":
        assert "test: 80 questions make" in study.said


def test_the_first_winner_is_promoted_with_its_figures_in_the_report(study: Study, champion: Outcome) -> None:
    assert champion.decision is not None
    assert champion.decision.verdict == "promote", champion.decision.reasons
    assert champion.test_best is not None
    assert champion.test_best[study.config.metric] == pytest.approx(champion.decision.challenger_score, abs=1e-6)
    assert champion.test_best[study.config.metric] > 0.7
    assert Outcome.model_validate_json(champion.model_dump_json()) == champion
    if study.toy.task.type in ("multi-label-classification", "token-classification"):
        assert champion.breakdown is not None
        best = study.train(1, WARM)
        summary = StudySummary(
            study="toy", metric=study.config.metric, mode="max", best=best, breakdown=champion.breakdown, test_rows=80
        )
        table = _winner(summary, [best]).tables[-1]
        assert {row.cells[0].text for row in table.rows} >= {"good" if "label" in study.toy.task.type else "praise"}


def test_the_untrained_model_stands_beside_the_winner(study: Study, champion: Outcome) -> None:
    assert champion.test_untrained is not None
    assert champion.test_best is not None
    assert champion.test_untrained.keys() == champion.test_best.keys()
    assert champion.test_untrained[study.config.metric] < champion.test_best[study.config.metric] - 0.1


def test_the_report_says_where_the_winner_is_wrong(study: Study, champion: Outcome) -> None:
    assert champion.review is not None
    found = champion.review.mistakes
    assert found is not None
    assert found.wrong == len(found.rows)  # fewer than are kept
    if study.config.metric == "accuracy":
        assert champion.test_best is not None
        assert found.wrong == round(80 * (1 - champion.test_best["accuracy"]))
        assert champion.review.confusion is not None
        assert sum(rows for true, said, rows in champion.review.confusion.cells if true != said) == found.wrong
        assert champion.review.reliability is not None
        assert champion.review.reliability.fitted_on == 40
    test = study.toy.table(80, seed=2).to_pylist()
    for own in found.rows:
        assert own.truth != own.said
        words = test[own.row][study.toy.asked[0]]
        assert (words if isinstance(words, str) else " ".join(words)) in own.text


def test_some_answers_are_explained_where_they_stand_on_one_output(study: Study, champion: Outcome) -> None:
    assert champion.review is not None
    explained, task = champion.review.explained, study.toy.task
    assert champion.review.unexplained is None
    if not isinstance(task, HasReasons):
        assert explained == ()
        return
    assert len(explained) >= 3
    assert {own.row for own in explained if not own.is_right} <= {own.row for own in champion.review.mistakes.rows}
    test = study.toy.table(80, seed=2).to_pylist()
    for own in explained:
        assert abs(own.gap) <= 0.05 * abs(own.logit - own.baseline) + 0.02
        assert " ".join(piece.text for piece in own.pieces[1:-1]) == test[own.row]["text"]
        if own.is_right and study.config.metric == "accuracy":  # the one word that tells weighs most
            assert max(own.pieces, key=lambda piece: abs(piece.weight)).text in ("good", "bad")


def test_an_untrained_rival_is_kept_out_by_a_test_on_the_same_rows(
    study: Study, champion: Outcome, rival: TrialRecord
) -> None:
    outcome = study.judge(rival)
    assert outcome.decision is not None
    assert outcome.decision.verdict == "keep", outcome.decision.reasons
    assert outcome.decision.champion_score == pytest.approx(champion.decision.challenger_score)
    assert outcome.decision.p_value is not None
    assert outcome.decision.p_value > 0.5


def test_test_rows_that_the_champion_was_trained_on_are_left_out(
    study: Study, champion: Outcome, rival: TrialRecord
) -> None:
    new = [json.loads(line) for line in (study.folder / "test.jsonl").read_text().splitlines()[:40]]
    known = [json.loads(line) for line in (study.folder / "train.jsonl").read_text().splitlines()[:30]]
    (study.folder / "mixed.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*new, *known]))
    (study.folder / "rest.jsonl").write_text("".join((study.folder / "train.jsonl").read_text().splitlines(True)[30:]))
    changes = [
        "study=other",
        f"data.files.test={study.folder}/mixed.jsonl",
        f"data.files.train={study.folder}/rest.jsonl",
    ]
    config = load(study.folder / "toy.yaml", changes)
    with open_screen(io.StringIO()) as screen:
        other = replace(study, config=config, prepared=prepare(config, screen))
    outcome = other.judge(rival)
    assert outcome.decision is not None
    assert outcome.decision.left_out >= 1, outcome.decision.reasons
    assert outcome.decision.rows + outcome.decision.left_out == 70
    assert "more are left out, since only one of the two was trained on them" in outcome.decision.reasons[0]


def test_the_champion_answers_a_file_and_a_server_says_the_same(study: Study, champion: Outcome) -> None:
    rows = [{name: row[name] for name in study.toy.asked} for row in study.toy.table(12, seed=9).to_pylist()]
    source, target = study.folder / "new.jsonl", study.folder / "answers.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ["--input", str(source), "--output", str(target), "--tracking-uri", study.uri]
    assert predict.main(["--model", "models:/toy@champion", *arguments]) == 0
    written = [json.loads(line) for line in target.read_text().splitlines()]
    assert [{name: row[name] for name in study.toy.asked} for row in written] == rows

    mlflow.set_tracking_uri(study.uri)
    asked = rows if len(study.toy.asked) > 1 else [_text(row[study.toy.asked[0]]) for row in rows]
    with served(mlflow.pyfunc.load_model("models:/toy@champion")) as address:
        request = Request(f"{address}/invocations", json.dumps({"inputs": asked}).encode())
        request.add_header("Content-Type", "application/json")
        with urlopen(request, timeout=60) as answer:
            replies = json.load(answer)["predictions"]
    assert [reply["prediction"] for reply in replies] == [row["prediction"] for row in written]
    described = open_client(study.uri).get_registered_model("toy").description
    assert study.toy.task.usage(study.prepared.labels).row in described
    assert list((study.folder / "artifacts").rglob("*.pkl")) == []


def _text(value: str | list[str]) -> str:
    return value if isinstance(value, str) else " ".join(value)


def test_a_checkpoint_answers_by_itself_in_every_format(study: Study, champion: Outcome, tmp_path: Path) -> None:
    folder = study.folder / "checkpoints" / "trial-0001"
    rows = study.toy.table(5, seed=11).select(study.toy.asked).to_pylist()
    source = tmp_path / "new.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for suffix in ("jsonl", "csv", "tsv", "parquet"):
        target = tmp_path / f"answers.{suffix}"
        arguments = ["--model", str(folder), "--input", str(source), "--output", str(target), "--all-scores"]
        assert predict.main(arguments) == 0
        assert target.stat().st_size > 0
