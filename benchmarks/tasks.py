"""What a search buys, task by task: `python -m benchmarks.tasks`.

    HPO_DATA=data python -m benchmarks.tasks [sms_spam wnut17 ...] [--inline] [--trials 10] [--set a.b=value ...]
    python -m benchmarks.tasks --table [FILE ...]

A setting is a shipped space over a data set of HPO_DATA, with MiniLM for the model. First comes the product's own
study, without promotion, and without confirmation, since what follows stands for it: the default configuration and the
winner are trained with the same fresh seeds, as the study trains, and each of these is scored once on the test rows,
which nothing was chosen by.

One JSON line for the search and one for each training, in benchmarks/results/tasks.jsonl; what is there is not done
again. Cut off, it goes on: the study from its folder, a training from its bookmark. --table writes docs/tasks.md.
"""

import argparse
import json
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from benchmarks.paired import add_line, difference, read_lines
from benchmarks.recipes import MODEL
from benchmarks.record import data_folder
from benchmarks.recorded import RESULTS, markdown, write_section
from benchmarks.task_settings import SETTINGS
from hpo import config
from hpo.records import Objective, Seeds, TrialConfig, TrialRecord
from hpo.runners import Resources
from hpo.runners.inline import InlineRunner

if TYPE_CHECKING:
    from hpo.study.prepare import Prepared

Line: TypeAlias = Mapping[str, Any]
"""One of the file: a search, or a training."""

FILE = RESULTS / "tasks.jsonl"
PAGE = Path(__file__).resolve().parent.parent / "docs" / "tasks.md"
STORAGE = Path("studies")
DEFAULT, WINNER = "default", "winner"
SEEDS = 3
TRIALS = 10
FRESH = 1_000
"""Where seeds begin that no study has drawn."""


@dataclass(frozen=True)
class Asked:
    """What the command asks for, the same for every setting."""

    model: str = MODEL
    storage: Path = STORAGE
    trials: int = TRIALS
    changes: tuple[str, ...] = ()
    inline: bool = False


def study_of(name: str, asked: Asked) -> config.StudyConfig:
    setting = SETTINGS[name]
    data = []
    if setting.data is not None:
        folder = data_folder(setting.data)
        files = {split: str(folder / file) for split, file in setting.files.items()}
        data = [f"data={json.dumps({'files': files, **setting.rows})}"]
    changes = [
        f"study=tasks-{name.replace('_', '-')}",
        f"model={json.dumps({'name': asked.model})}",
        *data,
        *setting.changes,
        f"budget={{trials: {asked.trials}}}",
        "confirm=null",
        "promotion=null",
        "resources.cpus=1",
        *(["resources.gpus=1"] if asked.inline else []),  # alone on it, if there is one
        "checkpoints.every_minutes=1",
        f"tracking.uri=sqlite:///{asked.storage.resolve()}/mlflow.db",
        *asked.changes,
    ]
    return config.load(config.find(setting.space), changes, asked.storage.resolve())


def inline(objective: Objective, resources: Resources, address: str | None) -> InlineRunner:
    return InlineRunner(objective)


def search(name: str, study: config.StudyConfig, asked: Asked) -> dict[str, Any]:
    """The study, from where it stands to its end, and what it found. SystemExit where a signal stopped it."""
    from hpo.study import driver

    code = driver.run(study, resume=True, **({"runner": inline} if asked.inline else {}))
    if code:
        sys.exit(code)
    lines = (study.folder / "events.jsonl").read_text("utf-8").splitlines()
    events = [json.loads(line) for line in lines]
    finished = next(event for event in reversed(events) if event["kind"] == "study_finished")
    records = finished_trials(study)
    winner = records[int(finished["tags"]["best_trial"])]
    default = next(one for one in records.values() if one.origin == DEFAULT)
    return {
        "kind": "search",
        "setting": name,
        "model": asked.model,
        "device": device_name(study),
        "rows": {split["split"]: split["rows"] for split in datasets(events)},
        "counts": Counter(one.state.value for one in records.values()),
        "seconds": round(finished["metrics"]["seconds"], 1),
        "changes": list(asked.changes),
        "numbers": {DEFAULT: default.number, WINNER: winner.number},
        DEFAULT: dict(default.params),
        WINNER: dict(winner.params),
    }


