"""What every sampler must do: stay inside of the space, learn, and propose from seeds and ledger alone."""

import itertools
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import optuna
import pytest
import sqlalchemy

from hpo.ledger import Ledger
from hpo.records import TrialRecord, TrialState
from hpo.samplers import (
    CmaesConfig,
    GpConfig,
    GridConfig,
    Nsga2Config,
    QmcConfig,
    RandomConfig,
    Sampler,
    SamplerConfig,
    TpeConfig,
)
from hpo.space import Choice, Condition, Fixed, FloatRange, IntRange, Params, SearchSpace

PLAIN = SearchSpace(
    {
        "learning_rate": FloatRange(1e-5, 1e-1, log=True),
        "per_device_train_batch_size": Choice((16, 32)),
        "num_train_epochs": IntRange(2, 9),
        "warmup_ratio": FloatRange(0.0, 0.2, step=0.05),
        "weight_decay": Fixed(0.01),
    }
)
MIXED = SearchSpace(
    {
        **PLAIN.parameters,
        "loss": Choice(("cross_entropy", "focal")),
        "focal_gamma": FloatRange(1.0, 4.0, when=(Condition("loss", ("focal",)),)),
    }
)
FINITE = SearchSpace(
    {
        "num_train_epochs": IntRange(1, 3),
        "warmup_ratio": FloatRange(0.0, 0.3, step=0.1),
        "loss": Choice(("cross_entropy", "focal")),
        "focal_gamma": Choice((1.0, 2.0), when=(Condition("loss", ("focal",)),)),
    }
)
SMALL = {"n_startup_trials": 3, "population_size": 4}
"""So that models are used soon."""


def small(config: type[SamplerConfig], **options: Any) -> SamplerConfig:
    return config(**{name: value for name, value in SMALL.items() if name in config.model_fields}, **options)


SAMPLERS = [small(config) for config in get_args(get_args(Sampler)[0])]
VARIANTS = [
    *SAMPLERS,
    small(TpeConfig, multivariate=False),
    small(TpeConfig, constant_liar=False),
    small(GpConfig, deterministic=True),
    QmcConfig(sequence="halton"),
    QmcConfig(scramble=False),
    GridConfig(order="file"),
    *(small(CmaesConfig, variant=variant) for variant in ("separable", "margin", "lr_adapt")),
    small(CmaesConfig, pruned="ignore"),
    *(small(Nsga2Config, crossover=crossover) for crossover in ("blx_alpha", "sbx", "vsbx", "spx", "undx")),
]


def name(config: SamplerConfig) -> str:
    return " ".join(str(value) for value in config.model_dump(exclude_defaults=False).values())


each_sampler = pytest.mark.parametrize("config", SAMPLERS, ids=name)
each_variant = pytest.mark.parametrize("config", VARIANTS, ids=name)


def long(config: SamplerConfig, trials: int = 14) -> int:
    """So many trials, or half of them where each costs half a second: then too, most are proposed by the model."""
    return trials // 2 if isinstance(config, GpConfig) else trials


def space_for(config: SamplerConfig) -> SearchSpace:
    match config:
        case GridConfig():
            return FINITE
        case CmaesConfig():
            return PLAIN
        case _:
            return MIXED


def ledger(folder: Path | None, config: SamplerConfig, space: SearchSpace | None = None, seed: int = 1) -> Ledger:
    """folder: None keeps it in memory, at a tenth of the cost: where nothing is opened again."""
    return Ledger(folder, study="s", mode="max", space=space or space_for(config), sampler=config, seed=seed)  # type: ignore[arg-type]


def score(params: Params) -> float:
    rate = float(params.get("learning_rate", 1e-3))
    return -((rate**0.1 - 0.5) ** 2) - abs(float(params["num_train_epochs"]) - 5.0) / 100


def finish(book: Ledger, record: TrialRecord) -> None:
    """Every third trial is pruned, every fifth fails."""
    number = record.number
    book.report(number, 0.5, score(record.params))
    state = TrialState.PRUNED if number % 3 == 1 else TrialState.FAILED if number % 5 == 4 else TrialState.COMPLETE
    book.tell(number, state, value=score(record.params), metrics={"epochs": 1.0})


