"""Every family of encoders through a whole trial: rows, training, checkpoint, answers."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from encoders import ENCODERS
from toys import TOYS

from hpo.answering import Model
from hpo.data.source import RawSplit, clean
from hpo.records import Seeds, TrialConfig
from hpo.training import inference
from hpo.training.hyperparameters import Hyperparameters
from hpo.training.model import Starting
from hpo.training.pretrained import load_tokenizer
from hpo.trial import TrialObjective

PARAMS = {"learning_rate": 3e-3, "num_train_epochs": 2, "per_device_train_batch_size": 8, "bf16": False}
HEADS = {"classes": "AutoModelForSequenceClassification", "tags": "AutoModelForTokenClassification"}
WITHOUT_DROPOUT_BEFORE_TAGS = {"DistilBERT", "DeBERTa", "DeBERTa v3"}
"""Their heads for tokens have the dropout of their layers."""
ROWS = {"train": 64, "validation": 24}


@pytest.fixture(scope="module", params=ENCODERS)
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    return request.param, ENCODERS[request.param](tmp_path_factory.mktemp("encoder"))


def sampled_for(name: str, toy: str) -> dict[str, Any]:
    """Every hyperparameter that such a model has."""
    dropouts = {"hidden_dropout_prob": 0.05, "attention_probs_dropout_prob": 0.15, "classifier_dropout": 0.25}
    if toy == "tags" and name in WITHOUT_DROPOUT_BEFORE_TAGS:
        del dropouts["classifier_dropout"]
    layers = {} if name == "ALBERT" else {"layerwise_lr_decay": 0.9, "frozen_layers": 1}
    return PARAMS | dropouts | layers


@pytest.mark.parametrize("toy", HEADS)
def test_an_encoder_trains_with_every_hyperparameter_and_its_checkpoint_answers(
    encoder: tuple[str, Path], toy: str, tmp_path: Path
) -> None:
    name, folder = encoder
    task, tokenizer = TOYS[toy].task, load_tokenizer(folder)
    raw = {split: TOYS[toy].table(rows, seed) for seed, (split, rows) in enumerate(ROWS.items())}
    tables = {split: clean(RawSplit(table, split), task.layout) for split, table in raw.items()}
    labels = task.label_names(tables["train"])
    for split, table in tables.items():
        task.encode(table, labels, tokenizer).save(tmp_path / f"{split}.arrow")
    objective = TrialObjective(
        model=folder,
        task=task,
        labels=labels,
        data=tmp_path,
        checkpoints=tmp_path / "checkpoints",
        metric=task.default_metric,
        mode="max",
        pad_id=tokenizer.pad_id,
    )
    params = sampled_for(name, toy)
    reports = list(objective(TrialConfig(number=0, params=params, seeds=Seeds(init=1, order=2), rungs=(1.0,))))
    assert reports[-1].checkpoint is not None
    model = Model.open(reports[-1].checkpoint)
    rows = model.encode(tables["validation"])
    found = task.compute_metrics(model.outputs(rows), rows, labels)
    best = max(report.metrics[task.default_metric] for report in reports)
    assert found[task.default_metric] == pytest.approx(best, abs=1e-6)
    table = tables["validation"].select([column.name for column in task.asked]).slice(0, 3)
    assert len(model.answers(table)["prediction"]) == 3


@pytest.mark.parametrize("toy", HEADS)
def test_what_a_model_lacks_is_known_before_it_is_trained(encoder: tuple[str, Path], toy: str) -> None:
    name, folder = encoder
    settings = TOYS[toy].task.head_config(("O", "B-a", "I-a"))
    found = Starting(folder, HEADS[toy], settings).inert({*sampled_for("BERT, uncased", "classes")})
    expected = {"classifier_dropout"} if toy == "tags" and name in WITHOUT_DROPOUT_BEFORE_TAGS else set()
    assert {*found} == expected | ({"frozen_layers", "layerwise_lr_decay"} if name == "ALBERT" else set())
    assert all("model" in why for why in found.values())


def test_words_are_found_again_behind_every_tokenizer(encoder: tuple[str, Path]) -> None:
    """Words are joined by blanks, so no tokenizer has to put one before them; the first is as at a text's beginning."""
    _, folder = encoder
    tokenizer, task = load_tokenizer(folder), TOYS["tags"].task.model_copy(update={"max_length": 64})
    words = ["It", "was", "good", ",", "The", "film", "!"]
    table = clean(RawSplit(_tagged(words), "toy"), task.layout)
    encoded = task.encode(table, ("O", "B-a", "I-a"), tokenizer)
    begun = [word for word in encoded.ragged["words"][0] if word >= 0]
    assert begun == [*range(len(words))]


def _tagged(words: list[str]) -> Any:
    return pa.table({"tokens": [words], "tags": [["B-a"] + ["O"] * (len(words) - 1)]})


def test_token_types_go_only_to_models_that_tell_two_texts_apart(encoder: tuple[str, Path]) -> None:
    name, folder = encoder
    encoded = load_tokenizer(folder)(["a good film"], ["the plot"], 24)
    assert ("token_type_ids" in encoded) == (name in {"BERT, uncased", "multilingual BERT, cased", "ELECTRA", "ALBERT"})


@pytest.mark.parametrize(("name", "positions"), [("RoBERTa", 64), ("XLM-RoBERTa", 64), ("BERT, uncased", 64)])
def test_a_text_of_all_positions_is_read(name: str, positions: int, tmp_path: Path) -> None:
    folder = ENCODERS[name](tmp_path / "model")
    task = TOYS["classes"].task.model_copy(update={"max_length": positions})
    tokenizer = load_tokenizer(folder)
    table = pa.table({"text": ["good " * 200], "label": ["a"]})
    encoded = task.encode(table, ("a", "b"), tokenizer)
    model = Starting(folder, task.head, task.head_config(("a", "b"))).build(Hyperparameters(), seed=0)
    batch = task.collate(encoded, np.arange(1), tokenizer.pad_id)
    inputs = inference.to_tensors(batch, next(model.parameters()).device)
    inputs.pop("labels")
    assert inputs["input_ids"].shape == (1, positions)
    assert model(**inputs).logits.shape == (1, 2)


def test_a_head_that_is_asked_for_the_masked_places_alone_says_the_same(encoder: tuple[str, Path]) -> None:
    _, folder = encoder
    task, tokenizer = TOYS["masked words"].task, load_tokenizer(folder)
    rows = task.encode(TOYS["masked words"].table(5), (), tokenizer)
    model = Starting(folder, task.head, {}).build(Hyperparameters(), seed=0).eval()
    inputs = inference.to_tensors(task.collate(rows, np.arange(5), tokenizer.pad_id), next(model.parameters()).device)
    inputs.pop("labels")
    alone = model(**inputs).logits[0]
    places = inputs.pop("places")
    whole = model(**inputs).logits
    assert whole.shape[:2] == inputs["input_ids"].shape
    np.testing.assert_allclose(alone.detach(), whole.flatten(0, 1)[places].detach(), rtol=1e-4, atol=1e-5)
