"""Trials that are cut off in the middle, and go on: to the bit, once, or from the beginning where that is safer."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_trial import plain
from tiny_trials import trial

from hpo.encoded import Array, Encoded
from hpo.records import Report, TrialConfig
from hpo.training.bookmarks import Bookmark, Bookmarks
from hpo.trial import TrialObjective


class Cut(Exception):  # noqa: N818
    """The process would have died here."""


@dataclasses.dataclass(frozen=True)
class Mortal(TrialObjective):
    """Is cut off before training batch number `after`."""

    after: int = 10**9
    batches: list[int] = dataclasses.field(default_factory=list)

    def _collate(self, encoded: Encoded, rows: Array) -> dict[str, Array]:
        if len(encoded) == len(self._train) and len(rows) > 2:  # two are what the lean path is tried out with
            self.batches.append(len(rows))
            if len(self.batches) > self.after:
                raise Cut
        return super()._collate(encoded, rows)


def mortal(objective: TrialObjective, folder: Path, after: int = 10**9, seconds: float | None = 0.0) -> Mortal:
    own = {name: getattr(objective, name) for name in objective.__dataclass_fields__}
    own |= {"running": folder / "running", "bookmark_seconds": seconds, "checkpoints": folder / "checkpoints"}
    return Mortal(**own, after=after)


def cut_off(objective: Mortal, config: TrialConfig) -> list[Report]:
    """What it says before it is cut off."""
    reports: list[Report] = []

    def pull() -> None:
        for report in objective(config):
            reports.append(report)

    with pytest.raises(Cut):
        pull()
    return reports


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "running").glob("*") if path.suffix != ".pulse")


LIVELY = {"hidden_dropout_prob": 0.2, "attention_probs_dropout_prob": 0.1, "weight_decay": 0.1}
"""Much that is random, so that a generator that is not where it was shows."""


@pytest.mark.parametrize("after", [5, 24, 60])
def test_a_trial_that_is_cut_off_goes_on_to_the_same_bits(
    objective: TrialObjective, tmp_path: Path, after: int
) -> None:
    """Before its first report, right after the one at the end of an epoch, and near the end."""
    config = trial(**LIVELY)
    whole = list(mortal(objective, tmp_path / "whole", seconds=None)(config))
    said = cut_off(mortal(objective, tmp_path / "cut", after), config)
    torch.manual_seed(9)  # another process, where other trials ran before
    other = mortal(objective, tmp_path / "cut")
    reports = list(other(config))
    assert len(other.batches) == 72 - after  # none of the steps before the cut is trained again
    assert plain(reports) == plain(whole)
    assert [(report.step, report.progress, report.done) for report in reports] == [
        (report.step, report.progress, report.done) for report in whole
    ]
    assert reports[: len(said)] == [dataclasses.replace(one, notes=reports[0].notes) for one in said[:1]] + said[1:]
    assert reports[0].notes == (f"it goes on after step {after} of 72",)
    assert not any(report.notes for report in reports[1:])
    weights = [load_file(report.checkpoint / "model.safetensors") for report in (whole[-1], reports[-1])]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(part, weights[1][name]) for name, part in weights[0].items())
    manifests = [json.loads((report.checkpoint / "manifest.json").read_text()) for report in (whole[-1], reports[-1])]
    assert manifests[0]["files"] == manifests[1]["files"]


def test_cut_off_twice_it_goes_on_twice(objective: TrialObjective, tmp_path: Path) -> None:
    config = trial(**LIVELY)
    whole = list(mortal(objective, tmp_path / "whole", seconds=None)(config))
    cut_off(mortal(objective, tmp_path, 30), config)
    cut_off(mortal(objective, tmp_path, 20), config)
    assert plain(list(mortal(objective, tmp_path)(config))) == plain(whole)


def test_a_run_whose_values_change_on_the_way_goes_on_with_those_in_force(
    objective: TrialObjective, tmp_path: Path
) -> None:
    schedule = ((1 / 3, {"learning_rate": 1e-2, "hidden_dropout_prob": 0.4}),)
    config = dataclasses.replace(trial(**LIVELY), schedule=schedule, of=0, replicate=1)
    whole = list(mortal(objective, tmp_path / "whole", seconds=None)(config))
    cut_off(mortal(objective, tmp_path, 40), config)
    assert files(tmp_path) == ["trial-0000-seed-1.40.safetensors", "trial-0000-seed-1.json"]
    assert plain(list(mortal(objective, tmp_path)(config))) == plain(whole)


def test_a_bookmark_leaves_room_for_the_checkpoint_that_comes_in_the_end(tmp_path: Path) -> None:
    """Or trials whose bookmarks fill the disk would wait for each other to end."""
    marks = Bookmarks(tmp_path / "running")
    known = {"of": "x", "step": 1, "seen": 8, "seconds": 1.0, "trained": 0.0, "elapsed": 1.0}
    mark = Bookmark(**known, reports=(), best=None, params={}, source=0)
    free = shutil.disk_usage(tmp_path).free
    assert not marks.write("trial-0000", mark, 1, lambda path: path.write_text("x"), 2 * free)
    assert files(tmp_path) == []
    assert marks.write("trial-0000", mark, 1, lambda path: path.write_text("x"))
    assert files(tmp_path) == ["trial-0000.1.safetensors", "trial-0000.json"]


def test_a_short_trial_writes_nothing(objective: TrialObjective, tmp_path: Path) -> None:
    cut_off(mortal(objective, tmp_path, 60, seconds=300.0), trial())
    assert files(tmp_path) == []


@pytest.mark.parametrize("part", ["tensors", "manifest", "missing"])
def test_a_damaged_bookmark_is_set_aside_and_the_trial_begins_again(
    objective: TrialObjective, tmp_path: Path, part: str
) -> None:
    config = trial()
    cut_off(mortal(objective, tmp_path, 30), config)
    data, manifest = tmp_path / "running" / "trial-0000.30.safetensors", tmp_path / "running" / "trial-0000.json"
    if part == "tensors":
        content = bytearray(data.read_bytes())
        content[len(content) // 2] ^= 1
        data.write_bytes(content)
    elif part == "manifest":
        manifest.write_text(manifest.read_text()[:100])
    else:
        data.unlink()
    again = mortal(objective, tmp_path, seconds=None)
    reports = list(again(config))
    assert len(again.batches) == 72
    assert len(reports[0].notes) == 1
    assert "set aside; it begins again" in reports[0].notes[0]
    assert all(name.endswith(".damaged") for name in files(tmp_path))


def test_a_bookmark_of_another_training_is_not_gone_on_from(objective: TrialObjective, tmp_path: Path) -> None:
    cut_off(mortal(objective, tmp_path, 30), trial())
    other = mortal(objective, tmp_path, seconds=None)
    assert [report.notes for report in other(trial(learning_rate=1e-3))] == [(), (), (), ()]
    assert len(other.batches) == 72
    assert files(tmp_path) == []


def test_a_trial_goes_on_with_fewer_rows_at_a_time(objective: TrialObjective, tmp_path: Path) -> None:
    config = trial()
    cut_off(mortal(objective, tmp_path, 30), config)
    again = mortal(objective, tmp_path)
    reports = list(again(dataclasses.replace(config, micro_batch=4)))
    assert again.batches[:2] == [4, 4]
    assert len(again.batches) == 2 * 42
    assert reports[-1].done


def test_a_trial_shows_that_it_is_alive(objective: TrialObjective, tmp_path: Path) -> None:
    pulse = tmp_path / "running" / "trial-0000.pulse"
    reports = mortal(objective, tmp_path, seconds=None)(trial())
    next(reports)
    assert pulse.exists()


def test_a_trial_does_not_go_on_with_other_ids_of_its_classes(objective: TrialObjective, tmp_path: Path) -> None:
    config = trial(**LIVELY)
    cut_off(mortal(objective, tmp_path, 30), config)
    other = mortal(dataclasses.replace(objective, labels=(*objective.labels[1:], objective.labels[0])), tmp_path)
    assert next(iter(other(config))).notes == ()
