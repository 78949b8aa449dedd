"""A whole study with a confirmation, as a process: real Ray, real ledger, real MLflow store, a tiny real BERT."""

import json
import re
import signal
from pathlib import Path
from typing import Any

from test_driver import FINISHED, no_warnings, query, runs, started

SEED_RUN = re.compile(r"trial (\d+) seed (\d+) +complete")


def figures(folder: Path, name: str) -> dict[str, float]:
    found = query(folder, f"select key, value from latest_metrics join runs using (run_uuid) where name = '{name}'")
    return dict(found)


def test_a_study_confirms_its_leaders_over_fresh_seeds_also_after_a_signal_in_between(
    films: Path, command: Any, inline: Any
) -> None:
    folder = films.parent
    text = films.read_text().replace("scheduler: {type: asha, rungs: 2}", "scheduler: fifo")
    films.write_text(text.replace("[2, 3]", "[6, 8]") + "confirm: {top: 2, seeds: 3}\n")
    arguments = ["--space", films, "--set", "budget.trials=3"]
    with started(arguments) as process:
        assert process.stdout is not None
        seen: list[str] = []
        for line in process.stdout:
            seen.append(line)
            if SEED_RUN.search(line):
                break
        process.send_signal(signal.SIGTERM)
        rest = "".join(seen) + process.communicate(timeout=120)[0]
    assert process.returncode == 143, rest
    assert "go on with --resume" in rest
    assert len(FINISHED.findall(rest)) == 3
    assert "the search is over; confirming trials" in rest
    assert "over 3 fresh seeds" in rest
    assert "RUNNING" not in runs(folder).values()
    before = set(SEED_RUN.findall(rest))

    done = command("run", *arguments, "--resume")
    assert done.returncode == 0, done.stdout + done.stderr
    assert no_warnings(done.stdout), done.stdout
    assert FINISHED.findall(done.stdout) == []
    after = SEED_RUN.findall(done.stdout)
    assert not before & set(after), "a finished seed run was repeated"
    assert len(after) == len(set(after))
    assert re.search(r"trial \d+ confirmed: accuracy \d\.\d+ ", done.stdout)
    assert re.search(
        r"\n  confirmed +accuracy \d\.\d+ .*, the best of \d means over 3 fresh seeds on 60 rows", done.stdout
    )
    assert "too good" in done.stdout or "too bad" in done.stdout
    assert "models:/films@champion, promoted" in done.stdout

    names = runs(folder)
    leaders = {number for number, _ in [*before, *after]}
    assert "0" in leaders, "the default configuration is retrained too"
    assert set(names) == {
        "films",
        *(f"trial-{number:04d}" for number in range(3)),
        *(f"trial-{int(number):04d}-seed-{replicate}" for number, replicate in [*before, *after]),
    }
    assert set(names.values()) == {"FINISHED"}
    assert query(folder, "select run_uuid from metrics group by run_uuid, key, step having count(*) > 1") == []

    parent = figures(folder, "films")
    assert {"confirmed_mean", "optimism", "optimism_of_leaders"} <= set(parent)
    has_interval = "all seeds alike" not in done.stdout.partition("\n  confirmed ")[2].partition("\n")[0]
    assert ({"confirmed_low", "confirmed_high"} <= set(parent)) == has_interval
    won = query(folder, "select value from tags join runs using (run_uuid) where key = 'best_trial' and name = 'films'")
    trial = figures(folder, f"trial-{int(won[0][0]):04d}")
    assert trial["confirmed_mean"] == parent["confirmed_mean"]

    study = folder / "studies" / "films"
    outcome = json.loads((study / "outcome.json").read_text())
    assert outcome["trial"] == int(won[0][0])
    assert outcome["replicate"] >= 1
    kept = {path.name for path in (study / "checkpoints").iterdir()}
    assert f"trial-{outcome['trial']:04d}-seed-{outcome['replicate']}" in kept
    assert {name[:10] for name in kept if "seed" in name} == {"trial-0000", f"trial-{outcome['trial']:04d}"}
    seeds = dict(query(folder, "select key, value from model_version_tags"))
    assert seeds["hpo.seed"] == str(outcome["replicate"])

    again = inline("run", *arguments, "--resume")
    assert again.returncode == 0, again.stderr
    assert SEED_RUN.findall(again.stdout) == []
    assert "models:/films@champion, promoted" in again.stdout
