"""A toy objective: a learning curve in closed form, in place of training. For trying out a search before paying for it.

The best learning rate is 1e-3; dropout costs a little; a trial's curve rises towards its final value.
"""

import math
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
