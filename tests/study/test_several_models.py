"""A study that searches among models: each trial trains its own, with its own tokenizer."""

import json
from pathlib import Path
from typing import Any

import pytest
from encoders import ENCODERS

from hpo.config import load
from hpo.errors import ConfigError, DataError
from hpo.ledger.past import read_study
from hpo.records import TrialState
from hpo.study.folder import check_facts
from hpo.training.pretrained import load_tokenizer


@pytest.fixture
def models(films: Path) -> Path:
    """The space file, with a second model of another family in it."""
    roberta = ENCODERS["RoBERTa"](films.parent / "roberta")
    text = films.read_text()
    bert = text.partition("model: {name: ")[2].partition("}")[0]
    text = text.replace(f"model: {{name: {bert}}}\n", "")
    decay = f"{{value: 0.9, when: {{model: [{bert}]}}}}"
    lines = f"space:\n  model: [{bert}, {roberta.name}]\n  layerwise_lr_decay: {decay}\n"
    films.write_text(text.replace("space:\n", lines).replace("asha, rungs: 2", "fifo"))
    return films


def test_every_trial_trains_its_own_model_and_promotes_it_with_its_own_tokenizer(models: Path, inline: Any) -> None:
    folder = models.parent
    first = ["--set", f"search.first=[default, {{model: {folder / 'roberta'}}}]", "--set", "budget.trials=3"]
    done = inline("run", "--space", models, *first)
    assert done.returncode == 0, done.stderr
    study = folder / "studies" / "films"
    trials = read_study(study, "films", "max").trials
    names = {record.number: str(record.params["model"]) for record in trials}
    bert = load(models).models[0]
    assert (names[0], names[1]) == (bert, str(folder / "roberta"))
    for record in trials:
        assert ("layerwise_lr_decay" in record.params) == (record.params["model"] == bert)
        if record.checkpoint is not None and record.checkpoint.is_dir():
            config = json.loads((record.checkpoint / "config.json").read_text())
            assert config["model_type"] == ("bert" if record.params["model"] == bert else "roberta")
            own = Path(str(record.params["model"]))
            assert load_tokenizer(record.checkpoint).digest == load_tokenizer(own).digest
    assert "models:/films@champion, promoted" in done.stdout

    more = inline("run", "--space", models, *first[:2], "--resume", "--set", "budget.trials=4")
    assert more.returncode == 0, more.stderr
    assert len(read_study(study, "films", "max").trials) == 4

    only = ["--set", "study=only", "--set", f"space.model={bert}", "--set", "search.warm_start=[films]"]
    heir = inline("run", "--space", models, *only, "--set", "budget.trials=1", "--set", "search.first=[default]")
    assert heir.returncode == 0, heir.stderr
    complete = sum(record.state is TrialState.COMPLETE and record.params["model"] == bert for record in trials)
    assert "taken over as evidence" in heir.stdout
    assert complete > 0


def test_a_study_of_one_model_goes_on_with_two(models: Path, inline: Any) -> None:
    bert, other = load(models).models
    fixed = ["--set", "space.learning_rate={low: 1e-3, high: 1e-2}", "--set", "search.first=[default]"]
    one = inline("run", "--space", models, *fixed, "--set", f"space.model={bert}", "--set", "budget.trials=1")
    assert one.returncode == 0, one.stderr
    two = inline("run", "--space", models, *fixed, "--set", "budget.trials=3", "--resume")
    assert two.returncode == 0, two.stderr
    records = read_study(models.parent / "studies" / "films", "films", "max").trials
    assert {record.params["model"] for record in records} <= {bert, other}
    assert not records[0].dropped


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("model.name=google-bert/bert-base-uncased", "but the first of space.model"),
        ("space.model=[a/b, 'a b c/']", "neither a folder that exists nor a Hub id"),
        ("search.scheduler={type: pbt}", "weights from one trial to another, which all have to be of one model"),
        ("task.max_length=65", "roberta: 65 tokens, but the model has 64 positions"),
    ],
)
def test_models_that_cannot_be_searched_together_are_refused(models: Path, option: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load(models, [option, "search.sampler=random"])


def test_a_parameter_that_one_model_lacks_is_refused_unless_a_condition_keeps_it_away(
    models: Path, inline: Any
) -> None:
    bert, _ = load(models).models
    albert = ENCODERS["ALBERT"](models.parent / "albert")
    both = ["--set", f"space.model=[{bert}, {albert}]"]
    refused = inline("run", "--space", models, *both, "--set", "space.frozen_layers=[0, 1]")
    assert refused.returncode == 2
    assert "space.frozen_layers: the layers of a albert model have no weights of their own" in refused.stderr
    assert "by a `when`" in refused.stderr


def test_other_weights_under_a_known_name_are_refused(tmp_path: Path) -> None:
    known = {"model_sha256": "a", "models_sha256": json.dumps({"x": "a", "y": "b"})}
    (tmp_path / "study.json").write_text(json.dumps({"facts": known, "config": {}}))
    check_facts(tmp_path, {"model_sha256": "a"})
    check_facts(tmp_path, {**known, "models_sha256": json.dumps({"x": "a", "y": "b", "z": "c"})})
    with pytest.raises(DataError, match="models_sha256"):
        check_facts(tmp_path, {**known, "models_sha256": json.dumps({"x": "a", "y": "other"})})
