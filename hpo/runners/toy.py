"""Toy objectives: a learning curve in closed form, in place of training. For trying out a search before paying for it.

A trial's curve rises towards a final value; where its params change on the way, it goes on from what it has learnt as
steeply as the new params' curve does there. So members of a population and schedules of values can be tried, too.
"""

import json
import math
import random
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from functools import partial

from hpo.errors import DivergedError, TrialError
from hpo.records import Report, TrialConfig
from hpo.space import Params
from hpo.training.exchange import Exchange


@dataclass(frozen=True)
class ToyObjective:
    """reports: how many a trial makes. seconds: how long each takes. The best learning rate is 1e-3, above 0.5 it
    diverges; dropout costs a little."""

    reports: int = 3
    seconds: float = 0.0
    metric: str = "accuracy"

    def __call__(self, config: TrialConfig) -> Generator[Report, None, None]:
        learnt = Learnt(config, self._curve)
        for step in range(1, self.reports + 1):
            if self.seconds:
                time.sleep(self.seconds)
            progress = step / self.reports
            metrics = {self.metric: learnt.value(progress), "epoch": progress} | learnt.metrics
            learnt.leave(progress)
            yield Report(step=step, progress=progress, metrics=metrics, done=step == self.reports)
            learnt.go_on(progress)

    def _curve(self, params: Params, progress: float) -> float:
        rate = float(params.get("learning_rate", 1e-3))
        if rate > 0.5:
            raise DivergedError(f"learning_rate={rate} diverges")
        final = 0.9 - 0.05 * math.log10(rate / 1e-3) ** 2 - 0.1 * float(params.get("hidden_dropout_prob") or 0)
        return final * (1.0 - 0.5 * math.exp(-3.0 * progress))


@dataclass
class Learnt:
    """What a toy trial has learnt so far. curve: (params, progress) -> the value if these params had always been there.

    As `training.population` has it for a real one: a member of a population leaves its state at every rung, and does
    what it is told there; a trial alone follows its schedule.
    """

    config: TrialConfig
    curve: Callable[[Params, float], float]
    params: Params = field(init=False)
    source: int = field(init=False)
    _base: float = 0.0
    _since: float | None = None
    _left: set[float] = field(default_factory=set)
    _turned: set[float] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.params, self.source = self.config.first_params, self.config.number

    @property
    def metrics(self) -> dict[str, float]:
        return {} if self.config.population is None else {"weights_from": float(self.source)}

    def value(self, progress: float) -> float:
        before = 0.0 if self._since is None else self.curve(self.params, self._since)
        return self._base + self.curve(self.params, progress) - before

    def leave(self, progress: float) -> None:
        """Before the report: the state, at every rung that was reached since the last one."""
        for level in self._reached(progress):
            if self.config.population is not None:
                state = json.dumps({"value": self.value(progress)})
                with Exchange(self.config.population).leaving(self.config.number, level, len(state)) as path:
                    path.write_text(state, "utf-8")

    def go_on(self, progress: float) -> None:
        """After the report: with other values where there are any."""
        levels = self._reached(progress)
        self._left |= {*levels}
        for point, values in self.config.schedule:
            if 0.0 < point <= progress + 1e-9 and point not in self._turned:
                self._turned.add(point)
                self._turn(progress, self.value(progress), values)
        if self.config.population is None or not levels:
            return
        exchange = Exchange(self.config.population)
        if told := exchange.told(self.config.number, levels[-1]):
            try:
                state = json.loads(exchange.state(told.source, levels[-1]).read_text("utf-8"))
            except OSError as error:
                raise TrialError(f"the state of trial {told.source} can't be read ({error})") from error
            self.source = told.source
            self._turn(progress, float(state["value"]), told.params)

    def _turn(self, progress: float, value: float, params: Params) -> None:
        self._base, self._since, self.params = value, progress, {**self.params, **params}

    def _reached(self, progress: float) -> list[float]:
        """Rungs that were newly reached, rising; the end is none."""
        return [rung for rung in self.config.rungs if rung <= progress + 1e-9 and rung < 1.0 and rung not in self._left]


@dataclass(frozen=True)
class TimedToy:
    """As above, evaluated where a training would be, with `num_train_epochs` and what an epoch takes: nothing is slept.

    noise: standard deviation of a trial's final value, drawn by its seed of the row order. Short trainings lose some
    of their value; the best learning rate is 1e-4, and curves of higher ones rise faster.
    """

    epoch_seconds: float = 60.0
    noise: float = 0.005
    metric: str = "accuracy"

    def __call__(self, config: TrialConfig) -> Generator[Report, None, None]:
        epochs = float(config.params.get("num_train_epochs", 3))
        luck = random.Random(config.seeds.order).gauss(0.0, self.noise)
        learnt = Learnt(config, partial(_timed_curve, luck))
        total = max(1, round(epochs * STEPS))
        parts = {*config.rungs, 1.0, *(epoch / epochs for epoch in range(1, math.ceil(epochs)))}
        for step in sorted({max(1, math.ceil(part * total - 1e-9)) for part in parts}):
            progress = step / total
            spent = epochs * progress
            metrics = {self.metric: learnt.value(progress), "epoch": spent, "seconds": spent * self.epoch_seconds}
            learnt.leave(progress)
            yield Report(step, progress, metrics | learnt.metrics, done=step == total)
            learnt.go_on(progress)


def _timed_curve(luck: float, params: Params, progress: float) -> float:
    epochs = float(params.get("num_train_epochs", 3))
    distance = math.log10(float(params.get("learning_rate", 1e-4)) / 1e-4)
    dropout = float(params.get("hidden_dropout_prob") or 0.0)
    final = 0.92 - 0.06 * distance**2 - 0.1 * dropout**2 - 0.03 / epochs + luck
    speed = 4.0 + min(max(distance, -2.0), 2.0)
    return 0.5 + max(0.0, final - 0.5) * (1.0 - math.exp(-speed * progress)) / (1.0 - math.exp(-speed))


STEPS = 100
"""Optimiser steps of a toy epoch."""
