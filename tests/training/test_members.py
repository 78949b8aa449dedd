"""Members of a population of tiny real BERTs: what is left behind, what is taken over, and that new values are live."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_trials import config_of, trial

from hpo.errors import DeadParameterError, TrialError
from hpo.records import Exploit, Report, TrialConfig
from hpo.schedulers.pbt import CHANGEABLE
from hpo.training import checkpoint, loop, population
from hpo.training.exchange import Exchange
from hpo.training.families import DROPOUTS
from hpo.trial import TrialObjective

VALUES = {
    "learning_rate": 1e-3,
    "weight_decay": 0.2,
    "hidden_dropout_prob": 0.35,
    "attention_probs_dropout_prob": 0.15,
    "classifier_dropout": 0.25,
}
OWN = {
    "weight_decay": 0.0,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "classifier_dropout": 0.1,
}


def member(folder: Path, number: int, **params: object) -> TrialConfig:
    return dataclasses.replace(
        trial(number, **{**OWN, **params}), rungs=(0.25, 0.5, 1.0), population=folder / "population"
    )


def reported(reports: Iterator[Report], progress: float) -> Report:
    """The first report at or beyond `progress`; the trial waits there for the answer."""
    return next(report for report in reports if report.progress >= progress)


@pytest.fixture
def trainings(objective: TrialObjective, monkeypatch: pytest.MonkeyPatch) -> list[loop.Training]:
    """Every training that the objective prepares, to look into while it waits."""
    prepared: list[loop.Training] = []
    prepare = TrialObjective._prepare

    def remember(self: TrialObjective, config: TrialConfig) -> loop.Training:
        prepared.append(prepare(self, config))
        return prepared[-1]

    monkeypatch.setattr(TrialObjective, "_prepare", remember)
    return prepared


def state(training: loop.Training) -> dict[str, torch.Tensor]:
    return population.State.of(training).flat()


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_what_the_scheduler_may_perturb_is_what_a_training_can_change() -> None:
    assert {*CHANGEABLE} == {"learning_rate", "weight_decay", *DROPOUTS} == {*population.CHANGEABLE}


def test_a_state_is_left_at_every_rung_before_it_is_reported(objective: TrialObjective, tmp_path: Path) -> None:
    config = member(tmp_path, 3)
    assert config.population is not None
    seen = []
    for report in objective(config):
        seen.append((report.progress, sorted(path.name for path in config.population.glob("*"))))
    first, second = "trial-0003-250000.state", "trial-0003-500000.state"
    assert [(round(progress, 3), files) for progress, files in seen] == [
        (0.25, [first]),
        (0.333, [first]),
        (0.5, [first, second]),
        (0.667, [first, second]),
        (1.0, [first, second]),
    ]


def test_an_exploit_takes_over_weights_and_optimiser_state_and_the_new_values_are_live(
    objective: TrialObjective, tmp_path: Path, trainings: list[loop.Training], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, other = (objective(member(tmp_path, number, learning_rate=rate)) for number, rate in ((0, 3e-3), (1, 1e-4)))
    reported(source, 0.5)
    before = reported(other, 0.5)
    training = trainings[1]
    expected = state(trainings[0])
    assert not same(state(training), expected)

    taken = []
    change = population.change

    def watched(training: loop.Training, values: Any) -> None:
        change(training, values)
        taken.append(state(training))

    monkeypatch.setattr(population, "change", watched)
    Exchange(tmp_path / "population").tell(1, 0.5, Exploit(0, VALUES))
    after = next(other)
    assert len(taken) == 1
    assert same(taken[0], expected)
    assert any(name.startswith("exp_avg_sq/") for name in expected)

    groups = training.optimizer.param_groups
    assert {group["initial_lr"] for group in groups} == {VALUES["learning_rate"]}
    assert {group["weight_decay"] for group in groups if group["decays"]} == {VALUES["weight_decay"]}
    assert {group["weight_decay"] for group in groups if not group["decays"]} == {0.0}
    factor = training.factor(after.progress * training.total_steps - 1)
    assert after.metrics["learning_rate"] == pytest.approx(VALUES["learning_rate"] * factor)
    held = {name: float(module.p) for name, module in training.model.named_modules() if hasattr(module, "p")}
    assert {held[name] for name in training.dropouts("hidden_dropout_prob")} == {0.35}
    assert {held[name] for name in training.dropouts("attention_probs_dropout_prob")} == {0.15}
    assert {held[name] for name in training.dropouts("classifier_dropout")} == {0.25}
    assert [before.metrics[name] for name in ("weights_from", "weight_decay", "peak_learning_rate")] == [1, 0.0, 1e-4]
    assert [after.metrics[name] for name in ("weights_from", "weight_decay", "peak_learning_rate")] == [0, 0.2, 1e-3]
    assert after.metrics["hidden_dropout_prob"] == 0.35


def test_a_member_that_is_told_its_own_state_and_values_trains_as_if_it_had_not_been(
    objective: TrialObjective, tmp_path: Path
) -> None:
    """Going on from a state loses nothing of it: the same trial, led through its own state, gives the same metrics."""
    alone = [report.metrics["loss"] for report in objective(member(tmp_path / "alone", 1))]
    led = objective(member(tmp_path, 1))
    losses = [reported(led, 0.25).metrics["loss"]]
    Exchange(tmp_path / "population").tell(1, 0.25, Exploit(1, {"learning_rate": 3e-3, "hidden_dropout_prob": 0.1}))
    losses += [report.metrics["loss"] for report in led]
    assert losses == alone


def test_the_checkpoint_has_the_values_that_its_weights_were_trained_with_at_last(
    objective: TrialObjective, tmp_path: Path
) -> None:
    source, other = objective(member(tmp_path, 0)), objective(member(tmp_path, 1, learning_rate=1e-6))
    reported(source, 0.5)
    reported(other, 0.5)
    Exchange(tmp_path / "population").tell(1, 0.5, Exploit(0, VALUES))
    *_, last = other
    assert last.checkpoint is not None
    manifest = checkpoint.verify(last.checkpoint)
    assert manifest.step > 36
    assert manifest.params == {**trial().params, **VALUES}
    assert config_of(last.checkpoint)["hidden_dropout_prob"] == 0.35

    behind = objective(member(tmp_path, 2))
    best = max([reported(behind, 0.25), *behind], key=lambda report: report.metrics["accuracy"])
    assert best.checkpoint is None or checkpoint.verify(best.checkpoint).params["weight_decay"] == 0.0


def test_frozen_layers_and_rates_by_layer_differ_between_source_and_follower(
    objective: TrialObjective, tmp_path: Path, trainings: list[loop.Training]
) -> None:
    source = objective(member(tmp_path, 0, layerwise_lr_decay=0.8, frozen_layers=1))
    other = objective(member(tmp_path, 1, layerwise_lr_decay=0.5))
    reported(source, 0.25)
    reported(other, 0.25)
    Exchange(tmp_path / "population").tell(1, 0.25, Exploit(0, {"learning_rate": 1e-3}))
    next(other)
    rates = sorted({group["initial_lr"] for group in trainings[1].optimizer.param_groups})
    assert rates == pytest.approx([1e-3 * 0.5**power for power in (3, 2, 1, 0)])
    steps = {float(held["step"]) for held in trainings[1].optimizer.state.values()}
    assert len(steps) == 2  # what the source kept frozen begins anew
    assert min(steps) < max(steps)


def test_a_schedule_is_followed_on_the_trial_s_own_weights(
    objective: TrialObjective, tmp_path: Path, trainings: list[loop.Training]
) -> None:
    plan = ((0.0, {"learning_rate": 2e-3}), (0.25, {"learning_rate": 1e-3, "hidden_dropout_prob": 0.3}), (0.6, VALUES))
    config = dataclasses.replace(trial(**OWN), rungs=(1.0,), schedule=plan)
    peaks = [(report.step, report.metrics["peak_learning_rate"]) for report in objective(config)]
    assert peaks == [(18, 2e-3), (24, 1e-3), (44, 1e-3), (48, 1e-3), (72, 1e-3)]
    assert trainings[0].hyper.weight_decay == 0.2
    plain = [report.metrics["loss"] for report in objective(dataclasses.replace(trial(**OWN), rungs=(0.25, 0.6, 1.0)))]
    assert plain != [report.metrics["loss"] for report in objective(config)]


def test_a_schedule_that_changes_nothing_changes_nothing(objective: TrialObjective) -> None:
    config = dataclasses.replace(trial(**OWN), rungs=(0.25, 1.0))
    again = dataclasses.replace(config, schedule=((0.0, dict(OWN)), (0.25, dict(OWN))))
    plain = [report.metrics["loss"] for report in objective(config)]
    assert [report.metrics["loss"] for report in objective(again)] == plain


def test_a_value_that_does_not_arrive_fails_the_trial_loudly(
    objective: TrialObjective, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(population, "set_values", lambda optimizer, hyper: None)
    reports = objective(member(tmp_path, 0))
    reported(reports, 0.25)
    Exchange(tmp_path / "population").tell(0, 0.25, Exploit(0, {"learning_rate": 1e-3}))
    with pytest.raises(DeadParameterError, match=r"learning_rate=0\.001"):
        next(reports)


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_state_that_cannot_be_read_fails_the_trial_that_asks_for_it(
    objective: TrialObjective, tmp_path: Path, damage: str
) -> None:
    reports = objective(member(tmp_path, 0))
    reported(reports, 0.25)
    exchange = Exchange(tmp_path / "population")
    path = exchange.state(0, 0.25)
    path.write_bytes(path.read_bytes()[:1000])
    if damage == "missing":
        path.unlink()
    exchange.tell(0, 0.25, Exploit(0, {"learning_rate": 1e-3}))
    with pytest.raises(TrialError, match="can't be read"):
        next(reports)


def test_a_full_disk_fails_the_trial_and_leaves_nothing(tmp_path: Path) -> None:
    exchange = Exchange(tmp_path / "population")
    with pytest.raises(TrialError, match="make room"), exchange.leaving(0, 0.25, 10**18) as path:
        path.write_text("never")

    def run_out_of_space() -> None:
        with exchange.leaving(0, 0.25, 0) as path:
            path.write_text("half")
            raise OSError(28, "No space left on device")

    with pytest.raises(TrialError, match="can't be written"):
        run_out_of_space()
    assert list(exchange.folder.iterdir()) == []


def test_instructions_come_back_as_they_were_given(tmp_path: Path) -> None:
    exchange = Exchange(tmp_path / "population")
    assert exchange.told(1, 1 / 3) is None
    exchange.tell(1, 1 / 3, Exploit(0, {"learning_rate": 1e-3}))
    assert exchange.told(1, 0.333333) == Exploit(0, {"learning_rate": 1e-3})
    assert json.loads(next(exchange.folder.glob("*.json")).read_text())["source"] == 0
    with exchange.leaving(2, 0.25, 0) as path:
        path.write_text("state")
    (exchange.folder / ".trial-0001-250000.state.9").write_text("half")
    exchange.clean()
    assert [path.name for path in exchange.folder.iterdir()] == ["trial-0002-250000.state"]
    exchange.keep([(2, 0.25)])
    assert exchange.states().keys() == {(2, 250000)}
    exchange.keep([])
    assert exchange.states() == {}
