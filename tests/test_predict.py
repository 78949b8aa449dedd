import csv
import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import transformers
from tiny_bert import WORDS, write_tiny_bert

from hpo import predict
from hpo.answering import Model
from hpo.encoded import Encoded
from hpo.mlflow_client import open_client
from hpo.records import Decision
from hpo.registry import Registry
from hpo.tasks import SequenceClassification

# MLflow's own queries ask SQLAlchemy for a loader that is on its way out.
ROOT = Path(__file__).resolve().parents[1]
draw = np.random.default_rng(3)
TEXTS = [" ".join(draw.choice(WORDS, size=draw.integers(1, 40))) for _ in range(37)]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bert(tmp_path_factory.mktemp("predict") / "checkpoint")


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.tsv"
    path.write_text("id\tsentence\n" + "".join(f"{number}\t{text}\n" for number, text in enumerate(TEXTS)))
    return path


def answer(model: Path | str, source: Path, target: Path, *more: str) -> int:
    return predict.main(["--model", str(model), "--input", str(source), "--output", str(target), *more])


def direct(checkpoint: Path, texts: list[str]) -> list[dict[str, object]]:
    pipeline = transformers.pipeline("text-classification", model=str(checkpoint), device="cpu")
    return [dict(own) for own in pipeline(texts)]


def read_csv(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_checkpoint_answers_every_row_in_its_place(checkpoint: Path, rows: Path, tmp_path: Path) -> None:
    assert answer(checkpoint, rows, tmp_path / "out.csv", "--text", "sentence") == 0
    written = read_csv(tmp_path / "out.csv")
    assert [row["id"] for row in written] == [str(number) for number in range(len(TEXTS))]
    assert [row["sentence"] for row in written] == TEXTS
    expected = direct(checkpoint, TEXTS)
    assert [row["prediction"] for row in written] == [own["label"] for own in expected]
    assert [float(row["score"]) for row in written] == pytest.approx([own["score"] for own in expected], abs=2e-6)
    assert {row["prediction"] for row in written} == {"neg", "pos"}


def test_the_size_of_a_batch_changes_no_answer(checkpoint: Path, rows: Path, tmp_path: Path) -> None:
    assert answer(checkpoint, rows, tmp_path / "all.csv", "--text", "sentence") == 0
    assert answer(checkpoint, rows, tmp_path / "few.csv", "--text", "sentence", "--batch-size", "3") == 0
    one, other = read_csv(tmp_path / "all.csv"), read_csv(tmp_path / "few.csv")
    assert [row["prediction"] for row in one] == [row["prediction"] for row in other]
    scores = ([float(row["score"]) for row in own] for own in (one, other))
    assert next(scores) == pytest.approx(next(scores), abs=2e-6)


@pytest.mark.parametrize("suffix", ["tsv", "csv", "jsonl", "parquet"])
def test_every_format_is_read_and_written(checkpoint: Path, rows: Path, tmp_path: Path, suffix: str) -> None:
    first, second = tmp_path / f"first.{suffix}", tmp_path / "second.jsonl"
    assert answer(checkpoint, rows, first, "--text", "sentence") == 0
    renamed = tmp_path / f"renamed.{suffix}"
    if suffix == "parquet":
        shutil.copy(first, renamed)
        assert answer(checkpoint, renamed, second, "--text", "sentence") == 2
        return
    renamed.write_text(first.read_text().replace("prediction", "before").replace("score", "before_score"))
    assert answer(checkpoint, renamed, second, "--text", "sentence") == 0
    written = [json.loads(line) for line in second.read_text().splitlines()]
    assert [row["sentence"] for row in written] == TEXTS
    assert [row["prediction"] for row in written] == [row["before"] for row in written]


def test_all_scores_are_those_of_all_classes(tmp_path: Path, rows: Path) -> None:
    checkpoint = write_tiny_bert(tmp_path / "three", labels=("high", "low", "middle"))
    assert answer(checkpoint, rows, tmp_path / "out.jsonl", "--text", "sentence", "--all-scores") == 0
    for line in (tmp_path / "out.jsonl").read_text().splitlines():
        row = json.loads(line)
        scores = {name: row[f"score_{name}"] for name in ("high", "low", "middle")}
        assert sum(scores.values()) == pytest.approx(1.0, abs=1e-5)
        assert row["prediction"] == max(scores, key=lambda name, scores=scores: scores[name])
        assert row["score"] == max(scores.values())


def test_a_regression_answers_with_numbers(tmp_path: Path, rows: Path) -> None:
    checkpoint = write_tiny_bert(tmp_path / "regression", labels=())
    assert answer(checkpoint, rows, tmp_path / "out.csv", "--text", "sentence") == 0
    written = read_csv(tmp_path / "out.csv")
    assert "score" not in written[0]
    expected = [own["score"] for own in direct(checkpoint, TEXTS)]
    assert [float(row["prediction"]) for row in written] == pytest.approx(expected, abs=1e-4)


def test_pairs_are_read_from_two_columns(checkpoint: Path, tmp_path: Path) -> None:
    source = tmp_path / "pairs.jsonl"
    pairs = [{"one": TEXTS[number][:60], "other": TEXTS[-number][:60]} for number in range(1, 10)]
    source.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    assert answer(checkpoint, source, tmp_path / "out.jsonl", "--text", "one", "other") == 0
    pipeline = transformers.pipeline("text-classification", model=str(checkpoint), device="cpu")
    expected = pipeline([{"text": pair["one"], "text_pair": pair["other"]} for pair in pairs])
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["score"] for row in written] == pytest.approx([own["score"] for own in expected], abs=2e-6)


