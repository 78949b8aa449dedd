"""What a study takes over: other studies' trials, and its own after a change of the space."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from hpo import config as configs
from hpo.config import StudyConfig
from hpo.errors import ConfigError, ServiceError
from hpo.ledger import Ledger
from hpo.objectives import Limits
from hpo.records import Exploited, TrialState
from hpo.space import Params, Scalar, SearchSpace
from hpo.study import history
from hpo.study.folder import check_unchanged, save

FACTS = {"model_sha256": "m" * 64, "data_sha256": "d" * 64}


@pytest.fixture
def study(films: Path) -> Any:
    """`study("name", "a.b=value")`: a configuration over the same folder of studies."""

    def load(name: str, *overrides: str) -> StudyConfig:
        return configs.load(films, [f"study={name}", "promotion=null", *overrides])

    return load


def opened(config: StudyConfig) -> Ledger:
    return Ledger(
        config.folder,
        study=config.study,
        mode=config.mode,
        space=config.space,
        sampler=config.search.sampler,
        seed=1,
        defaults=history.TRAINED_WITHOUT,
    )


def played(config: StudyConfig, trials: int = 5, facts: dict[str, str] = FACTS) -> list[Any]:
    """A study that was run: the second trial is pruned, the third failed, the value is the learning rate's."""
    book = opened(config)
    save(config.folder, config, facts)
    for place in range(trials):
        record = book.ask()
        assert record is not None
        book.report(record.number, 0.5, 0.1)
        states = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED]
        state = states[place] if place < 3 else TrialState.COMPLETE
        book.tell(record.number, state, value=float(record.params["learning_rate"]), metrics={"epochs": 1.0})
    return book.records()


def start(config: StudyConfig, facts: dict[str, str] = FACTS) -> Ledger:
    book = opened(config)
    sources = history.find(config, book.taken_over)
    book.enqueue(config.first_points())
    history.take_over(sources, book, config, facts)
    return book


def test_trials_on_the_same_data_are_evidence_and_no_trials_of_this_study(study: Any) -> None:
    before = played(study("old"))
    config = study("new", "search.warm_start=[old]")
    book = start(config)
    assert book.records() == []
    assert book.history == (
        "warm start from old: 4 trials taken over as evidence, 1 left out (failed, outside of the space, or tried "
        "here too)",
    )
    seen = [trial for trial in book._trials() if trial.params]
    assert [trial.state.name for trial in seen] == ["COMPLETE", "PRUNED", "COMPLETE", "COMPLETE"]
    assert seen[0].value == before[0].value
    first = book.ask()
    assert first is not None
    assert (first.number, first.origin) == (0, "default")  # its own points come first
    book.tell(0, TrialState.COMPLETE, value=0.5)
    again = start(config)
    assert len(again._trials()) == 5
    following = again.ask()
    assert following is not None
    assert following.number == 5  # behind what was brought in
    assert [record.number for record in again.records()] == [0, 5]


def test_a_crash_while_trials_are_brought_in_brings_the_rest_and_none_twice(study: Any) -> None:
    records = played(study("old"))
    config = study("new", "search.warm_start=[old]")
    opened(config).bring_in("old", records[:2])  # killed here
    book = start(config)
    assert len([trial for trial in book._trials() if trial.params]) == 4
    assert book.history[0].startswith("warm start from old: 4 trials")