def datasets(events: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return next(event["datasets"] for event in events if event["kind"] == "study_started")


def finished_trials(study: config.StudyConfig) -> dict[int, TrialRecord]:
    from hpo.ledger.past import read_study

    past = read_study(study.folder, study.study, study.mode, study.ledger)
    return {record.number: record for record in past.records}


def device_name(study: config.StudyConfig) -> str:
    import torch

    from hpo.training.device import pick_device

    where = pick_device(study.resources.at_hand)
    return torch.cuda.get_device_name(where) if where.type == "cuda" else "CPU"


def train(
    study: config.StudyConfig, prepared: "Prepared", number: int, params: Mapping[str, Any], seed: int
) -> dict[str, Any]:
    """One training as the study confirms, and what its best evaluation says of the test rows."""
    from hpo.answering import Model
    from hpo.encoded import Encoded
    from hpo.study.steps import Ladder
    from hpo.training.bookmarks import Bookmarks

    home = study.storage / f"{study.study}-seeds"
    marks = Bookmarks(home / "running")
    gpus = study.resources.at_hand
    objective = prepared.objective(study, home, marks.folder, gpus=gpus)
    seeds = Seeds(init=FRESH + 2 * seed, order=FRESH + 2 * seed + 1)
    rungs = Ladder.of(study.search.scheduler, study.space).rungs(params)
    trial = TrialConfig(number=number, params=params, seeds=seeds, rungs=rungs, replicate=seed, of=number)
    *_, last = objective(trial)
    assert last.checkpoint is not None
    model = Model.open(last.checkpoint).on(gpus)
    rows = prepared.start_of(params).encoded.test
    assert rows is not None
    test = Encoded.load(rows)
    metrics = model.task.compute_metrics(model.outputs(test), test, model.labels)
    shutil.rmtree(last.checkpoint)
    marks.remove(trial.name)
    return {"train_seconds": last.metrics["train_seconds"], "test": {key: float(own) for key, own in metrics.items()}}


def measure(name: str, seeds: int, asked: Asked, file: Path) -> None:
    """What is not in `file` yet; each line is written as soon as it is known."""
    there = measured(read_lines(file)).get((name, asked.changes), [])
    study = study_of(name, asked)
    found = _search(there)
    if found is None:
        found = search(name, study, asked)
        add_line(file, found)
        print(json.dumps(found), flush=True)
    done = {(line["arm"], line["seed"]) for line in there if line["kind"] == "training"}
    left = [one for one in wanted(found, seeds) if one not in done]
    if not left:
        return
    from hpo.report.screen import open_screen
    from hpo.study.prepare import prepare

    with open_screen(sys.stderr) as screen:
        prepared = prepare(study, screen)
    for arm, seed in left:
        began = time.monotonic()
        told = train(study, prepared, found["numbers"][arm], found[arm], seed)
        metric = SETTINGS[name].metric
        line = {"kind": "training", "setting": name, "changes": [*asked.changes], "arm": arm, "seed": seed}
        line |= {"metric": metric, "value": told["test"][metric], "seconds": time.monotonic() - began, **told}
        add_line(file, line)
        print(json.dumps(line), flush=True)


def measured(lines: Sequence[Line]) -> dict[tuple[str, tuple[str, ...]], list[Line]]:
    """By setting and what was changed of it: with fewer rows it is another measurement."""
    found: dict[tuple[str, tuple[str, ...]], list[Line]] = {}
    for line in lines:
        found.setdefault((line["setting"], tuple(line["changes"])), []).append(line)
    return found


def wanted(search: Line, seeds: int) -> Iterator[tuple[str, int]]:
    """Both arms of a seed, then the next seed; one arm where the default itself has won."""
    numbers = search["numbers"]
    arms = [DEFAULT] if numbers[DEFAULT] == numbers[WINNER] else [DEFAULT, WINNER]
    for seed in range(1, seeds + 1):
        for arm in arms:
            yield arm, seed


HEADS = ("task", "data", "rows: train, validation, test", "search", "metric on test", "default", "winner", "points")


def text(lines: Sequence[Line]) -> str:
    """The table, what won, and what is not measured yet."""
    groups = measured(lines)
    order = [key for name in SETTINGS for key in sorted(groups) if key[0] == name]
    shown = [(name, *_row(name, groups[name, changes])) for name, changes in order if _search(groups[name, changes])]
    whole = {name for name, changes in order if not changes and _is_whole(groups[name, changes])}
    missing = [name for name in SETTINGS if name not in whole]
    left = (
        f"\n\nNot measured yet as they are meant: `python -m benchmarks.tasks {' '.join(missing)}`." if missing else ""
    )
    won = "\n".join(f"- `{name}`: {params}" for name, _, params in shown)
    return f"{markdown(HEADS, [row for _, row, _ in shown])}{left}\n\nWhat won:\n\n{won}"


def _row(name: str, lines: Sequence[Line]) -> tuple[list[str], str]:
    """Of the table; and what won."""
    found, values = _search(lines), _values(lines)
    assert found is not None
    is_default = found["numbers"][DEFAULT] == found["numbers"][WINNER]
    both = sorted(values[DEFAULT].keys() & values[WINNER].keys())
    gaps = [100 * (values[WINNER][seed] - values[DEFAULT][seed]) for seed in both]
    row = [
        SETTINGS[name].task,
        f"`{name}`",
        ", ".join(f"{found['rows'].get(split, 0):,}" for split in ("train", "validation", "test")),
        _searched(found),
        SETTINGS[name].metric,
        _mean(values[DEFAULT].values()),
        "the default won" if is_default else _mean(values[WINNER].values()),
        difference(gaps) if gaps else "",
    ]
    params = ", ".join(f"`{key}` {_figure(value)}" for key, value in found[WINNER].items())
    return row, f"{'the default: ' if is_default else ''}{params}"


def _search(lines: Sequence[Line]) -> Line | None:
    return next((line for line in lines if line["kind"] == "search"), None)


def _values(lines: Sequence[Line]) -> dict[str, dict[int, float]]:
    """By arm and seed."""
    values: dict[str, dict[int, float]] = {DEFAULT: {}, WINNER: {}}
    for line in lines:
        if line["kind"] == "training":
            values[line["arm"]][line["seed"]] = line["value"]
    return values


def _is_whole(lines: Sequence[Line]) -> bool:
    """Whether the search and all seeds are there."""
    found, values = _search(lines), _values(lines)
    return found is not None and all(seed in values[arm] for arm, seed in wanted(found, SEEDS))


def _searched(found: Line) -> str:
    counts = found["counts"]
    took = f"{found['seconds']:,.0f} s, {found['device']}"
    return f"{sum(counts.values())} trials, {counts.get('complete', 0)} in full, {took}"


def _mean(values: Any) -> str:
    own = list(values)
    return f"{sum(own) / len(own):.4f}{'' if len(own) >= SEEDS else f' ({len(own)})'}" if own else ""


def _figure(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tasks", description=__doc__.splitlines()[0])
    parser.add_argument("settings", nargs="*", metavar="SETTING", help=f"of {', '.join(SETTINGS)}; all by default")
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"of the default and of the winner ({SEEDS})")
    parser.add_argument("--trials", type=int, default=TRIALS, help=f"of a search ({TRIALS})")
    parser.add_argument("--inline", action="store_true", help="one trial after the other in this process, without Ray")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=value", help="as for python -m hpo.run")
    parser.add_argument("--model", default=MODEL, help="another one for all settings")
    parser.add_argument("--storage", type=Path, default=STORAGE, help="where the studies lie")
    parser.add_argument("--output", type=Path, default=FILE, help="is added to; what is there is kept")
    parser.add_argument("--table", nargs="*", type=Path, metavar="FILE", help="write the page of what was measured")
    options = parser.parse_args(arguments)
    if strange := [name for name in options.settings if name not in SETTINGS]:
        parser.error(f"there is no setting {strange[0]!r}; name {', '.join(SETTINGS)}")
    if options.table is not None:
        lines = [line for file in options.table or [options.output] for line in read_lines(file)]
        write_section("tasks", text(lines), PAGE)
        return 0
    asked = Asked(options.model, options.storage, options.trials, tuple(options.set), options.inline)
    for name in options.settings or SETTINGS:
        measure(name, options.seeds, asked, options.output)
    print(text(read_lines(options.output)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