def test_the_champion_answers_and_knows_its_columns(checkpoint: Path, rows: Path, store: str, tmp_path: Path) -> None:
    client = open_client(store)
    run = client.create_run(client.create_experiment("toy", artifact_location=str(tmp_path / "artifacts")))
    Registry(store).register(
        "toy",
        checkpoint,
        pipeline=transformers.pipeline("text-classification", model=str(checkpoint), device="cpu"),
        decision=Decision(verdict="promote", reasons=("it is the first",), challenger_score=0.5, seen=0),
        run_id=run.info.run_id,
        task=SequenceClassification(text="sentence", label="label", max_length=48),
        labels=("neg", "pos"),
        examples=TEXTS[:2],
        tags={},
    )
    assert answer(checkpoint, rows, tmp_path / "folder.csv", "--text", "sentence", "--max-length", "48") == 0
    assert answer("models:/toy@champion", rows, tmp_path / "champion.csv", "--tracking-uri", store) == 0
    assert (tmp_path / "champion.csv").read_text() == (tmp_path / "folder.csv").read_text()
    assert answer("models:/toy@best", rows, tmp_path / "best.csv", "--tracking-uri", store) == 2


MISTAKES = {
    "no such input": (["--input", "missing.tsv"], "missing.tsv: there is no such file"),
    "no such model": (["--model", "nowhere"], "no folder with a config.json"),
    "no such store": (["--model", "models:/toy@champion", "--tracking-uri", "sqlite:///no/mlflow.db"], "there is no "),
    "a file store": (["--model", "models:/toy@champion", "--tracking-uri", "./mlruns"], "MLflow 3 refuses file stores"),
    "an output of no known kind": (["--output", "out.xlsx"], ".xlsx is not written"),
    "an output in no folder": (["--output", "no/out.csv"], "make it"),
    "no such column": (["--text", "sentense"], "did you mean sentence?"),
    "three columns": (["--text", "a", "b", "c"], "give one, or two for pairs"),
    "no rows at a time": (["--batch-size", "0"], "give at least 1"),
    "more tokens than the model takes": (["--max-length", "65"], "the model takes 64 at most"),
    "too few tokens": (["--max-length", "1"], "--max-length: 1 tokens do not suit this model (Input should be greater"),
    "one column twice": (["--text", "sentence", "sentence"], "has one column twice"),
}