@pytest.mark.parametrize(
    ("change", "facts", "why"),
    [
        ("seed=3", {**FACTS, "data_sha256": "e"}, "other data"),
        ("seed=3", {**FACTS, "model_sha256": "e"}, "another model"),
        ("task.max_length=8", FACTS, "another task"),
        ("search.sampler=random", FACTS, "random takes no evidence"),
    ],
)
def test_what_was_good_elsewhere_is_tried_first(study: Any, change: str, facts: dict[str, str], why: str) -> None:
    records = played(study("old"))
    config = study("new", "search.warm_start=[old]", change, "space.learning_rate={low: 1e-3, high: 5e-3}")
    if change == "search.sampler=random":
        config = study("new", "search.warm_start=[old]", change)
    book = start(config, facts)
    assert book.history == (f"warm start from old: its best 3 assignments tried first ({why})",)
    best = sorted((record for record in records if record.value), key=lambda record: -record.value)
    asked = [book.ask() for _ in range(4)]
    assert [record.origin for record in asked if record] == ["default", "warm:old", "warm:old", "warm:old"]
    for record, old in zip(asked[1:], best, strict=True):
        assert record is not None
        assert config.space.contains(record.params)
        assert record.params["hidden_dropout_prob"] == old.params["hidden_dropout_prob"]


def test_no_more_trials_are_brought_into_the_space_than_points_are_taken(study: Any) -> None:
    played(study("old", "search.sampler=random"), 12)
    config = study("new", "search.warm_start=[old]", "task.max_length=8")
    asked = []

    @dataclasses.dataclass(frozen=True)
    class Counting(SearchSpace):
        def project(self, point: Params) -> dict[str, Scalar]:
            asked.append(point)
            return super().project(point)

    space = Counting(config.space.parameters)
    (source,) = history.find(config, frozenset())
    points = list(history._first_points(source.past, config.model_copy(update={"space": space})))
    assert len(points) == len(asked) == 3


def test_names_may_be_globs_folders_and_ledger_urls(study: Any, films: Path) -> None:
    for name in ("films-1", "films-2"):
        played(study(name))
    found = history.find(study("films-3", 'search.warm_start=["films-*", "nights-*"]'), frozenset())
    assert [source.name for source in found] == ["films-1", "films-2"]
    assert [s.name for s in history.find(study("films-2", 'search.warm_start=["films-*"]'), frozenset())] == ["films-1"]
    folder = films.parent / "studies" / "films-1"
    url = f"sqlite:///{folder}/ledger.db"
    for name in (folder, "studies/films-1", url):
        found = history.find(study("other", f"search.warm_start=['{name}']"), frozenset())
        assert [source.past.name for source in found] == ["films-1"]
        assert len(found[0].past.records) == 5
    assert history.find(study("other", f"search.warm_start=['{url}', films-1]"), frozenset({url, "films-1"})) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("odl", r"search.warm_start\[0\]: odl has no ledger .*studies has old"),
        ("/nowhere/at/all", "has no ledger"),
        ("sqlite:////nowhere/ledger.db", "names a file that is not there"),
        ("./studies/new", "is this study itself"),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(study: Any, name: str, message: str) -> None:
    played(study("old"))
    opened(study("new"))
    with pytest.raises(ConfigError, match=message):
        history.find(study("new", f"search.warm_start=['{name}']"), frozenset())


def test_a_study_does_not_start_from_itself(study: Any) -> None:
    with pytest.raises(ConfigError, match=r"search.warm_start\[0\]: new is this study itself"):
        study("new", "search.warm_start=[new]")


def test_a_database_that_is_not_there_is_a_missing_service_and_keeps_its_password(study: Any) -> None:
    config = study("new", "search.warm_start=['postgresql+psycopg2://me:secret@127.0.0.1:9/db']")
    with pytest.raises(ServiceError, match="can't be read as a ledger") as caught:
        history.find(config, frozenset())
    assert "secret" not in str(caught.value)


def test_a_space_with_nothing_in_common_is_refused(study: Any) -> None:
    played(study("old", "space={weight_decay: {low: 0.0, high: 0.1}, learning_rate: 3e-5}", "search.first=[]"))
    config = study("new", "search.warm_start=[old]", "space={warmup_ratio: {low: 0.0, high: 0.1}}")
    with pytest.raises(ConfigError, match="old has nothing in common with this space, which searches warmup_ratio"):
        start(config)


