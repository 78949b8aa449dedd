"""Whole searches, ours against what people write instead: wall time until a good model is there, and what it scores.

    HPO_DATA=data python -m benchmarks.searches [--arms ours,hf-optuna,...] [--seeds 3] [--trials 16] [--minutes 10]
    python -m benchmarks.searches --table [FILE ...]

Each search is a process of its own, on the same rows of SST-2 (4,000 train, 872 validation, 2,000 test that were cut
from train), the same weights (MiniLM), the same space. By turns: all arms of a seed, then the next seed.

T1      sentences trained on a second, over the search; what was padded does not count
T2, T3  epochs of training, and seconds from the process's start, until a complete trial lies within one standard error
        of the best of the BERT paper's grid (as recorded in `curves`); for the grid also all of it
T4      the test score of what came out, the test split opened once

One JSON line a search. A search that is there is not run again. Must not know how an arm searches (`rivals`).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.record import data_files
from benchmarks.recorded import CURVES, RESULTS, load
from benchmarks.rivals import PADDED, SEARCHES, Rival, test_score

ROOT = Path(__file__).resolve().parent.parent
FILE = RESULTS / "searches.jsonl"
OURS = "ours"
ARMS = {
    OURS: "ours, as shipped",
    "hf-optuna": "Trainer.hyperparameter_search, optuna, as it comes",
    "hf-optuna tuned": "Trainer.hyperparameter_search, optuna, tuned",
    "hf-ray": "Trainer.hyperparameter_search, ray, as it comes",
    "hf-ray tuned": "Trainer.hyperparameter_search, ray, tuned",
    "ray": "Ray Tune + Trainer, as Ray's example",
    "ray tuned": "Ray Tune + Trainer, tuned",
    "grid": "the grid of the BERT paper through Trainer, as it comes",
    "grid tuned": "the grid, tuned",
}
TEST = "data.test={from: train, rows: 2000}"

Result = dict[str, Any]


def ours(study_folder: Path, seed: int, trials: int, minutes: float, rows: int) -> Result:
    """The command that users run, and what its own events say."""
    space = CURVES / "sst2.yaml"
    changes = [
        *data_files("sst2"),
        TEST,
        f"data.limit.train={rows}",
        f"seed={seed}",
        "search={}",
        f"budget={{trials: {trials}, hours: {minutes / 60:.4f}}}",
        "confirm={top: 2, seeds: 3}",
        "promotion={model: sst2}",
        f"tracking.uri=sqlite:///{study_folder}/mlflow.db",
    ]
    sets = [word for change in changes for word in ("--set", change)]
    command = [sys.executable, "-m", "hpo.run", "--space", str(space), "--storage", str(study_folder), *sets]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise SystemExit(f"{OURS}: exit code {done.returncode}\n{done.stdout[-3000:]}")
    lines = (study_folder / "sst2" / "events.jsonl").read_text("utf-8").splitlines()
    events = [json.loads(line) for line in lines]
    notes, epoch, ended = [], {}, 0.0
    for event in events:
        if event["kind"] == "trial_reported" and not event["replicate"]:  # what the budget cuts off does not finish
            epoch[event["number"]] = event["metrics"].get("epoch", 0.0)
        if event["kind"] == "trial_finished" and not event["replicate"]:
            metrics, ended = event["metrics"], event["time"]
            epoch[event["number"]] = metrics.get("epochs", 0.0)
            if event["state"] == "complete":
                spent = sum(epoch.values())
                notes.append({"time": event["time"], "value": metrics["best_accuracy"], "spent": spent})
    finished = next(event for event in events if event["kind"] == "study_finished")
    return {
        "complete": notes,
        "epochs": sum(epoch.values()),
        "ended": ended,
        "test": finished["metrics"]["test_accuracy"],
    }


def rival(arm: str, folder: Path, seed: int, trials: int, minutes: float, rows: int) -> Result:
    """In this process. Rows and weights are prepared as ours are, before the clock that is in the notes matters."""
    import torch

    from hpo import config
    from hpo.report.screen import open_screen
    from hpo.study.prepare import prepare

    study = config.load(CURVES / "sst2.yaml", [*data_files("sst2"), TEST, f"data.limit.train={rows}"], folder)
    with open_screen(sys.stderr) as screen:
        ready = prepare(study, screen)
    name, _, tuned = arm.partition(" ")
    gpu = torch.cuda.is_available()
    if not gpu:
        torch.set_num_threads(1 if name.endswith("ray") else os.cpu_count() or 1)
    assert ready.encoded.test is not None
    setting = Rival(
        space=study.space,
        weights=ready.pretrained.folder,
        rows=ready.encoded.search,
        test=ready.encoded.test,
        notes=folder / "notes.jsonl",
        folder=folder,
        seed=seed,
        trials=trials,
        seconds=60 * minutes,
        tuned=bool(tuned),
        gpu=gpu,
        padded=PADDED if name == "ray" and not tuned else 0,
    )
    best = SEARCHES[name](setting)
    ended = time.time()
    notes = [json.loads(line) for line in setting.notes.read_text("utf-8").splitlines()]
    by_trial: dict[str, dict[str, float]] = {}
    complete = []
    for note in notes:
        own = by_trial.setdefault(note["trial"], {"epoch": 0.0, "best": 0.0})
        if note["epoch"] <= own["epoch"]:  # the next trial of the same process
            own = by_trial[note["trial"]] = {"epoch": 0.0, "best": 0.0, "before": own["epoch"] + own.get("before", 0.0)}
        own |= {"epoch": note["epoch"], "best": max(own["best"], note["value"])}
        if note["epoch"] >= note["epochs"] - 1e-6:
            spent = sum(one["epoch"] + one.get("before", 0.0) for one in by_trial.values())
            complete.append({"time": note["time"], "value": own["best"], "spent": spent})
    spent = sum(one["epoch"] + one.get("before", 0.0) for one in by_trial.values())
    return {"complete": complete, "epochs": spent, "ended": ended, "test": test_score(setting, best)}


def search(arm: str, seed: int, trials: int, minutes: float, rows: int) -> Result:
    """One search in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="searches-", dir="/tmp") as folder:
        command = [sys.executable, "-m", "benchmarks.searches", "--one", arm, "--folder", folder, "--first-seed"]
        command += [str(seed), "--trials", str(trials), "--minutes", str(minutes), "--rows", str(rows)]
        load, began = os.getloadavg()[0], time.time()
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        seconds = time.time() - began
        file = Path(folder) / "result.json"
        if done.returncode or not file.exists():
            return {"arm": arm, "seed": seed, "failed": done.stdout[-1500:]}
        found = json.loads(file.read_text())
    arrival = reached(found["complete"], load_target(), began)
    return {
        "arm": arm,
        "seed": seed,
        "trials": len(found["complete"]),
        "best": max((note["value"] for note in found["complete"]), default=None),
        "epochs": round(found["epochs"], 2),
        "seconds": round(found["ended"] - began, 1),
        "whole": round(seconds, 1),
        "rate": round(found["epochs"] * rows / (found["ended"] - began), 1),
        "load": load,
        "test": found["test"],
        **arrival,
    }


