"""A toy objective: a learning curve in closed form, in place of training. For trying out a search before paying for it.

The best learning rate is 1e-3; dropout costs a little; a trial's curve rises towards its final value.
"""

import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass

from hpo.errors import DivergedError
from hpo.records import Report, TrialConfig


@dataclass(frozen=True)
class ToyObjective:
    """reports: how many a trial makes. seconds: how long each takes. A learning rate above 0.5 diverges."""

    reports: int = 3
    seconds: float = 0.0
    metric: str = "accuracy"

    def __call__(self, config: TrialConfig) -> Iterator[Report]:
        rate = float(config.params.get("learning_rate", 1e-3))
        if rate > 0.5:
            raise DivergedError(f"learning_rate={rate} diverges")
        final = 0.9 - 0.05 * math.log10(rate / 1e-3) ** 2 - 0.1 * float(config.params.get("hidden_dropout_prob") or 0)
        for step in range(1, self.reports + 1):
            if self.seconds:
                time.sleep(self.seconds)
            progress = step / self.reports
            yield Report(
                step=step,
                progress=progress,
                metrics={self.metric: final * (1.0 - 0.5 * math.exp(-3.0 * progress)), "epoch": progress},
                done=step == self.reports,
            )


@dataclass(frozen=True)
class TimedToy:
    """As above, evaluated where a training would be, with `num_train_epochs` and what an epoch takes: nothing is slept.

    noise: standard deviation of a trial's final value, drawn by its seed of the row order. Short trainings lose some
    of their value; the best learning rate is 1e-4, and curves of higher ones rise faster.
    """

    epoch_seconds: float = 60.0
    noise: float = 0.005
    metric: str = "accuracy"

    def __call__(self, config: TrialConfig) -> Iterator[Report]:
        rate = float(config.params.get("learning_rate", 1e-4))
        epochs = float(config.params.get("num_train_epochs", 3))
        dropout = float(config.params.get("hidden_dropout_prob") or 0.0)
        distance = math.log10(rate / 1e-4)
        final = 0.92 - 0.06 * distance**2 - 0.1 * dropout**2 - 0.03 / epochs
        final += random.Random(config.seeds.order).gauss(0.0, self.noise)
        speed = 4.0 + min(max(distance, -2.0), 2.0)
        total = max(1, round(epochs * STEPS))
        parts = {*config.rungs, 1.0, *(epoch / epochs for epoch in range(1, math.ceil(epochs)))}
        for step in sorted({max(1, math.ceil(part * total - 1e-9)) for part in parts}):
            progress = step / total
            value = 0.5 + max(0.0, final - 0.5) * (1.0 - math.exp(-speed * progress)) / (1.0 - math.exp(-speed))
            spent = epochs * progress
            metrics = {self.metric: value, "epoch": spent, "seconds": spent * self.epoch_seconds}
            yield Report(step, progress, metrics, done=step == total)


STEPS = 100
"""Optimiser steps of a toy epoch."""
