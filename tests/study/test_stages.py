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
from encoders import ENCODERS
from toys import TOYS

from hpo.config import load
from hpo.errors import ConfigError
from hpo.ledger.past import read_study
from hpo.records import Seeds, TrialConfig
from hpo.runners.inline import InlineRunner
from hpo.study import driver
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
    done = inline("run", "--space", adapting)
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
    first = {home: (home / "model.safetensors").stat().st_mtime_ns for home in homes}
    more = ["--set", "space.num_train_epochs=[1, 2, 3]", "--set", "budget.trials=9"]
    again = inline("run", "--space", adapting, "--resume", *more)
    assert again.returncode == 0, again.stderr
    assert {home: (home / "model.safetensors").stat().st_mtime_ns for home in homes} == first
    assert len(list((study / "adapted").glob("*/"))) == 2

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


@pytest.mark.parametrize("family", ["BERT, uncased", "DistilBERT", "ModernBERT", "ALBERT"])
def test_what_the_stage_has_no_use_for_is_there_again_behind_it(family: str, tmp_path: Path) -> None:
    """A pooler, which classifies, and is not trained on masked words."""
    folder = ENCODERS[family](tmp_path / "model")
    tokenizer, toy = load_tokenizer(folder), TOYS["masked words"]
    for seed, split in enumerate(("train", "validation")):
        toy.task.encode(toy.table(16, seed), (), tokenizer).save(tmp_path / f"{split}.arrow")
    objective = TrialObjective(
        model=folder,
        task=toy.task,
        labels=(),
        data=tmp_path,
        checkpoints=tmp_path / "checkpoints",
        metric="perplexity",
        mode="min",
        pad_id=tokenizer.pad_id,
    )
    *_, last = objective(TrialConfig(number=0, params={"num_train_epochs": 1}, seeds=Seeds(1, 2)))
    assert last.checkpoint is not None
    carry_on(last.checkpoint, folder)
    verify(last.checkpoint)
    carry_on(last.checkpoint, folder)
    before, after = (
        Starting(home, "AutoModelForSequenceClassification", {"num_labels": 2}).build(Hyperparameters(), seed=seed)
        for seed, home in enumerate((folder, last.checkpoint))
    )
    assert {*before.state_dict()} == {*after.state_dict()}
    poolers = [name for name in before.state_dict() if "pooler" in name]
    assert bool(poolers) == (family in {"BERT, uncased", "ALBERT"})
    for name in poolers:
        assert before.state_dict()[name].equal(after.state_dict()[name])
    moved = [name for name, part in before.state_dict().items() if "encoder" in name or "layer" in name]
    assert any(not before.state_dict()[name].equal(after.state_dict()[name]) for name in moved)
