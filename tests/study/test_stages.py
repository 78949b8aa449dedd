"""A study whose models are adapted to unlabelled texts first: shared by all trials with the same values."""

import json
import multiprocessing
import os
import re
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from encoders import ENCODERS
from safetensors.torch import load_file, save_file
from toys import TOYS

from hpo.config import load
from hpo.errors import ConfigError
from hpo.ledger.past import read_study
from hpo.records import Seeds, TrialConfig
from hpo.runners.inline import InlineRunner
from hpo.study import adapted, driver
from hpo.training import inference
from hpo.training.carried import carry_on
from hpo.training.checkpoint import read_manifest, verify
from hpo.training.hyperparameters import Hyperparameters
from hpo.training.model import Starting
from hpo.training.once import made_once
from hpo.training.pretrained import load_tokenizer
from hpo.trial import TrialObjective

STAGE = """\
stages:
  adapt:
    task: {text: sentence, max_length: 16}
    data: {files: {train: texts.jsonl}, validation: {from: train, rows: 20}}
space:
  adapt: [false, true]
  adapt_num_train_epochs: {values: [1, 2], when: {adapt: true}}
  adapt_learning_rate: 5e-3
"""


@pytest.fixture
def adapting(films: Path) -> Path:
    """The space file, with a stage before the task, and every assignment of it once."""
    rows = [line.partition("\t")[0] for line in (films.parent / "train.tsv").read_text().splitlines()[1:]]
    texts = [json.dumps({"sentence": f"{text} {place % 7 * 'very '}"}) for place, text in enumerate(rows)]
    (films.parent / "texts.jsonl").write_text("\n".join(texts) + "\n")
    text = films.read_text().replace("space:\n", STAGE)
    text = re.sub(r"  (learning_rate|hidden_dropout_prob): .*\n", r"", text)
    text = text.replace("num_train_epochs: [2, 3]", "num_train_epochs: [1, 2]").replace("asha, rungs: 2", "fifo")
    films.write_text(text.replace("{type: tpe, n_startup_trials: 3}", "grid").replace("trials: 4", "trials: 6"))
    return films


def test_trials_with_the_same_values_of_the_stage_start_from_the_same_adapted_model(
    adapting: Path, inline: Any
) -> None:
    done = inline("run", "--space", adapting, "--set", "checkpoints.keep=6")
    assert done.returncode == 0, done.stderr
    assert re.search(r"\d+ texts dropped from train: validation or test rows", done.stdout)
    study = adapting.parent / "studies" / "films"
    records = read_study(study, "films", "max").trials
    assert len(records) == 6
    homes = sorted(path for path in (study / "adapted").iterdir() if path.is_dir())
    assert len(homes) == 2
    reached = {read_manifest(home).metrics["perplexity"] for home in homes}
    for record in records:
        assert ("adapt_num_train_epochs" in record.params) == bool(record.params["adapt"])
        assert (record.metrics.get("best_adapt_perplexity") in reached) == bool(record.params["adapt"])
    assert records[0].origin == "default"
    assert records[0].params["adapt"] is False
    started = [json.loads(line) for line in (study / "events.jsonl").read_text().splitlines()]
    told = {event["number"]: event["params"] for event in started if event.get("kind") == "trial_started"}
    for record in records:
        own = {name for name in told[record.number] if name.startswith("adapt_")}
        assert {"adapt_learning_rate", "adapt_mlm_probability", "adapt_warmup_ratio"} <= own or not record.params[
            "adapt"
        ]
        assert not own & {"adapt_loss", "adapt_peft"}
        assert bool(own) == told[record.number]["adapt"] == record.params["adapt"]
    first = {home: (home / "model.safetensors").stat().st_mtime_ns for home in homes}
    more = ["--set", "space.num_train_epochs=[1, 2, 3]", "--set", "budget.trials=9"]
    again = inline("run", "--space", adapting, "--resume", *more, "--set", "checkpoints.keep=1")
    assert again.returncode == 0, again.stderr
    kept = [one for one in read_study(study, "films", "max").trials if one.checkpoint and one.checkpoint.is_dir()]
    assert len(kept) <= 2
    left = {path for path in (study / "adapted").iterdir() if path.is_dir()}
    assert len(left) == sum(bool(one.params["adapt"]) for one in kept), "of no other trial the weights are kept"
    assert all(first[home] == (home / "model.safetensors").stat().st_mtime_ns for home in left)
    assert {path.name for path in (study / "adapted").glob("*.lock")} == {f"{home.name}.lock" for home in left}

    other = inline("run", "--space", adapting, "--resume", "--set", "stages.adapt.task.max_length=12")
    assert other.returncode == 2
    assert "stages: it differs from the one this study began with" in other.stderr


def test_without_a_switch_every_trial_is_adapted(adapting: Path, inline: Any) -> None:
    loaded = load(adapting, ["budget.trials=1"])
    assert loaded.stages is not None
    assert loaded.default_point()["adapt"] is False
    done = inline("run", "--space", _without(adapting, "adapt:"), "--set", "budget.trials=1")
    assert done.returncode == 0, done.stderr
    (record,) = read_study(adapting.parent / "studies" / "films", "films", "max").trials
    assert "best_adapt_perplexity" in record.metrics


