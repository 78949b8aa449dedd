import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from hpo.constraints import Kind, parse
from hpo.errors import ServiceError
from hpo.ledger import Ledger
from hpo.ledger.seeds import SeedLedger
from hpo.records import TrialState
from hpo.samplers import GpConfig, Nsga2Config, RandomConfig, TpeConfig
from hpo.schedulers import AshaConfig
from hpo.space import Choice, Condition, Fixed, FloatRange, IntRange, Params, SearchSpace
from hpo.study.steps import Ladder

SPACE = SearchSpace(
    {
        "learning_rate": FloatRange(1e-5, 1e-1, log=True),
        "per_device_train_batch_size": Choice((16, 32)),
        "num_train_epochs": IntRange(2, 4),
        "warmup_ratio": FloatRange(0.0, 0.2, step=0.05),
        "loss": Choice(("cross_entropy", "focal")),
        "focal_gamma": FloatRange(1.0, 4.0, when=(Condition("loss", ("focal",)),)),
        "weight_decay": Fixed(0.01),
    }
)
SAMPLERS = (RandomConfig, TpeConfig)  # the others have a suite of their own


TPE = TpeConfig(n_startup_trials=3)


def ledger(folder: Path | None, space: SearchSpace = SPACE, sampler: object = TPE, seed: int = 1) -> Ledger:
    """folder: None keeps it in memory, at a tenth of the cost: where nothing is opened again."""
    return Ledger(folder, study="s", mode="max", space=space, sampler=sampler, seed=seed)  # type: ignore[arg-type]


def score(params: Params) -> float:
    return float(params.get("learning_rate", 0.0)) + float(params.get("num_train_epochs", 0.0))


def play(book: Ledger, trials: int, start: int = 0) -> list[Params]:
    """Ask and tell one at a time; every third trial is pruned, every fifth fails."""
    asked = []
    for place in range(start, start + trials):
        record = book.ask()
        assert record is not None
        asked.append(record.params)
        book.report(record.number, 0.5, score(record.params))
        state = TrialState.PRUNED if place % 3 == 1 else TrialState.FAILED if place % 5 == 4 else TrialState.COMPLETE
        book.tell(record.number, state, value=score(record.params), metrics={"epochs": 1.0})
    return asked


@pytest.mark.parametrize("config", SAMPLERS)
def test_every_sampler_proposes_assignments_of_the_space(config: type) -> None:
    for params in play(ledger(None, sampler=config()), 20):
        assert SPACE.contains(params), params


@pytest.mark.parametrize("config", SAMPLERS)
def test_the_same_seed_gives_the_same_suggestions_and_another_seed_others(config: type, tmp_path: Path) -> None:
    first = play(ledger(tmp_path, sampler=config()), 12)
    assert play(ledger(None, sampler=config()), 12) == first
    assert play(ledger(None, sampler=config(), seed=2), 12) != first


@pytest.mark.parametrize("config", SAMPLERS)
def test_a_ledger_that_is_opened_again_goes_on_as_if_it_had_stayed_open(config: type, tmp_path: Path) -> None:
    whole = play(ledger(None, sampler=config()), 12)
    parts = play(ledger(tmp_path / "b", sampler=config()), 5) + play(ledger(tmp_path / "b", sampler=config()), 7, 5)
    assert parts == whole


def test_states_values_and_curves_come_back(tmp_path: Path) -> None:
    book = ledger(tmp_path)
    play(book, 6)
    records = ledger(tmp_path).records()
    assert [record.number for record in records] == list(range(6))
    assert [record.state for record in records] == [
        TrialState.COMPLETE,
        TrialState.PRUNED,
        TrialState.COMPLETE,
        TrialState.COMPLETE,
        TrialState.PRUNED,
        TrialState.COMPLETE,
    ]
    assert [record.value is None for record in records] == [False, True, False, False, True, False]
    assert all(record.curve == {0.5: score(record.params)} for record in records)
    assert all(record.params["weight_decay"] == 0.01 for record in records)
    assert records[0].metrics == {"epochs": 1.0}


