"""A study whose space changes: what fits counts, what does not is history, numbers stay, and a kill leaves no half."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hpo.constraints import Kind, parse
from hpo.ledger import Ledger
from hpo.ledger.fit import fit
from hpo.ledger.generations import shape_of
from hpo.records import Exploited, TrialState
from hpo.samplers import CmaesConfig, GpConfig, Nsga2Config, QmcConfig, RandomConfig, TpeConfig
from hpo.space import Choice, Condition, Fixed, FloatRange, IntRange, Parameter, SearchSpace

RATE = FloatRange(1e-5, 1e-1, log=True)
DEFAULTS = {"learning_rate": 3e-5, "weight_decay": 0.01, "num_train_epochs": 3, "loss": "cross_entropy"}


def space_of(*rules: str, **parameters: Parameter) -> SearchSpace:
    kinds: dict[str, Kind] = dict.fromkeys(parameters, "number")
    return SearchSpace(parameters, tuple(parse(rule, kinds, {}) for rule in rules))


def opened(folder: Path, space: SearchSpace, sampler: Any = None) -> Ledger:
    sampler = sampler or TpeConfig(n_startup_trials=3)
    return Ledger(folder, study="s", mode="max", space=space, sampler=sampler, seed=1, defaults=DEFAULTS)


def play(book: Ledger, trials: int) -> None:
    for place in range(trials):
        record = book.ask()
        assert record is not None
        value = float(record.params["learning_rate"])
        book.report(record.number, 0.5, value)
        state = TrialState.PRUNED if place % 3 == 1 else TrialState.FAILED if place % 5 == 4 else TrialState.COMPLETE
        book.tell(record.number, state, value=value, metrics={"epochs": 1.0})


OLD = space_of(learning_rate=RATE, num_train_epochs=IntRange(2, 4))


@pytest.mark.parametrize(
    "sampler", [None, RandomConfig(), GpConfig(n_startup_trials=3), CmaesConfig(), Nsga2Config(), QmcConfig()]
)
def test_trials_that_fit_count_and_the_others_are_history(sampler: Any, tmp_path: Path) -> None:
    book = opened(tmp_path, OLD, sampler)
    play(book, 12)
    before = book.records()
    new = space_of(learning_rate=FloatRange(1e-5, 1e-3, log=True), num_train_epochs=Choice((2, 3)))
    after = opened(tmp_path, new, sampler)
    records = after.records()
    assert [record.number for record in records] == list(range(12))
    for old, now in zip(before, records, strict=True):
        assert now.dropped is not new.contains(old.params)
        assert (now.state, now.params, now.curve, now.metrics, now.seeds) == (
            old.state, old.params, old.curve, old.metrics, old.seeds,
        )  # fmt: skip
        assert now.value == (None if now.dropped else old.value)
    kept = sum(not record.dropped for record in records)
    assert 0 < kept < 12
    assert after.history[0].startswith(f"the space changed: {kept} of 12 trials fit the new one and count; ")
    play(after, 6)
    records = after.records()
    assert len(records) == 18
    assert all(new.contains(record.params) for record in records if not record.dropped)


def test_a_ledger_opened_with_the_same_space_makes_no_generation(tmp_path: Path) -> None:
    play(opened(tmp_path, OLD), 3)
    book = opened(tmp_path, OLD)
    assert book.history == ()
    assert book._study.study_name == "s"


def test_the_order_in_which_a_space_is_written_down_is_no_change(tmp_path: Path) -> None:
    rules = ("num_train_epochs <= 3", "learning_rate <= 1e-2")
    play(opened(tmp_path, space_of(*rules, learning_rate=RATE, num_train_epochs=IntRange(2, 4))), 3)
    book = opened(tmp_path, space_of(*rules[::-1], num_train_epochs=IntRange(2, 4), learning_rate=RATE))
    assert book.history == ()
    play(book, 3)
    conditions = (Condition("loss", ("focal",)), Condition("num_train_epochs", (2,)))
    focal, other = (FloatRange(1.0, 4.0, when=own) for own in (conditions, conditions[::-1]))
    assert shape_of(SearchSpace({"focal_gamma": focal})) == shape_of(SearchSpace({"focal_gamma": other}))


def test_a_list_in_another_order_is_a_change_that_keeps_all_trials(tmp_path: Path) -> None:
    play(opened(tmp_path, space_of(learning_rate=RATE, num_train_epochs=Choice((2, 3)))), 3)
    book = opened(tmp_path, space_of(learning_rate=RATE, num_train_epochs=Choice((3, 2))))
    assert book.history == ("the space changed: 3 of 3 trials fit the new one and count",)


def test_trials_that_took_weights_are_no_evidence_and_stay_what_they_were(tmp_path: Path) -> None:
    def played(folder: Path, exploits: tuple[Exploited, ...]) -> Ledger:
        book = opened(folder, OLD)
        for place in range(8):
            record = book.ask()
            assert record is not None
            if place >= 2:
                book.told(record.model_copy(update={"exploits": exploits}))
            book.report(record.number, 0.5, 0.5)
            state = TrialState.PRUNED if place == 7 else TrialState.COMPLETE
            book.tell(record.number, state, value=0.5, metrics={"epochs": 2.0})
        return book

    taken = Exploited(level=0.5, progress=0.5, source=0, params={"learning_rate": 0.01}, schedule=())
    plain, changed = played(tmp_path / "plain", ()).records(), played(tmp_path / "changed", (taken,)).records()
    assert [(own.state, own.value) for own in changed] == [(own.state, own.value) for own in plain]
    seen = opened(tmp_path / "changed", OLD)._study.get_trials()
    assert [trial.number for trial in seen if trial.state.name in ("COMPLETE", "PRUNED")] == [0, 1]
    narrow = space_of(learning_rate=FloatRange(1e-5, 1e-1), num_train_epochs=IntRange(2, 4))
    assert opened(tmp_path / "changed", narrow).records() == changed
    fresh = opened(tmp_path / "fresh", OLD)
    assert fresh.bring_in("other", changed) == 2


def test_what_was_dropped_counts_again_when_the_space_changes_back(tmp_path: Path) -> None:
    book = opened(tmp_path, OLD)
    play(book, 8)
    before = book.records()
    opened(tmp_path, space_of(learning_rate=FloatRange(1e-5, 1e-4, log=True), num_train_epochs=IntRange(2, 4)))
    after = opened(tmp_path, OLD)
    assert after.records() == before
    assert len(after.history) == 2


def test_a_new_rule_drops_what_breaks_it(tmp_path: Path) -> None:
    play(opened(tmp_path, OLD), 10)
    ruled = space_of("num_train_epochs <= 3", learning_rate=RATE, num_train_epochs=IntRange(2, 4))
    book = opened(tmp_path, ruled)
    assert {record.params["num_train_epochs"] for record in book.records() if record.dropped} == {4}
    assert "num_train_epochs <= 3 is broken (trial" in book.history[0]


def test_trials_of_before_took_the_default_of_what_is_searched_now(tmp_path: Path) -> None:
    play(opened(tmp_path, OLD), 5)
    wider = SearchSpace({**OLD.parameters, "weight_decay": FloatRange(0.0, 0.1)})
    book = opened(tmp_path, wider)
    assert [record.dropped for record in book.records()] == [False] * 5
    assert {record.params["weight_decay"] for record in book.records()} == {0.01}


def test_what_is_queued_or_running_goes_on_if_it_fits(tmp_path: Path) -> None:
    book = opened(tmp_path, OLD)
    points = [{"learning_rate": rate, "num_train_epochs": 2} for rate in (1e-4, 1e-2, 2e-4, 2e-2)]
    book.enqueue([("first", point) for point in points])
    assert [book.ask(), book.ask()]
    book.report(0, 0.5, 0.7)
    after = opened(tmp_path, space_of(learning_rate=FloatRange(1e-5, 1e-3), num_train_epochs=IntRange(2, 4)))
    first, second = after.ask(), after.ask()
    assert first is not None
    assert second is not None
    assert (first.number, first.params, first.curve) == (0, points[0], {0.5: 0.7})
    assert (second.number, second.params) == (2, points[2])
    cut_off = next(record for record in after.records() if record.number == 1)
    assert (cut_off.state, cut_off.dropped) == (TrialState.FAILED, True)
    assert cut_off.reason == "the space changed before it had ended"
    third = after.ask()
    assert third is not None
    assert third.number == 4  # the queued point at 3 was left out


def test_the_default_configuration_is_tried_anew_where_it_moved(tmp_path: Path) -> None:
    book = opened(tmp_path, OLD)
    point = {"learning_rate": 1e-4, "num_train_epochs": 3}
    book.enqueue([("default", point)])
    play(book, 1)
    book = opened(tmp_path, space_of(learning_rate=FloatRange(1e-5, 1e-3, log=True), num_train_epochs=IntRange(2, 4)))
    book.enqueue([("default", point)])
    moved = {**point, "learning_rate": 3e-5}
    book.enqueue([("default", moved)])
    book.enqueue([("default", moved)])
    record = book.ask()
    assert record is not None
    assert (record.number, record.origin, record.params) == (1, "default", moved)


def test_wall_time_is_carried_over(tmp_path: Path) -> None:
    book = opened(tmp_path, OLD)
    play(book, 1)
    book.spend(12.5)
    assert opened(tmp_path, space_of(learning_rate=RATE)).seconds_used == 12.5


KILLED = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_ledger_generations import NARROW, opened
import optuna
left = int(sys.argv[3])
real = optuna.storages.RDBStorage.{method}
def dying(self, *arguments, **options):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), 9)
    return real(self, *arguments, **options)
optuna.storages.RDBStorage.{method} = dying
opened(Path(sys.argv[1]), NARROW)
"""
NARROW = space_of(learning_rate=FloatRange(1e-5, 1e-3, log=True), num_train_epochs=Choice((2, 3)))