def test_a_study_may_change_how_it_searches_and_not_what_its_values_mean(study: Any) -> None:
    config = study("old")
    played(config, 1)
    free = (
        "space.learning_rate.high=2e-2",
        "constraints=['num_train_epochs <= 2']",
        "search.sampler=random",
        "search.scheduler=fifo",
        "search.first=[]",
        "search.warm_start=['x-*']",
        "confirm={top: 2, seeds: 2}",
        "budget.trials=9",
        "search.metric=accuracy",
        "data.seed=18",  # which rows these are is told by their digests
    )
    check_unchanged(config.folder, study("old", *free))
    for change, where in (
        ("seed=4", "seed"),
        ("task.max_length=8", "task"),
        ("data.test.rows=50", "data"),
        ("search.metric=f1", "search.metric"),
    ):
        with pytest.raises(ConfigError, match=rf"^{where}: it differs"):
            check_unchanged(config.folder, study("old", change))
    saved = json.loads((config.folder / "study.json").read_text())
    assert saved["facts"] == FACTS


def test_the_best_that_fits_is_trained_again_where_its_weights_are_gone(study: Any) -> None:
    played(study("old"))
    book = opened(study("old", "constraints=['num_train_epochs >= 1 or learning_rate > 0']"))
    for _ in range(2):  # the second time as after a restart
        history.train_again(book, "max")
    best = max((record for record in book.records() if record.value), key=lambda record: record.value or 0)
    record = book.ask()
    assert record is not None
    assert (record.params, record.origin) == (best.params, f"again:{best.number}")
    folder = book.folder / "checkpoints" / "trial-0005"
    folder.mkdir(parents=True)
    book.tell(record.number, TrialState.COMPLETE, value=0.0, checkpoint=folder)
    history.train_again(book, "max")
    assert book.queued == []


TAKEN: dict[str, Any] = {"learning_rate": 9e-3}


def test_what_changed_on_the_way_is_no_evidence_and_a_point_by_the_values_it_ended_with(study: Any) -> None:
    played(study("old"), 2)
    old = opened(study("old"))
    best = old.ask()
    assert best is not None
    step = Exploited(level=0.5, progress=0.5, source=0, params=TAKEN, schedule=((0.5, TAKEN),))
    old.told(best.model_copy(update={"exploits": (step,)}))
    metrics = {"epochs": 1.0, "steps": 4.0, "best_step": 4.0}
    old.tell(best.number, TrialState.COMPLETE, value=0.9, metrics=metrics)
    book = start(study("new", "search.warm_start=[old]"))
    assert all(trial.values != [0.9] for trial in book._trials())
    assert book.history[0].startswith(
        "warm start from old: 2 trials taken over as evidence, 1 left out (failed, trained"
    )
    book = start(study("other", "search.warm_start=[old]", "search.sampler=random"))
    asked = [book.ask() for _ in range(2)]
    assert asked[1] is not None
    assert asked[1].params == best.params | TAKEN


def test_a_source_without_a_finished_trial_is_asked_again(study: Any) -> None:
    played(study("old"), 0)
    config = study("new", "search.warm_start=[old]")
    book = opened(config)
    said = history.take_over(history.find(config, book.taken_over), book, config, FACTS)
    assert said == ("warm start from old: it has no complete trial yet; --resume looks again",)
    assert book.taken_over == frozenset()
    played(study("old"))
    assert start(config).history[0].startswith("warm start from old: 4 trials taken over")


def test_a_trial_beyond_a_limit_is_not_trained_again(study: Any) -> None:
    records = played(study("old"))
    limits = Limits({"epochs": 0.5}, {"epochs": "min"})
    best = max((record for record in records if record.value), key=lambda record: record.value or 0.0)
    book = opened(study("old"))
    record = book.ask()
    assert record is not None
    book.tell(record.number, TrialState.COMPLETE, value=0.0, metrics={"epochs": 0.1})
    history.train_again(book, "max", limits)
    assert book.queued == [record.params] != [best.params]