def test_fewer_tokens_than_the_windows_of_a_model_share_are_a_mistake_of_max_length(
    checkpoint: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = shutil.copytree(checkpoint, tmp_path / "model")
    task = {"type": "question-answering", "max_length": 64, "doc_stride": 16, "max_query_length": 16}
    (model / "task.json").write_text(json.dumps({"task": task, "labels": []}))
    assert answer(model, rows, tmp_path / "out.csv", "--max-length", "32") == 2
    said = capsys.readouterr().err
    assert "--max-length: 32 tokens do not suit this model (doc_stride is 16" in said
    assert "use the release" not in said


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_with_code_2(
    mistake: str,
    checkpoint: Path,
    rows: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments, expected = MISTAKES[mistake]
    given = ["--model", str(checkpoint), "--input", str(rows), "--output", "out.csv", "--text", "sentence", *arguments]
    assert predict.main(given) == 2
    said = capsys.readouterr().err
    assert expected in said
    assert "Traceback" not in said
    assert not (tmp_path / "out.csv").exists()


def test_a_server_that_is_away_is_code_4(rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert answer("models:/a@champion", rows, tmp_path / "out.csv", "--tracking-uri", "http://127.0.0.1:9") == 4
    assert "check that the service is up" in capsys.readouterr().err


def test_a_model_without_a_head_is_refused(
    checkpoint: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(checkpoint, bare)
    config = json.loads((bare / "config.json").read_text())
    (bare / "config.json").write_text(json.dumps(config | {"architectures": ["BertModel"]}))
    assert answer(bare, rows, tmp_path / "out.csv", "--text", "sentence") == 2
    assert "no head for sequence-classification" in capsys.readouterr().err


def test_a_damaged_model_is_refused(
    checkpoint: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(checkpoint, damaged)
    (damaged / "model.safetensors").write_bytes(b"\x00" * 100)
    assert answer(damaged, rows, tmp_path / "out.csv", "--text", "sentence") == 2
    assert "can't be loaded" in capsys.readouterr().err


def test_a_server_that_dies_before_the_model_came_is_code_4(
    rows: Path, store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client = open_client(store)
    client.create_registered_model("toy")
    client.create_model_version("toy", "http://127.0.0.1:9/api/2.0/mlflow-artifacts/artifacts/model")
    client.set_registered_model_alias("toy", "champion", "1")
    assert answer("models:/toy@champion", rows, tmp_path / "out.csv", "--tracking-uri", store) == 4
    assert "127.0.0.1" in capsys.readouterr().err


def test_a_tab_in_a_text_does_not_fit_into_a_tsv(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "tab.csv"
    source.write_text('sentence\n"great\tfilm"\n')
    assert answer(checkpoint, source, tmp_path / "out.tsv", "--text", "sentence") == 2
    assert "write a csv or a jsonl" in capsys.readouterr().err
    assert list(tmp_path.glob("*out.tsv*")) == []


@pytest.mark.parametrize(
    ("header", "text", "output", "words"),
    [
        ("sentence,prediction", "a great film,x", "out.csv", "a column 'prediction' already; rename that one"),
        ("sentence,id", '"great\tfilm",1', "out.tsv", "row 1 holds a tab or a line break"),
        ('sentence,"an\tid"', "a great film,1", "out.tsv", "the header holds a tab or a line break"),
    ],
)
def test_what_could_not_be_written_is_told_before_rows_are_answered(
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    header: str,
    text: str,
    output: str,
    words: str,
) -> None:
    answered: list[int] = []
    outputs = Model.outputs

    def counting(model: Model, encoded: Encoded, *more: object) -> object:
        answered.append(encoded.rows)
        return outputs(model, encoded, *more)

    monkeypatch.setattr(Model, "outputs", counting)
    source = tmp_path / "rows.csv"
    source.write_text(f"{header}\n{text}\n" + "a film,1\n" * 40)
    assert answer(checkpoint, source, tmp_path / output, "--text", "sentence") == 2
    assert words in capsys.readouterr().err
    assert sum(answered) <= 1
    assert list(tmp_path.glob(f"*{output}*")) == []


def test_columns_that_parquet_cannot_hold_are_told(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "rows.jsonl"
    source.write_text('{"sentence": "a great film", "more": {}}\n')
    assert answer(checkpoint, source, tmp_path / "out.parquet", "--text", "sentence") == 2
    assert "parquet can't hold these columns" in capsys.readouterr().err


def test_help_comes_at_once() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "hpo.predict", "--help"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)  # of a processor: the same however busy the machine is
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2.0
    assert "models:/NAME@ALIAS" in done.stdout


def test_a_mistake_is_told_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys; from hpo.predict import main; "
        "code = main(['--model', 'nowhere', '--input', 'a.tsv', '--output', 'b.csv']); "
        "heavy = {'torch', 'transformers', 'mlflow', 'pyarrow', 'pandas', 'datasets'} & set(sys.modules); "
        "sys.exit(f'{code} {heavy}' if heavy or code != 2 else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_the_whole_command_says_one_line(checkpoint: Path, rows: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hpo.predict", "--model", str(checkpoint), "--text", "sentence"]
    command += ["--input", str(rows), "--output", str(tmp_path / "out.csv")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == ""
    assert [line for line in done.stderr.splitlines() if "37 rows answered" not in line] == []
