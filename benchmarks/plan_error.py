"""How far the plan is off: what --dry-run predicts, against what the study then takes. For a quiet machine.

    python -m benchmarks.plan_error [quickstart sst2] [--set a.b=value ...] [--most 0.3] [--json FILE]

quickstart: spaces/quickstart.yaml. sst2: spaces/files_sst2.yaml over $HPO_DATA/sst2. Each study is planned with a
probe, run by the command that users run, and planned once more from what its trials took. Exit code 1 where a total is
off by more than --most. Everything lies in a temporary folder.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from hpo import config
from hpo.records import AnyEvent, TrialFinished, TrialStarted
from hpo.report.plan import Plan, plan_text
from hpo.report.screen import open_screen
from hpo.study.plan import make_plan, past_of

ROOT = Path(__file__).resolve().parent.parent
SPACES = {"quickstart": "quickstart.yaml", "sst2": "files_sst2.yaml"}
EVENT: TypeAdapter[AnyEvent] = TypeAdapter(AnyEvent)
Result = dict[str, Any]


def overrides(name: str, folder: Path) -> list[str]:
    """What makes a shipped space run in `folder`, over the data of this machine."""
    found = [f"tracking.uri=sqlite:///{folder}/mlflow.db"]
    if name == "sst2":
        data = Path(os.environ.get("HPO_DATA", "../shared/data")).resolve() / "sst2"
        if not data.is_dir():
            raise SystemExit(f"{data} is not there: set HPO_DATA to the folder of the data sets")
        found += [f"data.files.train={data}/train.tsv", f"data.files.test={data}/validation.tsv"]
    return found


def measure(name: str, changes: Sequence[str]) -> Result:
    """Plan, run, plan again."""
    with tempfile.TemporaryDirectory(prefix="plan-error-", dir="/tmp") as folder:
        changes = [*overrides(name, Path(folder)), *changes]
        space, storage = config.find(SPACES[name]), Path(folder) / "studies"
        study = config.load(space, changes, storage)
        before = planned(study)
        load = os.getloadavg()[0]
        began, seconds = time.time(), run(space, changes, storage)
        after = planned(study)
        print(plan_text(before), "", sep="\n", flush=True)
        return {
            "study": name,
            "load": load,
            "trials": len(past_of(study).finished),
            "predicted": predicted(before),
            "predicted_from_history": predicted(after),
            "measured": measured(study, began, seconds),
        }


def planned(study: config.StudyConfig) -> Plan:
    with open_screen(sys.stderr) as screen:
        return make_plan(study, screen)


def run(space: Path, changes: Sequence[str], storage: Path) -> float:
    """Seconds that the command takes."""
    sets = [word for change in changes for word in ("--set", change)]
    command = [sys.executable, "-m", "hpo.run", "--space", str(space), "--storage", str(storage), *sets]
    started = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise SystemExit(f"the study exits with {done.returncode}:\n{done.stdout[-4000:]}")
    return time.monotonic() - started


def predicted(plan: Plan) -> Mapping[str, float]:
    if plan.time is None:
        raise SystemExit(f"no time was predicted: {plan.untimed}")
    time = plan.time
    parts = {"start": time.start, "search": time.search, "end": time.confirmation + time.end}
    return {**parts, "total": time.total, "epochs": plan.epochs}


def measured(study: config.StudyConfig, began: float, seconds: float) -> Mapping[str, float]:
    """From the study's own events. A trial begins when it is asked for, so that what the first process takes to begin
    is a part of the search here and of the start in the plan. end: with the confirmation."""
    lines = (study.folder / "events.jsonl").read_text(encoding="utf-8").splitlines()
    events = [EVENT.validate_json(line) for line in lines]
    started = min(event.time for event in events if isinstance(event, TrialStarted))
    ended = max(event.time for event in events if isinstance(event, TrialFinished) and not event.replicate)
    epochs = sum(record.metrics.get("epochs", 0.0) for record in past_of(study).finished)
    parts = {"start": started - began, "search": ended - started, "end": began + seconds - ended}
    return {**parts, "total": seconds, "epochs": epochs}


def error(result: Result, which: str = "predicted", part: str = "total") -> float:
    """Relative; above zero where too much was predicted."""
    return float(result[which][part] / result["measured"][part] - 1.0)


def table(results: Sequence[Result]) -> str:
    lines = [f"{'':<12}{'':<24}{'start':>8}{'search':>8}{'end':>8}{'total':>8}{'epochs':>8}{'error':>8}"]
    for result in results:
        rows = {
            "measured": "measured",
            "predicted": "predicted by a probe",
            "predicted_from_history": "predicted from history",
        }
        for which, title in rows.items():
            own = result[which]
            figures = "".join(f"{own[part]:>8.1f}" for part in ("start", "search", "end", "total", "epochs"))
            off = "" if which == "measured" else f"{error(result, which):>+8.0%}"
            lines.append(f"{result['study'] if which == 'measured' else '':<12}{title:<24}{figures}{off}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plan_error", description=__doc__.splitlines()[0])
    parser.add_argument("studies", nargs="*", metavar="STUDY", help=f"{' or '.join(SPACES)}; all of them by default")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=value", help="as for python -m hpo.run")
    parser.add_argument("--most", type=float, default=0.3, help="the relative error that is allowed")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args(arguments)
    if strange := [name for name in options.studies if name not in SPACES]:
        parser.error(f"there is no study {strange[0]!r}; name {' or '.join(SPACES)}")
    results = [measure(name, options.set) for name in options.studies or SPACES]
    print(f"seconds, and epochs of training; {os.cpu_count()} cores\n{table(results)}", flush=True)
    if options.json:
        temporary = options.json.with_name(f".{options.json.name}.{os.getpid()}")
        temporary.write_text(json.dumps(results, indent=1))
        temporary.rename(options.json)
    return 0 if all(abs(error(result)) <= options.most for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
