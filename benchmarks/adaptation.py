"""Whether adapting a model to unlabelled texts helps where labels are few: `python -m benchmarks.adaptation`.

    HPO_DATA=data python -m benchmarks.adaptation --seeds 5 --home adapted --output adaptation.jsonl

The model is adapted to texts of the task (`sst2`) and, as a control, to as many of something else (`go_emotions`): what
both do comes from masked words as such, what only the first does, from the domain. The perplexity is that of masked
words of validation rows of sst2. Each model is then fine-tuned with 32 rows a class, as the setting `few` of
`benchmarks.recipes` has it, with the same seeds, and scored once, after the last step.

Cut off, it goes on: adapted models stay in `--home`, a training that was cut off continues from its bookmark.
"""

import argparse
import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.paired import add_line, difference, read_lines
from benchmarks.recipes import MODEL, PLAIN, SETTINGS, measure, read, sample
from hpo.records import Seeds, TrialConfig
from hpo.tasks import MaskedLm
from hpo.training.carried import carry_on
from hpo.training.checkpoint import read_manifest
from hpo.training.pretrained import fetch, load_tokenizer
from hpo.trial import TrialObjective

TASK = MaskedLm(text="text", max_length=64)
PARAMS = {"learning_rate": 5e-4, "num_train_epochs": 2, "per_device_train_batch_size": 32}
SOURCES = {"own texts": ("sst2", "sentence"), "other texts": ("go_emotions", "text")}
"""Arms, by where their texts are from: data set and column."""


def texts(data: str, column: str, split: str, rows: int | None) -> pa.Table:
    folder = Path(os.environ["HPO_DATA"]) / data
    table = sample(read(next(folder.glob(f"{split}.*"))), rows, None, 0)
    return pa.table({"text": table[column]})


def adapted(arm: str, home: Path, rows: int) -> Path:
    """The checkpoint of an adapted model, trained where it is not there."""
    source, found = fetch(MODEL).folder, home / arm.replace(" ", "-") / "trial-0000"
    if not found.is_dir():
        adapt(arm, source, found.parent, rows)
    carry_on(found, source)
    return found


def adapt(arm: str, source: Path, home: Path, rows: int) -> None:
    tokenizer = load_tokenizer(source)
    data = home / "data"
    data.mkdir(parents=True, exist_ok=True)
    splits = {"train": texts(*SOURCES[arm], "train", rows), "validation": texts("sst2", "sentence", "validation", None)}
    for name, split in splits.items():
        TASK.encode(split, (), tokenizer).save(data / f"{name}.arrow")
    objective = TrialObjective(
        model=source,
        task=TASK,
        labels=(),
        data=data,
        checkpoints=home,
        metric="perplexity",
        mode="min",
        pad_id=tokenizer.pad_id,
        running=home / "running",
        bookmark_seconds=60.0,
    )
    steps = PARAMS["num_train_epochs"] * math.ceil(rows / PARAMS["per_device_train_batch_size"])
    first = 1.0 / steps  # before it learns: the rate of the first step is nearly 0
    trial = TrialConfig(number=0, params=PARAMS, seeds=Seeds(init=1, order=1), rungs=(first, 0.25, 0.5, 0.75, 1.0))
    for report in objective(trial):
        print(json.dumps({"arm": arm, "step": report.step, "perplexity": report.metrics["perplexity"]}), flush=True)


def table(found: Iterable[dict[str, Any]]) -> str:
    """A row an arm: perplexity, mean accuracy, and its mean paired difference with half of its 95 % interval."""
    by_arm: dict[str, dict[int, dict[str, Any]]] = {}
    for one in found:
        by_arm.setdefault(one["arm"], {})[one["seed"]] = one
    lines = ["| adapted to | perplexity | accuracy | - not adapted, points |", "| --- | ---: | ---: | ---: |"]
    for arm, own in by_arm.items():
        seeds = sorted(own.keys() & by_arm[PLAIN].keys())
        gaps = [100 * (own[seed]["accuracy"] - by_arm[PLAIN][seed]["accuracy"]) for seed in seeds]
        mean = np.mean([own[seed]["accuracy"] for seed in seeds])
        gap = "" if arm == PLAIN else difference(gaps)
        perplexity = own[seeds[0]].get("perplexity")
        lines.append(f"| {arm} | {f'{perplexity:,.0f}' if perplexity else ''} | {mean:.4f} | {gap} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=2_000, help="texts that a model is adapted to")
    parser.add_argument("--home", type=Path, default=Path("adapted"), help="where adapted models stay")
    parser.add_argument("--output", type=Path, default=Path("adaptation.jsonl"), help="is added to")
    options = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    known = read_lines(options.output)
    done = {(one["arm"], one["seed"]) for one in known}
    for arm in (PLAIN, *SOURCES):
        weights = None if arm == PLAIN else adapted(arm, options.home, options.rows)
        reached = {} if weights is None else {"perplexity": read_manifest(weights).metrics["perplexity"]}
        for seed in range(1, options.seeds + 1):
            if (arm, seed) in done:
                continue
            with TemporaryDirectory() as folder:
                found = measure(SETTINGS["few"], PLAIN, seed, Path(folder), weights) | reached | {"arm": arm}
            known.append(found)
            add_line(options.output, found)
            print(json.dumps(found), flush=True)
    print(table(known))


if __name__ == "__main__":
    main()
