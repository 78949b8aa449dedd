"""A model as ONNX files: what they answer beside PyTorch, and what is kept of it."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from tiny_bert import WORDS, write_tiny_bert

from hpo import export
from hpo.encoded import Array
from hpo.errors import ModelError
from hpo.mlflow_client import open_client
from hpo.records import Decision
from hpo.registry import Registry
from hpo.tasks import MaskedLm, SequenceClassification, described
from hpo.training import exported, inference

CPU = torch.device("cpu")
TASK = SequenceClassification(text="sentence", label="label", max_length=48)
draw = np.random.default_rng(3)
TEXTS = [" ".join(draw.choice(WORDS, size=draw.integers(1, 30))) for _ in range(50)]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_tiny_bert(tmp_path_factory.mktemp("export") / "checkpoint")
    (folder / "task.json").write_text(json.dumps(described(TASK, ("neg", "pos"))))
    return folder


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.tsv"
    path.write_text("text\n" + "".join(f"{text}\n" for text in TEXTS))
    return path


@pytest.fixture
def registered(checkpoint: Path, store: str, tmp_path: Path) -> str:
    client = open_client(store)
    run = client.create_run(client.create_experiment("toy", artifact_location=str(tmp_path / "artifacts")))
    Registry(store).register(
        "toy",
        checkpoint,
        pipeline=transformers.pipeline("text-classification", model=str(checkpoint), device="cpu"),
        decision=Decision(verdict="promote", reasons=("it is the first",), challenger_score=0.5, seen=0),
        run_id=run.info.run_id,
        task=TASK,
        labels=("neg", "pos"),
        examples=TEXTS[:2],
        tags={},
    )
    return store


def test_a_champion_is_written_measured_and_logged_with_its_version(
    registered: str, checkpoint: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "onnx"
    arguments = ["--model", "models:/toy@champion", "--input", str(rows), "--output", str(target), "--text", "text"]
    assert export.main([*arguments, "--tracking-uri", registered]) == 0
    table = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in table[1:]] == ["PyTorch", "ONNX", "ONNX int8"]

    said = json.loads((target / "export.json").read_text())
    plain, whole, small = said["forms"]
    assert said["rows"] == 50
    assert (plain["difference"], plain["same"], whole["same"]) == (0.0, 1.0, 1.0)
    assert whole["difference"] < 1e-4
    assert small["same"] > 0.8
    assert small["megabytes"] < whole["megabytes"]

    tokenizer = transformers.AutoTokenizer.from_pretrained(target)  # the folder is all that is needed
    model = transformers.AutoModelForSequenceClassification.from_pretrained(checkpoint)
    session = exported.Session(target / "model.onnx", threads=1)
    for size in (1, 3, 50):
        inputs = tokenizer(TEXTS[:size], padding=True, truncation=True, max_length=48, return_tensors="pt")
        with torch.inference_mode():
            expected, found = model(**inputs).logits, session(**inputs).logits
        assert torch.allclose(found, expected, atol=1e-4)
        assert (found.argmax(-1) == expected.argmax(-1)).all()

    client = open_client(registered)
    version = client.get_model_version_by_alias("toy", "champion")
    assert float(version.tags["hpo.onnx_difference"]) == pytest.approx(whole["difference"], rel=0.01)
    assert float(version.tags["hpo.onnx_int8_same_answers"]) == small["same"]
    logged = {file.path for file in client.list_artifacts(version.run_id, "onnx-version-1")}
    assert {f"onnx-version-1/{name}" for name in ("model.onnx", "model-int8.onnx", "export.json")} <= logged


def test_a_version_without_a_run_leaves_its_files(
    registered: str, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client = open_client(registered)
    source = client.get_model_version("toy", "1").source
    assert client.create_model_version("toy", source).run_id in (None, "")
    target = tmp_path / "onnx"
    arguments = ["--model", "models:/toy/2", "--input", str(rows), "--output", str(target), "--text", "text"]
    assert export.main([*arguments, "--tracking-uri", registered]) == 2
    said = capsys.readouterr()
    assert "it comes from no run, so nothing can be put beside it; use the files" in said.err
    assert "ONNX int8" in said.out
    assert json.loads((target / "export.json").read_text())["rows"] == 50


def test_spans_are_exported_as_scores_of_first_and_last_tokens(tmp_path: Path) -> None:
    config = transformers.BertConfig(
        vocab_size=30, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=37
    )
    torch.manual_seed(0)
    model = transformers.BertForQuestionAnswering(config).eval()
    exported.export(model, inputs_of(2, 9), tmp_path / "model.onnx")
    session = exported.Session(tmp_path / "model.onnx", threads=1)
    asked = inference.to_tensors(inputs_of(5, 17), CPU)
    with torch.inference_mode():
        expected = inference.outputs_of(model(**asked))
    assert expected.shape == (5, 17, 2)
    assert torch.allclose(session(**asked).logits, expected, atol=1e-4)


def inputs_of(rows: int, tokens: int) -> dict[str, Array]:
    ids = np.random.default_rng(rows).integers(5, 30, (rows, tokens))
    mask = (np.arange(tokens) < np.arange(tokens - rows + 1, tokens + 1)[:, None]).astype(np.int64)
    return {"input_ids": ids * mask, "attention_mask": mask}


def test_a_model_of_masked_words_is_not_exported(checkpoint: Path, tmp_path: Path) -> None:
    from hpo.answering import Model

    with pytest.raises(ModelError, match="export what is fine-tuned from it"):
        export.write(Model(checkpoint, MaskedLm(), ()), None, tmp_path / "out")  # type: ignore[arg-type]


MISTAKES = {
    "no such input": (["--input", "missing.tsv"], "missing.tsv: there is no such file"),
    "no such model": (["--model", "nowhere"], "no folder with a config.json"),
    "no such store": (["--model", "models:/toy@champion", "--tracking-uri", "sqlite:///no/mlflow.db"], "there is no "),
    "a folder that is full": (["--output", "."], "is there already; name a new folder"),
    "no such column": (["--text", "sentense"], "sentense"),
    "two columns": (["--text", "a", "b"], "this model asks for 1 (sentence)"),
}


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
    (tmp_path / "full").touch()
    arguments, expected = MISTAKES[mistake]
    given = ["--model", str(checkpoint), "--input", str(rows), "--output", "out", "--text", "text", *arguments]
    assert export.main(given) == 2
    said = capsys.readouterr().err
    assert expected in said
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()


def test_what_is_not_installed_is_named_with_the_remedy(
    checkpoint: Path, rows: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(export, "NEEDED", {"onnx": "onnx", "no_such_package": "no_such_package>=2"})
    assert export.main(["--model", str(checkpoint), "--input", str(rows), "--output", "out"]) == 2
    said = capsys.readouterr().err.strip()
    assert "error: no_such_package not installed; first: " in said
    assert said.endswith(" 'no_such_package>=2'")
    assert " pip install " in said
    assert Path(sys.executable).name in said  # this very Python