@pytest.mark.parametrize(
    ("method", "after"), [("_create_new_trial", 0), ("_create_new_trial", 4), ("set_study_user_attr", 1)]
)
def test_a_kill_while_a_generation_is_made_leaves_the_one_before(method: str, after: int, tmp_path: Path) -> None:
    book = opened(tmp_path / "killed", OLD)
    play(book, 8)
    before = book.records()
    play(opened(tmp_path / "whole", OLD), 8)
    command = [sys.executable, "-c", KILLED.replace("{method}", method), str(tmp_path / "killed")]
    done = subprocess.run([*command, str(Path(__file__).parent), str(after)], env=os.environ, timeout=120)
    assert done.returncode == -signal.SIGKILL
    assert opened(tmp_path / "killed", OLD).records() == before  # whoever restores the file finds the study as it was
    again, whole = opened(tmp_path / "killed", NARROW), opened(tmp_path / "whole", NARROW)
    assert again.records() == whole.records()
    assert again.history == whole.history
    assert [one.study_name for one in again._study._storage.get_all_studies()] == ["s", "s@1"]


def test_an_assignment_fits_where_it_trains_the_same() -> None:
    focal = FloatRange(1.0, 4.0, when=(Condition("loss", ("focal",)),))
    space = SearchSpace({"learning_rate": RATE, "loss": Choice(("cross_entropy", "focal")), "focal_gamma": focal})
    assert fit({"learning_rate": 1e-4}, space, DEFAULTS) == {"learning_rate": 1e-4, "loss": "cross_entropy"}
    assert fit({"learning_rate": 1e-4, "weight_decay": 0.01}, space, DEFAULTS) == {
        "learning_rate": 1e-4, "loss": "cross_entropy",
    }  # fmt: skip
    assert fit({"learning_rate": 1e-4, "weight_decay": 0.02}, space, DEFAULTS) == "weight_decay is not in the space"
    assert fit({"learning_rate": 1e-4, "loss": "focal"}, space, DEFAULTS) == "focal_gamma was not set"
    assert fit({"learning_rate": 0.5}, space, DEFAULTS) == "learning_rate is outside of the space"
    fixed = SearchSpace({"learning_rate": RATE, "weight_decay": Fixed(0.1)})
    assert fit({"learning_rate": 1e-4}, fixed, DEFAULTS) == "weight_decay is outside of the space"
