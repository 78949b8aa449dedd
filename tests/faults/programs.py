"""What is run under faults: the commands of the product, with trials where the injection wants them.

`run` is `python -m hpo.run` with another runner where it is asked for, and with trials that fail in a chosen way. Every
trial writes down what it trains, so that what a fault costs is counted.
"""

import argparse
import os
import secrets
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from drivers import MARK, TRAINED

from hpo import config
from hpo.encoded import Array, Encoded
from hpo.errors import HpoError
from hpo.records import Objective, Report, TrialConfig
from hpo.runners import Resources, Runner
from hpo.runners.inline import InlineRunner
from hpo.runners.ray import on_ray
from hpo.runners.watch import ShowsLife
from hpo.trial import TrialObjective


def main(program: str, arguments: list[str], runner: str, trial: dict[str, Any] | None) -> int:
    if program == "run":
        return run(arguments, runner, Fault(**trial) if trial else None)
    if program == "verify":
        from hpo import verify

        return verify.main(arguments)
    raise ValueError(program)


def run(arguments: list[str], runner: str, fault: "Fault | None") -> int:
    """As `hpo.run.main`, without its help and its plan."""
    from hpo.study import driver

    parser = argparse.ArgumentParser()
    parser.add_argument("--space")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--address")
    given = parser.parse_args(arguments)

    def made(objective: Objective, resources: Resources, address: str | None) -> Runner:
        if isinstance(objective, TrialObjective):
            kept = {name: getattr(objective, name) for name in objective.__dataclass_fields__}
            objective = Counted(**kept, log=Path(os.environ[MARK]) / TRAINED)
        trials = Faulty(objective, fault) if fault else objective
        return InlineRunner(trials) if runner == "inline" else on_ray(trials, resources, address)

    try:
        loaded = config.load(Path(given.space), given.set)
        return driver.run(loaded, resume=given.resume, address=given.address, runner=made)
    except HpoError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


@dataclass(frozen=True)
class Counted(TrialObjective):
    """Appends a line to `log` for every batch that is trained: trial, beginning of it, step, rows, and the rows of the
    whole trial."""

    log: Path = Path()

    def _prepare(self, config: TrialConfig) -> Any:
        training = super()._prepare(config)
        whole, beginning = round(training.rows * training.hyper.num_train_epochs), secrets.token_hex(4)
        step: int | None = None

        def begun(number: int) -> None:
            nonlocal step
            step = number

        def counted(encoded: Encoded, rows: Array) -> Mapping[str, Array]:
            if step is not None and encoded is training.train:
                with self.log.open("a") as log:
                    log.write(f"{config.name} {beginning} {step} {len(rows)} {whole}\n")
            return collate(encoded, rows)

        collate, training.collate, training.before_step = training.collate, counted, begun
        return training


@dataclass(frozen=True)
class Fault:
    """What goes wrong in trial `number`, after its report number `after`. once: a file that is made when it has."""

    kind: str
    number: int = 1
    after: int = 1
    once: str = ""
    seconds: float = 0.0

    def strikes(self, number: int, reports: int) -> bool:
        if (number, reports) != (self.number, self.after):
            return False
        if self.once:
            try:
                os.close(os.open(self.once, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return False
        return True


@dataclass(frozen=True)
class Faulty:
    """The trials of `objective`, one of which has a fault. pace: seconds that each report takes longer."""

    objective: Objective
    fault: Fault

    def __call__(self, config: TrialConfig) -> Iterator[Report]:
        for count, report in enumerate(self.objective(config), 1):
            if self.fault.kind == "slow":
                time.sleep(self.fault.seconds)
            elif self.fault.strikes(config.number, count):
                yield from self._strike(report)
                continue
            yield report

    def pulse(self, config: TrialConfig) -> Path | None:
        """As the trials have it: one that hangs shows no life."""
        return self.objective.pulse(config) if isinstance(self.objective, ShowsLife) else None

    def _strike(self, report: Report) -> Iterator[Report]:
        match self.fault.kind:
            case "nan" | "inf":
                yield replace(report, metrics={**report.metrics, "accuracy": float(self.fault.kind)})
            case "missing":
                yield replace(report, metrics={"loss": report.metrics["loss"]})
            case "memory":
                raise MemoryError("no memory is left")
            case "eat":
                eaten = []
                for _ in range(int(self.fault.seconds * 20)):  # 100 MB each, until somebody kills it
                    eaten.append(bytearray(os.urandom(1)) * 100_000_000)
                    time.sleep(0.05)
                yield report
            case "cuda":
                import torch

                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            case "raise":
                raise RuntimeError("something that nobody thought of")
            case "kill":
                os.kill(os.getpid(), 9)
            case "hang":
                time.sleep(self.fault.seconds)
                yield report
