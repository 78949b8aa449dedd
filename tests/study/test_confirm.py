"""The confirmation of a toy study: what runs, what is told, which weights stay, and that a kill changes nothing."""

import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hpo.errors import DivergedError
from hpo.ledger import Ledger
from hpo.ledger.past import read_study
from hpo.ledger.seeds import SeedLedger
from hpo.objectives import Limits
from hpo.records import (
    AnyEvent,
    Confirmed,
    Failure,
    FailureKind,
    Report,
    Seeds,
    TrialConfig,
    TrialConfirmed,
    TrialFinished,
    TrialRecord,
    TrialReported,
    TrialStarted,
    TrialState,
    Verdict,
)
from hpo.runners.inline import InlineRunner
from hpo.samplers import RandomConfig
from hpo.space import FloatRange, SearchSpace
from hpo.study.confirm import Confirmation, leaders
from hpo.study.steps import Ladder
from hpo.study.trials import remove_strangers

BYTES = 1000
BUG = Failure(kind=FailureKind.BUG, reason="nobody expected this")


@dataclass
class Noisy:
    """Trains nothing: the value is learning_rate and the noise of the seeds. With a folder, it writes checkpoints."""

    folder: Path | None = None
    noise: float = 0.01
    seen: list[tuple[int | None, int, Seeds]] = field(default_factory=list)

    def __call__(self, config: TrialConfig) -> Iterator[Report]:
        self.seen.append((config.of, config.replicate, config.seeds))
        value = float(config.params["learning_rate"]) + random.Random(config.seeds.init).gauss(0.0, self.noise)
        value += random.Random(f"{config.seeds.order} {config.of}").gauss(0.0, self.noise)
        for step in (1, 2, 3):
            own = value - (0.1, 0.0, 0.05)[step - 1]
            yield Report(
                step, step / 3, {"accuracy": own, "epoch": step / 3}, step == 3, self._write(config, value, step)
            )

    def _write(self, config: TrialConfig, value: float, step: int) -> Path | None:
        if self.folder is None or step < 3 or (config.keep_above is not None and value < config.keep_above):
            return None
        folder = self.folder / "checkpoints" / config.name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.safetensors").write_bytes(b"x" * BYTES)
        return folder


def trial(number: int, value: float, rate: float = 0.8, origin: str = "tpe") -> TrialRecord:
    return TrialRecord(
        number=number,
        state=TrialState.COMPLETE,
        origin=origin,
        params={"learning_rate": rate},
        value=value,
        seeds=Seeds(number, number),
    )


TRIALS = [trial(3, 0.86, 0.82), trial(7, 0.84, 0.815), trial(5, 0.84, 0.60), trial(0, 0.79, 0.79, origin="default")]


class Killed(BaseException):
    """The driver's process is gone."""