def play(book: Ledger, trials: int) -> list[Params]:
    """Ask and tell, one at a time."""
    asked = []
    for _ in range(trials):
        record = book.ask()
        assert record is not None
        asked.append(record.params)
        finish(book, record)
    return asked


@each_variant
def test_a_study_that_is_opened_anew_for_every_trial_proposes_what_one_that_stays_open_does(
    config: SamplerConfig, tmp_path: Path
) -> None:
    trials = long(config)
    whole = play(ledger(None, config), trials)
    parts = [params for _ in range(trials) for params in play(ledger(tmp_path / "parts", config), 1)]
    assert parts == whole
    assert all(space_for(config).contains(params) for params in whole)
    assert len({str(params) for params in whole}) == trials


@each_sampler
def test_another_seed_gives_other_proposals(config: SamplerConfig) -> None:
    one, other = (play(ledger(None, config, seed=seed), 3) for seed in (1, 2))
    assert one != other


@each_sampler
def test_a_study_that_is_cut_off_at_any_write_of_a_proposal_goes_on_as_if_it_had_not_been(
    config: SamplerConfig, tmp_path: Path
) -> None:
    whole = ledger(tmp_path / "whole", config)
    play(whole, 9)
    shutil.copytree(tmp_path / "whole", tmp_path / "start")
    expected = [whole.ask()]
    for record in expected:
        assert record is not None
        finish(whole, record)
    expected.append(whole.ask())
    for write in itertools.count(1):
        folder = tmp_path / f"cut-{write}"
        shutil.copytree(tmp_path / "start", folder)
        with cut_off(ledger(folder, config), write) as cut:
            cut.ask()
        if write > cut.writes:
            break
        again = ledger(folder, config)
        found = [again.ask()]
        assert found[0] is not None
        finish(again, found[0])
        found.append(again.ask())
        assert [one and (one.number, one.params) for one in found] == [
            one and (one.number, one.params) for one in expected
        ], f"cut off at write {write}"
    assert write > 4