def load_target() -> float:
    return load("sst2").target


def reached(complete: Sequence[Mapping[str, float]], target: float, began: float) -> Result:
    """When the first complete trial came that is good enough; None where none did."""
    first = next((note for note in complete if note["value"] >= target), None)
    return {
        "target": round(target, 6),
        "until_epochs": first and round(first["spent"], 2),
        "until_seconds": first and round(first["time"] - began, 1),
    }


def table(lines: Sequence[Mapping[str, Any]]) -> str:
    """One line an arm: medians with least and most over seeds; ratios to ours are paired by seed."""
    by_arm: dict[str, dict[int, Mapping[str, Any]]] = {}
    for line in lines:
        if "failed" not in line:
            by_arm.setdefault(line["arm"], {})[line["seed"]] = line
    mine = by_arm.get(OURS, {})
    rows = [
        "| search | seeds | sentences/s | epochs until good | seconds until good | that over ours | search, s "
        "| until a tested model, s | test accuracy |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for arm, title in ARMS.items():
        own = by_arm.get(arm, {})
        if not own:
            continue
        arrived = [line for line in own.values() if line["until_seconds"] is not None]
        ratios = [
            line["until_seconds"] / mine[seed]["until_seconds"]
            for seed, line in own.items()
            if line["until_seconds"] and seed in mine and mine[seed]["until_seconds"]
        ]
        late = f", {len(own) - len(arrived)} never" if len(arrived) < len(own) else ""
        cells = (
            title,
            str(len(own)),
            _spread([line["rate"] for line in own.values()], ".0f"),
            _spread([line["until_epochs"] for line in arrived], ".1f"),
            _spread([line["until_seconds"] for line in arrived], ".0f") + late,
            _spread(ratios, ".1f") if arm != OURS else "1",
            _spread([line["seconds"] for line in own.values()], ".0f"),
            _spread([line["whole"] for line in own.values()], ".0f"),
            _spread([line["test"] for line in own.values()], ".4f"),
        )
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _spread(values: Sequence[float], form: str) -> str:
    if not values:
        return ""
    return " / ".join(f"{one:{form}}" for one in (min(values), statistics.median(values), max(values)))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.searches", description=__doc__.splitlines()[0])
    parser.add_argument("--arms", default=",".join(ARMS), help=f"comma-separated, of {', '.join(ARMS)}")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--trials", type=int, default=16, help="of a search (16); the grid has its 18")
    parser.add_argument("--minutes", type=float, default=10.0, help="after which a search begins no trial (10)")
    parser.add_argument("--rows", type=int, default=4_000, help="of train (4000)")
    parser.add_argument("--output", type=Path, default=FILE)
    parser.add_argument("--table", nargs="*", type=Path, metavar="FILE", help="only the table of what was run")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one is not None:
        run = ours if options.one == OURS else lambda *rest: rival(options.one, *rest)
        found = run(options.folder, options.first_seed, options.trials, options.minutes, options.rows)
        (options.folder / "result.json").write_text(json.dumps(found))
        return 0
    files = [options.output] if options.table is None else options.table or [options.output]
    there = [json.loads(line) for file in files if file.exists() for line in file.read_text("utf-8").splitlines()]
    if options.table is None:
        arms = options.arms.split(",")
        if strange := [arm for arm in arms if arm not in ARMS]:
            parser.error(f"there is no arm {strange[0]!r}; name {', '.join(ARMS)}")
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            for arm in arms:
                if any((line["arm"], line["seed"]) == (arm, seed) and "failed" not in line for line in there):
                    continue
                found = search(arm, seed, options.trials, options.minutes, options.rows)
                there.append(found)
                with options.output.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(found) + "\n")
                print(f"{time.strftime('%H:%M:%S')} {json.dumps(found)}", flush=True)
    print(table(there))
    return 0


if __name__ == "__main__":
    sys.exit(main())