Make = Callable[..., Confirmation]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an empty ledger: making one takes seconds, copying it none."""
    folder = tmp_path_factory.mktemp("template")
    SeedLedger(folder, study="s", mode="max", seed=1)
    return folder


@pytest.fixture
def opened(template: Path) -> Callable[[Path], SeedLedger]:
    def ledger(folder: Path) -> SeedLedger:
        if not folder.exists() or not any(folder.glob("ledger.db*")):
            shutil.copytree(template, folder, dirs_exist_ok=True)
        return SeedLedger(folder, study="s", mode="max", seed=1)

    return ledger


@pytest.fixture
def make(tmp_path: Path, opened: Callable[[Path], SeedLedger]) -> Make:
    def confirmation(**options: Any) -> Confirmation:
        defaults: dict[str, Any] = {
            "ledger": options.get("ledger") or opened(options.pop("folder", tmp_path)),
            "trials": TRIALS,
            "seeds": 4,
            "confidence": 0.95,
            "metric": "accuracy",
            "mode": "max",
            "ladder": Ladder((1.0,)),
            "emit": lambda event: None,
            "baseline": 0,
        }
        return Confirmation(**{**defaults, **options})

    return confirmation


def ran(objective: Noisy) -> dict[int | None, int]:
    numbers = [number for number, _, _ in objective.seen]
    return {number: numbers.count(number) for number in numbers}


def test_the_leaders_and_the_default_are_retrained_and_the_clear_loser_less(make: Make) -> None:
    own, objective = make(), Noisy()
    InlineRunner(objective).run(own)
    assert ran(objective) == {3: 4, 7: 4, 5: 2, 0: 4}
    assert own.standing[0].number == 3
    assert [one.number for one in own.standing if one.is_out] == [5]
    assert own.standing[0].first == 0.86
    assert own.exhausted
    assert own.ask() is None


def test_all_candidates_get_the_same_seeds_which_are_no_trial_s_own(make: Make, tmp_path: Path) -> None:
    own, objective = make(), Noisy()
    InlineRunner(objective).run(own)
    by_replicate: dict[int, set[Seeds]] = {}
    for _, replicate, seeds in objective.seen:
        by_replicate.setdefault(replicate, set()).add(seeds)
    assert {replicate: len(seeds) for replicate, seeds in by_replicate.items()} == {1: 1, 2: 1, 3: 1, 4: 1}
    space = SearchSpace({"learning_rate": FloatRange(0.1, 1.0)})
    searched = Ledger(tmp_path, study="s", mode="max", space=space, sampler=RandomConfig(), seed=1)
    theirs = {searched.seeds(number, replicate) for number in range(20) for replicate in range(5)}
    assert len(set.union(*by_replicate.values()) - theirs) == 4


def test_seed_runs_are_no_trials_of_the_search(make: Make, tmp_path: Path) -> None:
    InlineRunner(Noisy()).run(make())
    space = SearchSpace({"learning_rate": FloatRange(0.1, 1.0)})
    assert Ledger(tmp_path, study="s", mode="max", space=space, sampler=RandomConfig(), seed=1).records() == []


def test_the_best_evaluation_of_a_run_counts_as_for_a_trial(make: Make) -> None:
    own = make(trials=TRIALS[:1], seeds=1)
    InlineRunner(Noisy(noise=0.0)).run(own)
    assert own.standing[0].values == (0.82,)


def test_events_name_the_trial_and_the_replicate_and_what_is_final(make: Make) -> None:
    events: list[AnyEvent] = []
    InlineRunner(Noisy()).run(make(emit=events.append, trials=TRIALS[2:], seeds=3))
    runs = [(event.number, event.replicate) for event in events if isinstance(event, TrialStarted)]
    assert runs == [(5, 1), (0, 1), (5, 2), (0, 2), (0, 3)]
    assert [(event.number, event.replicate) for event in events if isinstance(event, TrialFinished)] == runs
    assert len([event for event in events if isinstance(event, TrialReported)]) == 3 * len(runs)
    said = [event.confirmed for event in events if isinstance(event, TrialConfirmed)]
    assert [(one.number, one.is_out, len(one.values)) for one in said] == [(5, True, 2), (0, False, 3)]


@pytest.fixture(scope="module")
def standing(template: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Confirmed, ...]:
    """Of the confirmation that nothing disturbed."""
    ledger = SeedLedger(tmp_path_factory.mktemp("whole"), study="s", mode="max", seed=1)
    own = Confirmation(ledger, TRIALS, 4, 0.95, "accuracy", "max", Ladder((1.0,)), lambda event: None, 0)
    InlineRunner(Noisy()).run(own)
    return own.standing


@pytest.mark.parametrize("place", range(0, 74, 3))
def test_a_kill_at_any_report_repeats_no_finished_run_and_changes_no_word(
    make: Make, tmp_path: Path, place: int, standing: tuple[Confirmed, ...]
) -> None:
    events: list[AnyEvent] = []

    def emit(event: AnyEvent) -> None:
        if len(events) == place:
            raise Killed
        events.append(event)

    first, second = Noisy(), Noisy()
    try:
        InlineRunner(first).run(make(emit=emit))
    except Killed:
        again = make()
        InlineRunner(second).run(again)
        assert again.standing == standing
    finished = {(event.number, event.replicate) for event in events if isinstance(event, TrialFinished)}
    assert not finished & {(number, replicate) for number, replicate, _ in second.seen}
    assert len(first.seen) + len(second.seen) <= 14 + 1  # the one that was cut off comes twice
    assert len(make().ledger._entries()) == 14, "a run that begins again keeps its entry"


def test_what_was_told_is_not_told_again(make: Make) -> None:
    events: list[AnyEvent] = []
    InlineRunner(Noisy()).run(make(emit=events.append))
    said = {event.confirmed.number: event.confirmed for event in events if isinstance(event, TrialConfirmed)}
    assert set(said) == {3, 7, 5, 0}
    again: list[AnyEvent] = []
    assert make(emit=again.append, said=said).exhausted
    assert again == []


def test_runs_go_side_by_side_and_the_next_round_waits(make: Make) -> None:
    own, objective = make(trials=TRIALS[:2], seeds=3), Noisy()
    configs = [own.ask() for _ in range(5)]
    assert [(one.of, one.replicate) for one in configs if one] == [(3, 1), (7, 1), (3, 2), (7, 2)]
    assert not own.exhausted
    for config in reversed([one for one in configs if one]):
        for report in objective(config):
            own.report(config.number, report)
    later = own.ask()
    assert later is not None
    assert (later.of, later.replicate) == (3, 3)


def test_a_run_that_fails_or_has_no_finite_value_puts_its_trial_behind(make: Make) -> None:
    @dataclass
    class Fragile(Noisy):
        def __call__(self, config: TrialConfig) -> Iterator[Report]:
            if (config.of, config.replicate) == (3, 1):
                raise DivergedError("loss is nan")
            for report in super().__call__(config):
                bad = (config.of, config.replicate) == (7, 1)
                yield Report(
                    report.step, report.progress, {"accuracy": float("nan")} if bad else report.metrics, report.done
                )

    events: list[AnyEvent] = []
    own, objective = make(emit=events.append), Fragile()
    InlineRunner(objective).run(own)
    assert own.standing[0].number == 0
    failed = [event for event in events if isinstance(event, TrialFinished) and event.state is TrialState.FAILED]
    assert [(event.number, event.reason) for event in failed] == [
        (3, "DivergedError: loss is nan"),
        (7, "its accuracy is nan at 33% of training"),
    ]
    assert [one.number for one in own.standing] == [0, 5]


def test_a_run_that_reports_no_value_fails_and_the_others_go_on(make: Make) -> None:
    own = make(trials=TRIALS[:2], seeds=1)
    config = own.ask()
    assert config is not None
    assert own.report(config.number, Report(1, 0.5, {"loss": 0.1})) is Verdict.STOP
    InlineRunner(Noisy()).run(own)
    assert [one.number for one in own.standing] == [7]
    assert own.ledger.finished()[3, 1].reason == "it reported no accuracy at 50% of training"


@pytest.mark.parametrize("kind", [FailureKind.LOST, FailureKind.SILENT, FailureKind.OUT_OF_MEMORY])
def test_a_run_that_its_machine_ended_is_no_mark_against_its_trial_and_begins_anew(
    make: Make, kind: FailureKind, standing: tuple[Confirmed, ...]
) -> None:
    events: list[AnyEvent] = []
    own = make(emit=events.append)
    while not own.stopping:
        config = own.ask()
        assert config is not None
        assert (config.of, config.replicate) == (3, 1)
        own.failed(config.number, Failure(kind=kind, reason="the machine is at fault"))
    assert "trial 3 over fresh seed 1 was lost" in (own.trouble or "")
    assert "go on with --resume" in (own.trouble or "")
    assert not own.ledger.finished()
    assert not any(isinstance(event, TrialFinished) for event in events)
    again = make()
    assert [(left.setbacks, left.micro_batch) for left in again.ledger.unfinished()] == [((), None)]
    InlineRunner(Noisy()).run(again)
    assert again.standing == standing
    assert len(again.ledger._entries()) == 14


def test_a_bug_is_a_mark_against_its_trial(make: Make) -> None:
    own = make(trials=TRIALS[:2], seeds=1)
    config = own.ask()
    assert config is not None
    own.failed(config.number, BUG)
    assert not own.stopping
    InlineRunner(Noisy()).run(own)
    assert [one.number for one in own.standing] == [7]


def test_no_run_that_nobody_needs_any_more_is_left_running(make: Make, tmp_path: Path) -> None:
    """Stopped in the middle of a run, the search went on and found other leaders; then, later, the same ones again."""
    gone: list[str] = []
    left = make(trials=TRIALS[:1]).ask()
    assert left is not None
    own = make(trials=TRIALS[1:2], seeds=2, forget=gone.append)
    assert gone == []
    InlineRunner(Noisy()).run(own)
    assert own.ledger.unfinished() == []
    assert gone[-1] == "trial-0003-seed-1"
    assert set(own.ledger.finished()) == {(7, 1), (7, 2)}
    space = SearchSpace({"learning_rate": FloatRange(0.1, 1.0)})
    Ledger(tmp_path, study="s", mode="max", space=space, sampler=RandomConfig(), seed=1)
    read = read_study(tmp_path, "s", "max")
    assert [(run.number, run.replicate) for run in read.runs] == [(7, 1), (7, 2)]
    assert not read.running_runs
    objective = Noisy()
    InlineRunner(objective).run(make(trials=TRIALS[:2], seeds=2))
    assert ran(objective) == {3: 2}


def test_reports_after_the_end_change_nothing(make: Make) -> None:
    own = make(trials=TRIALS[:1], seeds=1)
    config = own.ask()
    assert config is not None
    reports = list(Noisy()(config))
    for report in reports:
        verdict = own.report(config.number, report)
    assert verdict is Verdict.STOP
    before = own.standing
    assert own.report(config.number, reports[-1]) is Verdict.STOP
    own.failed(config.number, BUG)
    assert own.standing == before


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def test_only_the_winner_s_best_weights_and_the_default_s_stay(make: Make, tmp_path: Path) -> None:
    own = make()
    InlineRunner(Noisy(tmp_path)).run(own)
    promoted = [own.promoted(number) for number in (own.standing[0].number, 0)]
    assert [one.value == max(own.standing[place].values) for place, one in zip((0, -2), promoted, strict=True) if one]
    assert names(tmp_path) == sorted(f"trial-{one.number:04d}-seed-{one.replicate}" for one in promoted if one)
    remove_strangers(tmp_path / "checkpoints", own.ledger.finished().values())
    assert len(names(tmp_path)) == 2


def test_a_loser_s_weights_go_as_soon_as_it_is_out(make: Make, tmp_path: Path) -> None:
    own, objective = make(), Noisy(tmp_path)
    for _ in range(9):
        config = own.ask()
        assert config is not None
        for report in objective(config):
            own.report(config.number, report)
    assert [name[:10] for name in names(tmp_path)] == ["trial-0000", "trial-0003", "trial-0007"]


def test_a_disk_that_is_short_costs_a_run_made_again_and_no_other_value(make: Make, tmp_path: Path) -> None:
    searched = tmp_path / "checkpoints" / "trial-0003"
    searched.mkdir(parents=True)
    (searched / "model.safetensors").write_bytes(b"x" * BYTES)
    best = TRIALS[0].model_copy(update={"checkpoint": searched})
    roomy = make(folder=tmp_path / "roomy")
    InlineRunner(Noisy(tmp_path / "roomy")).run(roomy)
    objective = Noisy(tmp_path)
    own = make(keep_bytes=BYTES, searched=[best])
    InlineRunner(objective).run(own)
    assert own.standing == roomy.standing
    assert names(tmp_path) == names(tmp_path / "roomy")  # the winner's and the default's, whatever the room
    assert len(objective.seen) >= 14


def test_more_seeds_and_other_leaders_go_on_from_what_is_there(make: Make, tmp_path: Path) -> None:
    InlineRunner(Noisy()).run(make(trials=TRIALS[1:], seeds=3))
    objective = Noisy()
    own = make(seeds=4)
    InlineRunner(objective).run(own)
    assert ran(objective) == {3: 4, 7: 1, 0: 1}
    assert len(own.standing[0].values) == 4


def test_leaders_are_the_best_assignments_once_each_and_the_default() -> None:
    ordered = [trial(4, 0.9, 0.5), trial(6, 0.9, 0.5), trial(1, 0.8, 0.4), trial(2, 0.7, 0.3)]
    default = trial(0, 0.6, 0.2, origin="default")
    assert [own.number for own in leaders([*ordered, default], 2, 0)] == [4, 1, 0]
    assert [own.number for own in leaders([default, *ordered], 2, 0)] == [0, 4]
    assert [own.number for own in leaders(ordered, 9, None)] == [4, 1, 2]
    same = trial(9, 0.6, 0.5, origin="default")
    assert [own.number for own in leaders([*ordered, same], 1, 9)] == [9]


def test_trials_beyond_a_limit_are_no_leaders_unless_all_are() -> None:
    limits = Limits({"parameters": 100.0}, {"parameters": "min"})
    small, large = ({"metrics": {"parameters": size}} for size in (50.0, 200.0))
    ordered = [trial(1, 0.8, 0.4).model_copy(update=small), trial(4, 0.9, 0.5).model_copy(update=large)]
    default = trial(0, 0.6, 0.2, origin="default").model_copy(update=large)
    assert [own.number for own in leaders([*ordered, default], 2, 0, limits)] == [1, 0]
    assert [own.number for own in leaders([ordered[1], default], 2, 0, limits)] == [4, 0]
