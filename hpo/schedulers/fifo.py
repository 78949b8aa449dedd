"""No early stopping."""

from typing import ClassVar, Literal

from hpo.records import Verdict
from hpo.schedulers.base import Resource, Scheduler, SchedulerConfig
from hpo.space import Params, SearchSpace


class FifoConfig(SchedulerConfig):
    """Every trial runs to its end."""

    type: Literal["fifo"] = "fifo"
    resource: ClassVar[Resource] = "progress"

    def fractions(self) -> tuple[float, ...]:
        return (1.0,)

    def build(self, space: SearchSpace, seed: int) -> Scheduler:
        return Fifo()


class Fifo:
    def start(self, number: int, params: Params) -> None:
        """Nothing to remember."""

    def report(self, number: int, level: float, value: float) -> Verdict:
        return Verdict.CONTINUE

    def recall(self, number: int, rung: float, value: float) -> None:
        """Nothing to remember."""