def test_what_a_crash_left_running_is_handed_out_again_first_with_its_number_params_and_seeds(tmp_path: Path) -> None:
    book = ledger(tmp_path)
    play(book, 3)
    left = [book.ask(), book.ask()]
    again = ledger(tmp_path)
    back = [again.ask(), again.ask()]
    assert [one and (one.number, one.params, one.seeds) for one in back] == [
        one and (one.number, one.params, one.seeds) for one in left
    ]
    fresh = again.ask()
    assert fresh is not None
    assert fresh.number == 5


def test_a_crash_between_asking_and_writing_down_loses_no_trial(tmp_path: Path) -> None:
    whole = ledger(tmp_path / "a")
    play(whole, 4)
    expected = whole.ask()
    book = ledger(tmp_path / "b")
    play(book, 4)
    book._study.ask()  # as far as a driver came that was killed before it had any value
    again = ledger(tmp_path / "b").ask()
    assert again is not None
    assert expected is not None
    assert again.number == expected.number == 4
    assert SPACE.contains(again.params)


def test_queued_points_come_first_once_and_keep_their_origin(tmp_path: Path) -> None:
    point = SPACE.project(dict.fromkeys(SPACE.varying, 0))
    other = {**point, "num_train_epochs": 4}
    for _ in range(2):  # the second time as after a restart
        book = ledger(tmp_path)
        book.enqueue([("default", point), ("first", other), ("first", point)])
    records = [book.ask() for _ in range(3)]
    assert [record.origin for record in records if record] == ["default", "first", "tpe"]
    assert [record.params for record in records[:2] if record] == [point, other]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("config", SAMPLERS)
def test_a_finite_space_is_tried_once_each_and_then_exhausted(config: type, seed: int) -> None:
    space = SearchSpace({"num_train_epochs": IntRange(1, 3), "per_device_train_batch_size": Choice((8, 16, 32, 64))})
    book = Ledger(None, study="s", mode="max", space=space, sampler=config(), seed=seed)
    seen = []
    while (record := book.ask()) is not None:
        seen.append(record.params)
        book.tell(record.number, TrialState.COMPLETE, value=1.0)
    assert sorted(map(str, seen)) == sorted(map(str, space.grid()))
    assert len(book.records()) == 12


def test_reporting_a_step_again_overwrites_it(tmp_path: Path) -> None:
    book = ledger(tmp_path)
    record = book.ask()
    assert record is not None
    book.report(record.number, 1 / 3, 0.5)
    book.report(record.number, 1 / 3, 0.6)
    assert book.records()[0].curve == {0.333333: 0.6}


def test_optuna_ranks_stopped_trials_by_the_rows_that_they_saw_and_curves_stay_by_progress(tmp_path: Path) -> None:
    space = SearchSpace({"num_train_epochs": Choice((2, 4))})
    ladder = Ladder.of(AshaConfig(resource="samples", reduction_factor=4, rungs=2), space)

    def opened(folder: Path, within: SearchSpace = space) -> Ledger:
        return Ledger(folder, study="s", mode="max", space=within, sampler=TPE, seed=1, amount=ladder.amount)

    book = opened(tmp_path)
    book.enqueue([("first", {"num_train_epochs": 2}), ("first", {"num_train_epochs": 4})])
    for looks in ((0.25, 0.5), (0.125, 0.25)):
        record = book.ask()
        assert record is not None
        for progress in looks:
            book.report(record.number, progress, 0.5 + progress)
        book.tell(record.number, TrialState.PRUNED)
    wider = SearchSpace({"num_train_epochs": Choice((2, 4, 8))})
    for own in (book, opened(tmp_path), opened(tmp_path, wider)):
        assert [list(trial.intermediate_values) for trial in own._trials()] == [[500_000, 1_000_000]] * 2
        assert [record.curve for record in own.records()] == [{0.25: 0.75, 0.5: 1.0}, {0.125: 0.625, 0.25: 0.75}]
    other = opened(tmp_path / "other", SearchSpace({"num_train_epochs": IntRange(1, 8)}))
    other.bring_in("s", book.records())
    assert [list(trial.intermediate_values) for trial in other._trials()] == [[500_000, 1_000_000]] * 2