@dataclass(frozen=True)
class Cramped(TrialObjective):
    """Of which no more than 8 rows at a time fit into memory."""

    def _prepare(self, config: TrialConfig) -> Any:
        if (config.micro_batch or 32) > 8:
            raise MemoryError
        return super()._prepare(config)


def test_a_stage_takes_as_few_rows_at_a_time_as_fit_and_the_task_whole_batches(adapting: Path) -> None:
    loaded = load(_without(adapting, "adapt:"), ["budget.trials=2"])

    def made(objective: Any, resources: Any, address: Any) -> InlineRunner:
        stage = objective.adaptation
        cramped = Cramped(**{name: getattr(stage, name) for name in stage.__dataclass_fields__})
        return InlineRunner(replace(objective, adaptation=cramped))

    assert driver.run(loaded, runner=made) == 0
    first, second = read_study(loaded.folder, "films", "max").trials
    assert [(one.kind, one.stage) for one in first.setbacks] == [("out of memory", "adapt")] * 2
    assert (first.micro_batch, first.adapt_micro_batch) == (None, 8)
    assert "micro_batch_size" not in first.metrics
    assert second.setbacks == ()


def _without(space: Path, key: str) -> Path:
    lines = [line for line in space.read_text().splitlines() if not line.startswith(f"  {key} [")]
    space.write_text("\n".join(lines).replace("{values: [1, 2], when: {adapt: true}}", "1") + "\n")
    return space


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("  adapt_learning_rate: 5e-3\n", "  adapt_learning_rate: {low: 1e-5, high: 1e-3}\n", "share one; write some"),
        (", when: {adapt: true}}", "}", r"nothing is adapted then; add when: \{adapt: true\}"),
        ("adapt: [false, true]", "adapt: false", "it is never true"),
        ("  adapt_learning_rate: 5e-3\n", "  adapt_loss: focal\n", "has no meaning for a masked language model"),
        ("  adapt_learning_rate: 5e-3\n", "  adapt_frozen_layers: 3\n", "3 layers to freeze, but the model has 2"),
        ("max_length: 16}\n    data", "max_length: 65}\n    data", "65 tokens, but the model has 64 positions"),
        (
            "  adapt_learning_rate: 5e-3\n",
            "  adapt_lerning_rate: 5e-3\n",
            r"unknown hyperparameter; .*adapt_learning_rate",
        ),
        ("    task: {text: sentence, ", "    task: {type: token-classification, ", "masked-lm"),
    ],
)
def test_a_stage_that_cannot_work_is_refused(adapting: Path, before: str, after: str, words: str) -> None:
    text = adapting.read_text()
    assert before in text
    adapting.write_text(text.replace(before, after))
    with pytest.raises(ConfigError, match=words):
        load(adapting)


def test_rows_of_a_stage_that_cannot_be_cut_are_named_as_the_stage_s(adapting: Path, inline: Any) -> None:
    done = inline("run", "--space", adapting, "--set", "stages.adapt.data.validation.rows=5000")
    assert done.returncode == 2
    assert "error: stages.adapt.data.validation: 5000 rows cut from train, which has 360; cut fewer" in done.stderr


def test_a_stage_does_not_come_to_a_study_that_began_without_it(films: Path, inline: Any) -> None:
    plain = films.read_text().replace("trials: 4", "trials: 1")
    films.write_text(plain)
    assert inline("run", "--space", films).returncode == 0
    texts = [json.dumps({"sentence": f"it was {place} films"}) for place in range(60)]
    (films.parent / "texts.jsonl").write_text("\n".join(texts) + "\n")
    stage = STAGE.partition("space:")[0]
    films.write_text(plain.replace("space:\n", f"{stage}space:\n"))
    refused = inline("run", "--space", films, "--resume")
    assert refused.returncode == 2
    assert "stages: it differs from the one this study began with (none, now {" in refused.stderr


def test_the_plan_counts_adapted_models(adapting: Path, inline: Any) -> None:
    config = load(adapting)
    epochs = [{"adapt": True, "adapt_learning_rate": 5e-3, "adapt_num_train_epochs": count} for count in (1, 2, 1)]
    assert len(adapted.names(config, [*epochs, {"adapt": False}])) == 2
    assert adapted.names(config.model_copy(update={"stages": None}), epochs) == set()
    planned = inline("run", "--space", adapting, "--dry-run", "--no-probe")
    assert planned.returncode == 0, planned.stderr
    sizes = re.search(r"checkpoints? of (\d+) kB kept.*adapted models: (\d+) kB;", planned.stdout)
    assert sizes is not None
    assert round(int(sizes[2]) / int(sizes[1])) in (1, 2)


