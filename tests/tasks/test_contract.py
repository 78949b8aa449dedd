"""What every member of the union has to fit: from rows to a checkpoint that answers."""

import json
import typing
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from toys import TOYS, Toy

from hpo.answering import Model
from hpo.columns import Layout
from hpo.data.source import RawSplit, clean, clean_columns
from hpo.encoded import Encoded
from hpo.objectives import bounds_of, mode_of
from hpo.promotion import Evidence, PromotionConfig, decide
from hpo.records import Answers, Seeds, TrialConfig, Usage
from hpo.tasks import (
    MaskedLm,
    MultiLabel,
    RelationClassification,
    SequenceClassification,
    Task,
    described,
    metrics,
    settled,
)
from hpo.tasks.contract import HasClasses, HasMistakes
from hpo.training import inference
from hpo.training.extended import extended
from hpo.training.hyperparameters import Hyperparameters
from hpo.training.losses import build_loss
from hpo.training.model import Starting
from hpo.training.pretrained import Pretrained, Tokenizer, load_tokenizer
from hpo.training.resident import Resident
from hpo.trial import TrialObjective

MEMBERS = typing.get_args(typing.get_args(Task)[0])


@pytest.fixture(params=TOYS, ids=list(TOYS))
def toy(request: pytest.FixtureRequest) -> Toy:
    return TOYS[request.param]