def test_seeds_differ_by_trial_by_replicate_and_from_each_other(tmp_path: Path) -> None:
    book = ledger(tmp_path)
    seeds = [book.seeds(number, replicate) for number in range(4) for replicate in range(3)]
    assert len({(own.init, own.order) for own in seeds}) == 12
    assert all(own.init != own.order for own in seeds)
    assert book.seeds(3, 1) == ledger(tmp_path).seeds(3, 1)


def test_a_ledger_writes_ahead(tmp_path: Path) -> None:
    ledger(tmp_path)
    with sqlite3.connect(tmp_path / "ledger.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_bytes(b"not a database at all, but long enough to be read as one" * 50)
    with pytest.raises(ServiceError, match=r"ledger\.db can't be opened"):
        ledger(tmp_path)


RULES = ("per_device_train_batch_size * num_train_epochs <= 48", "warmup_ratio <= 0.1 or learning_rate >= 1e-3")


def ruled(*rules: str, space: SearchSpace = SPACE) -> SearchSpace:
    kinds: dict[str, Kind] = {name: "text" if name == "loss" else "number" for name in space.parameters}
    return SearchSpace(space.parameters, tuple(parse(rule, kinds, {}) for rule in rules))


@pytest.mark.parametrize(
    ("config", "trials"),
    [
        (RandomConfig(), 16),
        (TPE, 16),
        (GpConfig(n_startup_trials=3), 6),  # each costs seconds: it models the rules as well
        (Nsga2Config(population_size=4), 16),
    ],
)
def test_no_trial_breaks_a_rule_and_refused_proposals_count_for_nothing(config: object, trials: int) -> None:
    space = ruled(*RULES)
    book = ledger(None, space, config)
    asked = play(book, trials)
    assert all(space.contains(params) for params in asked)
    records = book.records()
    assert [record.params for record in records] == asked
    numbers = [record.number for record in records]
    assert numbers == sorted(numbers)
    assert numbers[-1] >= trials  # some were refused, and keep their numbers to themselves


def test_a_sampler_learns_where_the_rules_are() -> None:
    space = ruled("learning_rate <= 1e-3", space=SearchSpace({"learning_rate": FloatRange(1e-5, 1e-1, log=True)}))
    book = ledger(None, space, TPE)
    for _ in range(30):
        record = book.ask()
        assert record is not None
        book.tell(record.number, TrialState.COMPLETE, value=float(record.params["learning_rate"]))
    numbers = [record.number for record in book.records()]
    assert numbers[-1] - numbers[15] < numbers[15]  # fewer refusals later, though the best lies at the border


def test_where_nearly_all_is_forbidden_a_point_is_drawn_after_a_few_proposals(tmp_path: Path) -> None:
    space = ruled("learning_rate <= 1.05e-5", space=SearchSpace({"learning_rate": FloatRange(1e-5, 1e-1, log=True)}))
    book = ledger(tmp_path, space, RandomConfig())
    records = [book.ask() for _ in range(3)]
    assert all(record is not None and space.contains(record.params) for record in records)
    assert [record.number for record in records if record] == [8, 17, 26]


def test_refusals_follow_from_the_ledger_when_it_is_opened_again(tmp_path: Path) -> None:
    space = ruled(*RULES)
    book = ledger(None, space)
    whole = play(book, 10)
    parts = [params for place in range(10) for params in play(ledger(tmp_path / "b", space), 1, place)]
    assert parts == whole
    ledger(tmp_path / "b", space)._study.ask()  # killed before the proposal was looked at
    assert play(ledger(tmp_path / "b", space), 3, 10) == play(book, 3, 10)


def test_a_finite_space_with_rules_is_tried_out_too() -> None:
    parameters = {"num_train_epochs": IntRange(1, 3), "per_device_train_batch_size": Choice((8, 16, 32, 64))}
    space = ruled("num_train_epochs * per_device_train_batch_size <= 32", space=SearchSpace(parameters))
    book = ledger(None, space)
    seen = []
    while (record := book.ask()) is not None:
        seen.append(record.params)
        book.tell(record.number, TrialState.COMPLETE, value=1.0)
    assert sorted(map(str, seen)) == sorted(map(str, space.grid()))
    assert len(seen) == 6


LARGE = {name: IntRange(0, 99) for name in ("a", "b", "c", "d", "e", "f")}
"""10^12 assignments: listing them takes months."""


def test_in_a_large_finite_space_what_is_left_is_drawn_and_the_same_after_a_resume(tmp_path: Path) -> None:
    space = ruled("a * b <= 20", space=SearchSpace(LARGE))
    whole = play(ledger(None, space, RandomConfig()), 6)
    parts = [play(ledger(tmp_path, space, RandomConfig()), 1, place)[0] for place in range(6)]
    assert parts == whole
    assert all(space.contains(params) for params in whole)


def test_a_point_that_was_tried_is_drawn_again_and_the_search_ends_where_hardly_any_is_left() -> None:
    parameters = {"loss": Choice(("a", "b")), "a": IntRange(0, 99_999, when=(Condition("loss", ("none",)),))}
    book = ledger(None, SearchSpace(parameters), RandomConfig())  # two assignments, though the ranges multiply to more
    asked = []
    while (record := book.ask()) is not None:
        asked.append(record.params)
        book.tell(record.number, TrialState.COMPLETE, value=1.0)
    assert sorted(map(str, asked)) == ["{'loss': 'a'}", "{'loss': 'b'}"]


@pytest.mark.parametrize("first", [3, 25])
def test_broken_rules_do_not_take_the_places_of_the_random_trials_that_a_sampler_begins_with(
    first: int,
) -> None:
    space = ruled("learning_rate <= 1e-3", space=SearchSpace({"learning_rate": FloatRange(1e-5, 1e-1, log=True)}))
    book = ledger(None, space, TpeConfig(n_startup_trials=first))
    for _ in range(first + 5):
        record = book.ask()
        assert record is not None
        book.tell(record.number, TrialState.COMPLETE, value=float(record.params["learning_rate"]))
    begun = book._study.get_trials()[: book.records()[first - 1].number]
    assert any("rejected" in trial.user_attrs["hpo"] for trial in begun)
    assert {trial.state.name for trial in begun} == {"COMPLETE", "FAIL"}


def test_a_ledger_in_memory_has_no_folder() -> None:
    book = Ledger(None, study="s", mode="max", space=SPACE, sampler=TPE, seed=1)
    play(book, 2)
    assert len(book.records()) == 2
    with pytest.raises(ValueError, match="in memory has no folder"):
        print(book.folder)


@pytest.mark.parametrize(
    ("table", "read"),
    [
        ("study_user_attributes", lambda book: book.history),
        ("study_user_attributes", lambda book: book.taken_over),
        ("study_user_attributes", lambda book: book.seconds_used),
        ("trials", lambda book: book.ask()),
        ("trials", lambda book: book.enqueue([("first", {"learning_rate": 1e-3})])),
        ("trials", lambda book: book.report(0, 1.0, 0.5)),
    ],
)
def test_a_database_that_fails_is_told_in_our_words(
    table: str, read: Callable[[Ledger], object], tmp_path: Path
) -> None:
    book = ledger(tmp_path)
    play(book, 2)
    broken(tmp_path, table)
    with pytest.raises(ServiceError, match=f"the ledger can't be written or read .*{table}"):
        read(book)


def test_runs_over_fresh_seeds_fail_in_our_words_too(tmp_path: Path) -> None:
    ledger(tmp_path)
    broken(tmp_path, "study_directions")
    with pytest.raises(ServiceError, match=r"the ledger can't be written or read .*study_directions"):
        SeedLedger(tmp_path, study="s", mode="max", seed=1)


def broken(folder: Path, table: str) -> None:
    with closing(sqlite3.connect(folder / "ledger.db")) as connection, connection:
        connection.execute(f"alter table {table} rename to gone")
        connection.execute(f"create view {table} as select 1 as one")  # Optuna makes tables that are not there