class CutOff:
    """A ledger whose process is interrupted just before it writes for the nth time."""

    def __init__(self, book: Ledger, at: int) -> None:
        self.writes, self._book, self._at = 0, book, at
        self._engine = book._study._storage._backend.engine
        sqlalchemy.event.listen(self._engine, "before_cursor_execute", self._count)

    def _count(self, connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith(("INSERT", "UPDATE")):
            self.writes += 1
            if self.writes == self._at:
                raise KeyboardInterrupt

    def ask(self) -> TrialRecord | None:
        return self._book.ask()

    def close(self) -> None:
        sqlalchemy.event.remove(self._engine, "before_cursor_execute", self._count)
        self._engine.dispose()


@contextmanager
def cut_off(book: Ledger, at: int) -> Iterator[CutOff]:
    cut = CutOff(book, at)
    try:
        yield cut
    except KeyboardInterrupt:
        pass
    finally:
        cut.close()


@each_sampler
def test_trials_that_run_at_the_same_time_differ_and_come_again_the_same(config: SamplerConfig, tmp_path: Path) -> None:
    def asked(folder: Path | None) -> list[Params]:
        book = ledger(folder, config)
        play(book, long(config, 8))
        records = [record for _ in range(4) if (record := book.ask()) is not None]
        for record in reversed(records):
            finish(book, record)
        return [record.params for record in records] + play(book, 2)

    first = asked(tmp_path)
    assert len({str(params) for params in first}) == 6
    assert asked(None) == first


@pytest.mark.parametrize(
    ("config", "seed"),
    [(config, seed) for config in SAMPLERS for seed in (1, 2)[: long(config, 2)]],
    ids=lambda value: name(value) if isinstance(value, SamplerConfig) else None,
)
def test_a_finite_space_is_tried_once_each_and_then_exhausted(config: SamplerConfig, seed: int, tmp_path: Path) -> None:
    warmup = FloatRange(0.0, 0.3, step=0.1)
    frozen = IntRange(0, 1) if isinstance(config, CmaesConfig) else IntRange(0, 1, when=(Condition("bf16", (True,)),))
    space = SearchSpace(
        {"num_train_epochs": Fixed(2), "warmup_ratio": warmup, "bf16": Choice((True, False)), "frozen_layers": frozen}
    )
    book = ledger(tmp_path, config, space, seed)
    book.enqueue([("first", next(space.grid()))])
    seen = []
    while (record := book.ask()) is not None:
        seen.append(record.params)
        finish(book, record)
        if len(seen) == 5:
            book = ledger(tmp_path, config, space, seed)
    assert sorted(map(str, seen)) == sorted(map(str, space.grid()))
    assert [record.params for record in book.records()] == seen
    assert ledger(tmp_path, config, space, seed).ask() is None


@each_sampler
def test_a_space_that_was_changed_is_proposed_from_and_the_old_trials_do_no_harm(
    config: SamplerConfig, tmp_path: Path
) -> None:
    space = space_for(config)
    play(ledger(tmp_path, config), long(config, 12))
    changed = SearchSpace(
        {**space.parameters, "num_train_epochs": IntRange(1, 12), "max_grad_norm": Choice((0.5, 1.0))}
    )
    assert all(changed.contains(params) for params in play(ledger(tmp_path, config, changed), long(config, 12)))


@pytest.mark.parametrize(
    "config", [small(TpeConfig), small(GpConfig), small(CmaesConfig), small(Nsga2Config)], ids=name
)
def test_those_that_learn_get_nearer_to_the_best_than_random_draws(config: SamplerConfig) -> None:
    def late(own: SamplerConfig) -> float:
        scores = sorted(score(params) for params in play(ledger(None, own, PLAIN), 30)[-14:])
        return scores[7]

    assert late(config) > late(RandomConfig())


def test_a_grid_wastes_no_trial_and_lists_conditional_points_once() -> None:
    points = list(FINITE.grid())
    book = ledger(None, GridConfig())
    book.enqueue([("default", points[3]), ("first", points[30])])
    asked = play(book, len(points))
    assert asked[:2] == [points[3], points[30]]
    assert sorted(map(str, asked)) == sorted(map(str, points))
    assert len(book._study.get_trials()) == len(points) == 36


def test_a_grid_in_the_order_of_the_file_is_the_grid_of_the_space() -> None:
    asked = play(ledger(None, GridConfig(order="file")), 36)
    assert asked == list(FINITE.grid())


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("sequence", ["sobol", "halton"])
def test_the_sequence_is_that_of_optuna_and_queued_points_take_no_place_in_it(sequence: str) -> None:
    theirs = optuna.create_study(sampler=optuna.samplers.QMCSampler(qmc_type=sequence, scramble=True, seed=1))

    def objective(trial: optuna.Trial) -> float:
        trial.suggest_float("learning_rate", 1e-5, 1e-1, log=True)
        trial.suggest_categorical("per_device_train_batch_size", (16, 32))
        trial.suggest_int("num_train_epochs", 2, 9)
        trial.suggest_float("warmup_ratio", 0.0, 0.2, step=0.05)
        return 0.0

    theirs.optimize(objective, n_trials=9)  # the first one is random
    book = ledger(None, QmcConfig(sequence=sequence), PLAIN)
    queued = PLAIN.project(dict.fromkeys(PLAIN.varying, 1))
    book.enqueue([("default", queued)])
    ours = play(book, 9)
    assert ours[0] == queued
    assert ours[1:] == [trial.params | {"weight_decay": 0.01} for trial in theirs.trials[1:]]


def test_several_objectives_are_searched_for_with_trials_pruned_on_the_way() -> None:
    for config in SAMPLERS:
        if isinstance(config, CmaesConfig):
            continue
        book = Ledger(
            None,
            study="s",
            mode="max",
            space=space_for(config),
            sampler=config,  # type: ignore[arg-type]
            seed=1,
            others={"seconds": "min"},
        )
        for _ in range(long(config)):
            record = book.ask()
            assert record is not None
            assert space_for(config).contains(record.params)
            book.report(record.number, 0.5, 0.1)
            state = TrialState.PRUNED if record.number % 3 == 1 else TrialState.COMPLETE
            book.tell(
                record.number,
                state,
                value=score(record.params),
                metrics={"seconds": float(record.params["num_train_epochs"])},
            )