def test_hyperparameters_of_a_stage_that_is_not_there_are_refused(films: Path) -> None:
    films.write_text(films.read_text().replace("space:\n", "space:\n  adapt_learning_rate: 1e-3\n"))
    with pytest.raises(ConfigError, match="there is no such stage in this study"):
        load(films)


def _make_slowly(home: Path, made: Path, die: bool) -> None:
    def make(folder: Path) -> Path:
        with made.open("a") as file:
            file.write(f"{os.getpid()}\n")
        (folder / "part").mkdir()
        time.sleep(0.3)
        if die:
            os._exit(9)
        (folder / "part" / "whole").touch()
        return folder / "part"

    made_once(home, make, lambda: time.sleep(0.02))
    assert (home / "whole").exists()


def test_what_two_ask_for_at_once_is_made_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    asking = [
        context.Process(target=_make_slowly, args=(tmp_path / "home", tmp_path / "made", False)) for _ in range(4)
    ]
    for one in asking:
        one.start()
    for one in asking:
        one.join(60)
    assert [one.exitcode for one in asking] == [0] * 4
    assert len((tmp_path / "made").read_text().splitlines()) == 1


def test_what_a_dead_process_began_is_made_by_the_next(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    dying = context.Process(target=_make_slowly, args=(tmp_path / "home", tmp_path / "made", True))
    dying.start()
    dying.join(60)
    assert dying.exitcode == 9
    assert not (tmp_path / "home").exists()
    _make_slowly(tmp_path / "home", tmp_path / "made", False)
    assert len((tmp_path / "made").read_text().splitlines()) == 2


def _adapted(folder: Path, toy_name: str, home: Path) -> Path:
    tokenizer, toy = load_tokenizer(folder), TOYS[toy_name]
    for seed, split in enumerate(("train", "validation")):
        toy.task.encode(toy.table(16, seed), (), tokenizer).save(home / f"{split}.arrow")
    objective = TrialObjective(
        model=folder,
        task=toy.task,
        labels=(),
        data=home,
        checkpoints=home / "checkpoints",
        metric="perplexity",
        mode="min",
        pad_id=tokenizer.pad_id,
    )
    *_, last = objective(TrialConfig(number=0, params={"num_train_epochs": 1}, seeds=Seeds(1, 2)))
    assert last.checkpoint is not None
    return last.checkpoint


def _classifiers(*homes: Path) -> list[torch.nn.Module]:
    return [
        Starting(home, "AutoModelForSequenceClassification", {"num_labels": 2}).build(Hyperparameters(), seed=seed)
        for seed, home in enumerate(homes)
    ]


def test_a_model_that_was_asked_for_a_next_sentence_hands_its_pooler_on(tmp_path: Path) -> None:
    folder = ENCODERS["BERT, uncased"](tmp_path / "model")
    made = _adapted(folder, "masked words and a next sentence", tmp_path)
    carry_on(made, folder)
    verify(made)
    before, after = (model.state_dict() for model in _classifiers(folder, made))
    saved = load_file(made / "model.safetensors")
    assert saved["bert.pooler.dense.weight"].equal(after["bert.pooler.dense.weight"])
    assert not before["bert.pooler.dense.weight"].equal(after["bert.pooler.dense.weight"])


def test_what_is_tied_is_kept_once(tmp_path: Path) -> None:
    folder = ENCODERS["BERT, uncased"](tmp_path / "model")
    made = _adapted(folder, "masked words", tmp_path)
    words = "bert.embeddings.word_embeddings.weight"
    own = {f"bert.{name}": part for name, part in load_file(folder / "model.safetensors").items()}
    source = tmp_path / "twice"
    source.mkdir()
    save_file(own | {"cls.predictions.decoder.weight": own[words].clone()}, source / "model.safetensors")
    carry_on(made, source)
    saved = load_file(made / "model.safetensors")
    assert words in saved
    assert not {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"} & {*saved}
    model: Any = inference.load(made, "AutoModelForMaskedLM", torch.device("cpu"))
    assert torch.equal(model.get_output_embeddings().weight, saved[words])


@pytest.mark.parametrize("family", ["BERT, uncased", "DistilBERT", "ModernBERT", "ALBERT"])
def test_what_the_stage_has_no_use_for_is_there_again_behind_it(family: str, tmp_path: Path) -> None:
    """A pooler, which classifies, and is not trained on masked words."""
    folder = ENCODERS[family](tmp_path / "model")
    made = _adapted(folder, "masked words", tmp_path)
    carry_on(made, folder)
    verify(made)
    carry_on(made, folder)
    before, after = _classifiers(folder, made)
    assert {*before.state_dict()} == {*after.state_dict()}
    poolers = [name for name in before.state_dict() if "pooler" in name]
    assert bool(poolers) == (family in {"BERT, uncased", "ALBERT"})
    for name in poolers:
        assert before.state_dict()[name].equal(after.state_dict()[name])
    moved = [name for name, part in before.state_dict().items() if "encoder" in name or "layer" in name]
    assert any(not before.state_dict()[name].equal(after.state_dict()[name]) for name in moved)