@pytest.fixture
def model(toy: Toy, tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT that has the markers of the task."""
    cache = tmp_path_factory.getbasetemp() / "extended"
    return extended(Pretrained(tiny_bert, "tiny", "tiny"), toy.task.markers, cache).folder


@pytest.fixture
def tokenizer(model: Path) -> Tokenizer:
    return load_tokenizer(model)


def rows_of(toy: Toy, rows: int = 12, seed: int = 0) -> pa.Table:
    return clean(RawSplit(toy.table(rows, seed), "toy"), toy.task.layout)


def encoded_of(toy: Toy, tokenizer: Tokenizer, rows: int = 12, seed: int = 0) -> tuple[Encoded, tuple[str, ...]]:
    table = rows_of(toy, rows, seed)
    labels = toy.task.label_names(rows_of(toy, 60))
    return toy.task.encode(table, labels, tokenizer), labels


def model_of(toy: Toy, folder: Path, labels: tuple[str, ...]) -> torch.nn.Module:
    return Starting(folder, toy.task.head, toy.task.head_config(labels)).build(Hyperparameters(), seed=1)


def outputs_of(
    toy: Toy, folder: Path, tokenizer: Tokenizer, encoded: Encoded, labels: tuple[str, ...], **options: int
) -> np.ndarray:
    def collate(some: Encoded, features: np.ndarray) -> dict[str, np.ndarray]:
        return toy.task.collate(some, features, tokenizer.pad_id)

    return inference.logits(model_of(toy, folder, labels), encoded, collate, torch.device("cpu"), **options)


def test_batches_abreast_are_answered_as_one_after_the_other(toy: Toy, model: Path, tokenizer: Tokenizer) -> None:
    encoded, labels = encoded_of(toy, tokenizer, rows=30)
    before = torch.get_num_threads()
    alone, beside = (outputs_of(toy, model, tokenizer, encoded, labels, tokens=40, abreast=own) for own in (1, 3))
    assert np.array_equal(alone, beside)
    assert torch.get_num_threads() == before


def test_there_is_a_toy_for_every_member() -> None:
    assert MEMBERS
    assert {type(toy.task) for toy in TOYS.values()} == set(MEMBERS)


def test_only_rows_of_one_term_are_gathered_on_a_device_and_as_the_task_collates_them(
    toy: Toy, tokenizer: Tokenizer
) -> None:
    """All others train eagerly."""
    encoded, _ = encoded_of(toy, tokenizer)
    resident = Resident.of(encoded, tokenizer.pad_id, torch.device("cpu"))
    assert (resident is not None) == isinstance(toy.task, SequenceClassification | RelationClassification)
    rows = np.array([5, 0, 3])
    assert resident is None or resident.agrees(toy.task.collate(encoded, rows, tokenizer.pad_id), rows)


def test_a_task_comes_back_from_json(toy: Toy) -> None:
    assert type(toy.task).model_validate_json(toy.task.model_dump_json()) == toy.task
    about = described(toy.task, ("a", "b"))
    assert about["labels"] == ["a", "b"]
    assert about["task"]["type"] == toy.task.type


def test_what_a_task_says_of_itself_fits_together(toy: Toy) -> None:
    task = toy.task
    assert task.default_metric in task.metric_names
    assert isinstance(task.layout, Layout)
    assert [column.name for column in task.asked] == [column.name for column in task.layout.inputs]
    assert task.inert <= set(Hyperparameters.model_fields)
    assert all(name in type(task).model_fields for name in task.tuned)
    assert isinstance(task.usage(("a", "b")), Usage)
    labels = task.label_names(rows_of(toy, 60))
    task.check_metric(task.default_metric, labels)
    json.loads(task.usage(labels).row.replace("...?", "").replace("[...]", "[]"))


def test_encoded_rows_come_back_from_the_file(toy: Toy, tokenizer: Tokenizer, tmp_path: Path) -> None:
    encoded, _ = encoded_of(toy, tokenizer)
    encoded.save(tmp_path / "rows.arrow")
    again = Encoded.load(tmp_path / "rows.arrow")
    assert (len(again), again.rows) == (len(encoded), 12)
    for one, other in ((encoded, again), (encoded.owners, again.owners)):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            assert {name: column.values.tolist() for name, column in one.ragged.items()} == {
                name: column.values.tolist() for name, column in other.ragged.items()
            }
            assert {name: column.tolist() for name, column in one.flat.items()} == {
                name: column.tolist() for name, column in other.flat.items()
            }
    assert all(isinstance(note, str) for note in toy.task.notes(again))


def test_a_batch_is_what_the_head_reads_and_the_loss_compares(toy: Toy, tokenizer: Tokenizer, model: Path) -> None:
    encoded, labels = encoded_of(toy, tokenizer)
    inputs = inference.to_tensors(toy.task.collate(encoded, np.array([3, 0, 5]), tokenizer.pad_id), torch.device("cpu"))
    truth = inputs.pop("labels")
    assert len(truth) == 3
    outputs = inference.outputs_of(model_of(toy, model, labels)(**inputs))
    losses = build_loss(Hyperparameters(), toy.task.learns)(outputs, truth)
    assert torch.isfinite(losses).all()
    assert losses.requires_grad


def test_the_loss_of_a_split_is_that_of_its_batches(toy: Toy, tokenizer: Tokenizer, model: Path) -> None:
    encoded, labels = encoded_of(toy, tokenizer)
    outputs = outputs_of(toy, model, tokenizer, encoded, labels)
    loss = build_loss(Hyperparameters(), toy.task.learns)
    whole = loss(torch.from_numpy(outputs), torch.from_numpy(encoded.labels.copy())).sum()
    inputs = inference.to_tensors(
        toy.task.collate(encoded, np.arange(len(encoded)), tokenizer.pad_id), torch.device("cpu")
    )
    truth = inputs.pop("labels")
    with torch.inference_mode():
        together = loss(inference.outputs_of(model_of(toy, model, labels).eval()(**inputs)), truth).sum()
    assert float(whole) == pytest.approx(float(together), rel=1e-4)
    assert encoded.terms.shape == (len(encoded),)
    assert encoded.terms.sum() > 0


def test_some_features_answer_as_they_do_among_all(toy: Toy, tokenizer: Tokenizer, model: Path) -> None:
    encoded, labels = encoded_of(toy, tokenizer)
    some = encoded.take(np.array([7, 2, 4]))
    assert len(some) == 3
    whole = toy.task.collate(encoded, np.array([7, 2, 4]), 0)
    part = toy.task.collate(some, np.arange(3), 0)
    assert {name: array.tolist() for name, array in whole.items()} == {
        name: array.tolist() for name, array in part.items()
    }
    outputs = outputs_of(toy, model, tokenizer, some, labels)
    assert all(np.isfinite(value) for value in toy.task.compute_metrics(outputs, some, labels).values())


def test_metrics_are_finite_and_follow_from_the_evidence(toy: Toy, tokenizer: Tokenizer, model: Path) -> None:
    encoded, labels = encoded_of(toy, tokenizer, rows=40)
    outputs = outputs_of(toy, model, tokenizer, encoded, labels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = toy.task.compute_metrics(outputs, encoded, labels)
        task = settled(toy.task, found)
        for metric in toy.task.metric_names:
            if metric not in found:
                continue  # f1 of two classes
            least, most = bounds_of(metric)
            assert least <= found[metric] <= most
            predictions, references = task.evidence(outputs, encoded, labels, metric)
            assert len(predictions) == len(references) == encoded.rows
            assert task.plain(metric)(predictions, references) == pytest.approx(found[metric], abs=1e-6)
            rows = np.random.default_rng(0).integers(len(predictions), size=len(predictions))
            assert np.isfinite(task.plain(metric)(predictions[rows], references[rows]))
    assert set(found) - set(task.tuned) <= set(toy.task.metric_names)
    for name in task.tuned:
        assert (name in found) == (getattr(task, name) is not None)
    assert set(task.compute_metrics(outputs, encoded, labels)) <= set(toy.task.metric_names)


def test_a_trial_computes_what_evaluate_computes_to_the_last_digit(toy: Toy, tokenizer: Tokenizer, model: Path) -> None:
    encoded, labels = encoded_of(toy, tokenizer, 40)
    outputs = outputs_of(toy, model, tokenizer, encoded, labels)
    found = toy.task.compute_metrics(outputs, encoded, labels)
    with metrics.plainly():
        assert toy.task.compute_metrics(outputs, encoded, labels) == found


def test_an_accuracy_decides_whatever_a_row_is(toy: Toy, tokenizer: Tokenizer, model: Path) -> None:
    encoded, labels = encoded_of(toy, tokenizer, rows=20)
    outputs = outputs_of(toy, model, tokenizer, encoded, labels)
    task = settled(toy.task, toy.task.compute_metrics(outputs, encoded, labels))
    if "accuracy" not in task.metric_names:
        return
    said, truth = task.evidence(outputs, encoded, labels, "accuracy")
    own = Answers(predictions=said.tolist(), references=truth.tolist())
    evidence = Evidence(challenger=own, champion=own, metric="accuracy", mode="max", score=task.plain("accuracy"))
    decision = decide(evidence, PromotionConfig(model="toy", confidence=0.95))
    assert (decision.verdict, decision.improvement) == ("keep", 0.0)
    assert decision.p_value is not None


def test_references_do_not_depend_on_the_model(toy: Toy, tokenizer: Tokenizer, model: Path) -> None:
    encoded, labels = encoded_of(toy, tokenizer)
    outputs = outputs_of(toy, model, tokenizer, encoded, labels)
    metric = toy.task.default_metric
    _, one = toy.task.evidence(outputs, encoded, labels, metric)
    _, other = toy.task.evidence(outputs[::-1].copy(), encoded, labels, metric)
    np.testing.assert_array_equal(one, other)


def test_wrong_rows_are_those_that_cost_accuracy(toy: Toy, tokenizer: Tokenizer, model: Path) -> None:
    encoded, labels = encoded_of(toy, tokenizer, rows=40)
    outputs, table = outputs_of(toy, model, tokenizer, encoded, labels), rows_of(toy, 40).select(toy.asked)
    task = settled(toy.task, toy.task.compute_metrics(outputs, encoded, labels))
    if not isinstance(task, HasMistakes):
        assert isinstance(task, MaskedLm)
        return
    found = task.mistakes(outputs, encoded, labels, table)
    assert found is not None
    assert len({own.row for own in found.rows}) == len(found.rows)
    if isinstance(task, HasClasses) and (classes := task.class_outputs(outputs, encoded)) is not None:
        accuracy = float((classes.argmax(axis=-1) == encoded.row_labels).mean())
        assert found.wrong == round(40 * (1 - accuracy))
        assert accuracy == pytest.approx(task.compute_metrics(outputs, encoded, labels)["accuracy"])
    elif isinstance(task, MultiLabel):
        assert found.wrong == round(40 * (1 - task.compute_metrics(outputs, encoded, labels)["accuracy"]))


def test_outputs_that_are_not_finite_give_no_finite_metric(toy: Toy, tokenizer: Tokenizer, model: Path) -> None:
    encoded, labels = encoded_of(toy, tokenizer)
    outputs = outputs_of(toy, model, tokenizer, encoded, labels)
    outputs[0, 0] = np.nan
    found = toy.task.compute_metrics(outputs, encoded, labels)
    assert found
    assert not any(map(np.isfinite, found.values()))


def test_rows_without_labels_are_answered(toy: Toy, tokenizer: Tokenizer, model: Path) -> None:
    table = clean_columns(RawSplit(toy.table(9), "toy"), toy.task.asked)
    is_own_label = toy.task.layout.label in toy.task.layout.inputs
    assert is_own_label or toy.task.layout.label.name not in table.column_names
    labels = toy.task.label_names(rows_of(toy, 60))
    encoded = toy.task.encode(table, labels, tokenizer)
    assert is_own_label or "labels" not in toy.task.collate(encoded, np.arange(len(encoded)), 0)
    outputs = outputs_of(toy, model, tokenizer, encoded, labels)
    for all_scores in (False, True):
        answers = toy.task.predict(outputs, encoded, labels, all_scores=all_scores)
        assert "prediction" in answers
        assert {len(values) for values in answers.values()} == {9}
        assert json.loads(json.dumps(answers)) == answers


def test_a_task_learns_and_its_checkpoint_answers(toy: Toy, tokenizer: Tokenizer, model: Path, tmp_path: Path) -> None:
    train = rows_of(toy, 160)
    labels = toy.task.label_names(train)
    for split, table in (("train", train), ("validation", rows_of(toy, 60, seed=1))):
        toy.task.encode(table, labels, tokenizer).save(tmp_path / f"{split}.arrow")
    mode = mode_of(toy.task.default_metric)
    objective = TrialObjective(
        model=model,
        task=toy.task,
        labels=labels,
        data=tmp_path,
        checkpoints=tmp_path / "checkpoints",
        metric=toy.task.default_metric,
        mode=mode,
        pad_id=tokenizer.pad_id,
    )
    params = {"learning_rate": 2e-3, "num_train_epochs": 8, "per_device_train_batch_size": 8, "bf16": False}
    reports = list(objective(TrialConfig(number=0, params=params, seeds=Seeds(init=1, order=2), rungs=(0.5, 1.0))))
    values = [report.metrics[toy.task.default_metric] for report in reports]
    best = max(values) if mode == "max" else min(values)
    assert best > toy.reachable if mode == "max" else best < toy.reachable
    assert reports[-1].metrics["loss"] < reports[0].metrics["loss"]
    folder = reports[-1].checkpoint
    assert folder is not None
    answering = Model.open(folder)
    assert (answering.labels, answering.task.type) == (labels, toy.task.type)
    tuned = answering.task.tuned
    assert all(getattr(answering.task, name) is not None for name in tuned if name in reports[-1].metrics)
    validation = rows_of(toy, 60, seed=1)
    rows = answering.encode(validation)
    found = answering.task.compute_metrics(answering.outputs(rows), rows, labels)
    assert found[toy.task.default_metric] == pytest.approx(best, abs=1e-6)
    asked = validation.select(toy.asked)
    replies = [reply["prediction"] for reply in answering.reply(asked.to_pylist())]
    assert coarse(replies) == coarse(answering.answers(asked, at_most=7)["prediction"])


def coarse(value: Any) -> Any:
    """Without the digits of a figure that depend on what stood beside it in a batch."""
    if isinstance(value, list):
        return [coarse(one) for one in value]
    if isinstance(value, dict):
        return {name: coarse(one) for name, one in value.items()}
    return pytest.approx(value, abs=1e-5) if isinstance(value, float) else value
