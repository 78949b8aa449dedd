"""The table of all tasks: one setting from end to end over toy rows, and what is made of its lines."""

import csv
import json
import sys
from pathlib import Path

import pytest
from tiny_bert import write_tiny_bert
from toys import TOYS

sys.path.insert(0, str(Path(__file__).parent.parent))  # benchmarks are not installed with the package

from benchmarks import tasks
from benchmarks.paired import read_lines


def write_rows(folder: Path) -> None:
    folder.mkdir(parents=True)
    for seed, (split, rows) in enumerate({"train": 48, "validation": 24, "test": 24}.items()):
        found = TOYS["classes"].table(rows, seed).rename_columns(["sentence", "label"]).to_pylist()
        with (folder / f"{split}.tsv").open("w", newline="") as file:
            writer = csv.DictWriter(file, ["sentence", "label"], delimiter="\t")
            writer.writeheader()
            writer.writerows(found)


def test_a_study_is_run_and_its_winner_is_trained_beside_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows(tmp_path / "sms_spam")
    monkeypatch.setenv("HPO_DATA", str(tmp_path))
    file = tmp_path / "tasks.jsonl"
    changes = ["task.max_length=16", "search.metric=accuracy"]  # macro F1 is slow to test
    small = ["--seeds", "1", "--trials", "2", *(word for change in changes for word in ("--set", change))]
    places = ["--storage", str(tmp_path / "studies"), "--output", str(file)]
    arguments = ["sms_spam", "--inline", "--model", str(write_tiny_bert(tmp_path / "tiny")), *small, *places]

    assert tasks.main(arguments) == 0
    found = read_lines(file)
    search, *trainings = found
    assert search["rows"] == {"train": 48, "validation": 24, "test": 24}
    assert sum(search["counts"].values()) == 2
    assert [(one["arm"], one["seed"]) for one in trainings] == [*tasks.wanted(search, 1)]
    assert all(one["value"] == one["test"]["f1_macro"] for one in trainings)
    assert "| classes, one rare | `sms_spam` | 48, 24, 24 |" in capsys.readouterr().out

    file.write_text("".join(f"{json.dumps(line)}\n" for line in found[:-1]))
    tasks.main(arguments)
    again = read_lines(file)
    assert again[:-1] == found[:-1]  # nothing that was there is done again
    assert again[-1]["test"] == found[-1]["test"]


def lines(
    name: str, winner: int, values: dict[str, list[float]], changes: tuple[str, ...] = ()
) -> list[dict[str, object]]:
    search = {
        "kind": "search",
        "setting": name,
        "changes": changes,
        "rows": {"train": 3902, "validation": 558, "test": 1114},
        "counts": {"complete": 4, "pruned": 6},
        "seconds": 600.0,
        "device": "CPU",
        "numbers": {"default": 0, "winner": winner},
        "default": {"learning_rate": 5e-5},
        "winner": {"learning_rate": 3.1415e-4, "num_train_epochs": 3},
    }
    trainings = [
        {"kind": "training", "setting": name, "changes": changes, "arm": arm, "seed": seed, "value": value}
        for arm, own in values.items()
        for seed, value in enumerate(own, 1)
    ]
    return [search, *trainings]


def test_the_table_pairs_by_seed_and_says_what_is_not_measured() -> None:
    found = lines("sms_spam", 3, {"default": [0.94, 0.95, 0.96], "winner": [0.96, 0.97, 0.98]})
    page = tasks.text([*found, *lines("wnut17", 4, {"default": [0.3, 0.31, 0.32], "winner": [0.35]})])
    spam, entities = page.splitlines()[2:4]
    assert spam.endswith("| 10 trials, 4 in full, 600 s, CPU | f1_macro | 0.9500 | 0.9700 | +2.0 ± 0.0 |")
    assert entities.endswith("| f1 | 0.3100 | 0.3500 (1) | +5.0 ± nan |")
    assert "`python -m benchmarks.tasks rte stsb wnut17 " in page
    assert "- `sms_spam`: `learning_rate` 0.000314, `num_train_epochs` 3" in page


def test_where_the_default_wins_there_is_nothing_to_compare() -> None:
    page = tasks.text(lines("rte", 0, {"default": [0.58, 0.59, 0.6]}))
    assert page.splitlines()[2].endswith("| accuracy | 0.5900 | the default won |  |")
    assert "rte" not in page.partition("Not measured yet")[2].splitlines()[0]


def test_what_was_measured_on_fewer_rows_is_another_measurement() -> None:
    values = {"default": [0.9, 0.9, 0.9], "winner": [0.8, 0.9, 1.0]}
    page = tasks.text([*lines("imdb", 1, values, ("data.limit.train=100",)), *lines("imdb", 2, values)])
    assert page.count("| `imdb` |") == 2
    assert "imdb" not in page.partition("Not measured yet")[2].splitlines()[0]
    page = tasks.text(lines("imdb", 1, values, ("data.limit.train=100",)))
    assert " imdb " in page.partition("Not measured yet")[2].splitlines()[0]


def test_the_search_never_sees_the_rows_that_it_is_judged_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPO_DATA", str(tmp_path))
    for name, setting in tasks.SETTINGS.items():
        if setting.data is None:
            continue
        (tmp_path / setting.data).mkdir()
        for file in setting.files.values():
            (tmp_path / setting.data / file).touch()
        data = tasks.study_of(name, tasks.Asked()).data
        assert data.files is not None
        assert data.files.test is not None
        assert data.files.test not in (data.files.train, data.files.validation)
        assert (data.files.validation is None) == (data.validation is not None)


def test_a_setting_that_does_not_exist_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        tasks.main(["cola"])
    assert "there is no setting 'cola'" in capsys.readouterr().err
