"""Training speed on a GPU: BERT-base on SST-2, ours against Trainer in bfloat16, in one run of some minutes.

    HPO_DATA=data python -m benchmarks.gpu --json gpu.json

Owns the plan: what is measured, in which order, until when. Every arm lives in a process of its own and
is asked in turn, so that noise meets all alike and a crash costs one arm; all that is known so far is in the JSON file
after every answer. Without a GPU `--tiny` goes the whole way with a model of two layers, in seconds.
"""

import argparse
import dataclasses
import json
import os
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.gpu_arms import Setup
from benchmarks.gpu_rows import vocabulary_size, write_rows
from benchmarks.gpu_table import describe, table
from benchmarks.gpu_worker import ARMS, Local, Remote

BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
Channel = Local | Remote


@dataclasses.dataclass(frozen=True)
class Plan:
    """How much is measured. steps, seconds: the end of one measurement, whichever comes first."""

    arms: tuple[str, ...]
    batches: tuple[int, ...]
    minutes: float
    tiny: bool
    steps: int = 2_000
    seconds: float = 1.5
    repetitions: int = 3
    together: tuple[int, ...] = (1, 2, 4, 8)
    peak_size: int = 8192
    curve_steps: int = 100
    rows: int | None = None
    short: int = 16_384
    weights: Path | None = None
    seeds: int = 5


def plan_of(arguments: argparse.Namespace) -> Plan:
    arms = tuple(arguments.arms.split(","))
    if unknown := {*arms} - {*ARMS}:
        raise SystemExit(f"--arms: {', '.join(sorted(unknown))} is unknown; there are {', '.join(ARMS)}")
    if arguments.tiny:
        plan = Plan(arms, (4,), arguments.minutes, True, 6, 2.0, 1, (1, 2), 64, 6, rows=256, short=64, seeds=2)
        return dataclasses.replace(plan, weights=arguments.weights)
    batches = tuple(int(batch) for batch in arguments.batch.split(","))
    repetitions, weights = arguments.repetitions, arguments.weights
    return Plan(arms, batches, arguments.minutes, False, repetitions=repetitions, weights=weights)


class Bench:
    """One run. What went wrong is noted and costs the part that it happened in."""

    def __init__(self, plan: Plan, setup: Setup, file: Path | None) -> None:
        self.plan, self.setup, self._file = plan, setup, file
        self._started = time.monotonic()
        self.found: dict[str, Any] = {"errors": [], "prepared": [], "measured": []}
        self._open: list[Channel] = []

    @property
    def left(self) -> float:
        """Seconds until the end."""
        return 60 * self.plan.minutes - (time.monotonic() - self._started)

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self._started:6.1f} s] {text}", flush=True)

    def note(self, key: str, value: Any) -> None:
        """Into the JSON file, whole or not at all."""
        self.found[key] = value
        if self._file is not None:
            temporary = self._file.with_name(f".{self._file.name}.{os.getpid()}")
            temporary.write_text(json.dumps(self.found, indent=1))
            temporary.rename(self._file)

    def add(self, key: str, value: dict[str, Any]) -> None:
        self.note(key, [*self.found.get(key, []), value])

    def attempt(self, what: str, part: Callable[[], Any], needs: float = 0.0) -> Any:
        """What `part` answers; None where it goes wrong, or where fewer than `needs` seconds are left."""
        if self.left < needs:
            self.say(f"{what}: left out, {self.left:.0f} s are left and it needs {needs:.0f}")
            self.add("errors", {"what": what, "error": "no time left"})
            return None
        try:
            return part()
        except Exception as error:
            text = str(error) if isinstance(error, RuntimeError) else traceback.format_exc(limit=-4)
            self.say(f"{what}: FAILED\n{text.rstrip()}")
            self.add("errors", {"what": what, "error": text})
            return None

    def open(self, apart: bool = False) -> Channel:
        """A worker; in this process where all is tiny, unless it has to be apart."""
        channel: Channel = Remote(self.setup) if apart or not self.plan.tiny else Local(self.setup)
        self._open.append(channel)
        return channel

    def close(self) -> None:
        for channel in self._open:
            channel.close()

    def run(self) -> None:
        first = self.open()
        machine = first.ask("hello", 120)
        self.note("machine", machine)
        self.say(", ".join(f"{name} {value}" for name, value in machine.items()))
        first.ask("write_model", 120)
        what = write_rows(self.setup.folder, self.plan.rows, self.plan.short, self.setup.shape["vocab_size"])
        self.note("rows", what)
        self.say(what)
        peak = first.ask("peak", 120, size=self.plan.peak_size)
        self.note("peak_flops", peak)
        self.say(f"bfloat16 product of {self.plan.peak_size}^2 matrices: {peak / 1e12:,.1f} TFLOP/s, taken as the peak")
        first.close()

        arms = {arm: self.open() for arm in self.plan.arms if arm != "compiled"}
        aside = self.open()
        for channel in (aside, *arms.values()):
            channel.send("hello")
        aside.receive(180)
        for arm, channel in list(arms.items()):
            if self.attempt(f"start of {arm}", lambda channel=channel: channel.receive(180)) is None:
                del arms[arm]
        order = sorted(self.plan.batches, key=lambda batch: (batch != 32, batch))
        self._arms(arms, order[0])
        self._evaluations(arms)
        self.attempt("loss curves", lambda: self._curves(aside, order[0]), 30)
        if self.plan.weights is not None or self.plan.tiny:
            weights = self.plan.weights or self.setup.folder / "model"
            self.attempt("fine-tuning", lambda: self._fine_tune(aside, weights, order[0]), 45)
        for batch in order[1:]:
            self._arms(arms, batch)
        for channel in arms.values():
            channel.close()
        self.attempt("whole trials", lambda: self._trials(aside), 30)
        self.attempt("trainings at a time, one process", lambda: self._streams(aside, order[0]), 45)
        self.attempt("giving memory back", lambda: aside.ask("release", 30))
        self.attempt("trainings at a time, processes", lambda: self._processes(order[0]), 75)
        if "compiled" in self.plan.arms:
            self.attempt("compiled", lambda: self._compiled(aside, order[0]), 45)

    def _arms(self, arms: dict[str, Channel], batch: int) -> None:
        """Prepare all, then measure them by turns."""
        for arm, channel in list(arms.items()):
            ready = self.attempt(
                f"{arm}, batch {batch}, preparing",
                lambda channel=channel, arm=arm: channel.ask("prepare", 90, arm=arm, batch=batch),
                20,
            )
            if ready is None:
                arms.pop(arm).close()
                continue
            self.add("prepared", {"arm": arm, "batch": batch, **ready})
            self.say(f"{arm}, batch {batch}, ready: {describe(ready)}")
        for repetition in range(self.plan.repetitions):
            for arm, channel in list(arms.items()):
                if not self._measure(arm, channel, batch, repetition):
                    arms.pop(arm).close()
        print("\n" + table(self.found, self.setup.shape, batch) + "\n", flush=True)

    def _measure(self, arm: str, channel: Channel, batch: int, repetition: int) -> bool:
        limits = {"steps": self.plan.steps, "seconds": self.plan.seconds}
        found = self.attempt(f"{arm}, batch {batch}", lambda: channel.ask("measure", 60, **limits), 10)
        if found is not None:
            self.add("measured", {"arm": arm, "batch": batch, "repetition": repetition, **found})
            self.say(
                f"{arm}, batch {batch}, {repetition + 1}: {found['sentences'] / found['seconds']:,.0f} sentences/s, "
                f"{1e3 * found['seconds'] / found['steps']:.2f} ms a step"
            )
        return found is not None or self.left < 10

    def _curves(self, channel: Channel, batch: int) -> None:
        """How far the losses of a training stray from the eager loop's; the eager loop's own noise beside it."""
        kinds = {
            "eager": True,
            "eager again": True,
            "graphs": True,
            "shadow": True,
            "fused": True,
            "eager float32": False,
        }
        curves: dict[str, list[float]] = {}
        for name, bf16 in kinds.items():
            options = {"arm": name.split()[0], "batch": batch, "steps": self.plan.curve_steps, "bf16": bf16}
            curve = self.attempt(f"loss curve of {name}", lambda options=options: channel.ask("curve", 60, **options))
            if curve is not None:
                curves[name] = curve
        self.note("curves", curves)
        for name, curve in curves.items():
            if name != "eager" and "eager" in curves:
                apart = [abs(one - other) for one, other in zip(curve, curves["eager"], strict=True)]
                self.say(
                    f"losses of {name} against eager, {len(apart)} steps, no dropout: {max(apart):.4f} apart at most, "
                    f"{statistics.mean(apart):.4f} on average; last ten {statistics.mean(curve[-10:]):.4f}, "
                    f"eager {statistics.mean(curves['eager'][-10:]):.4f}"
                )

    def _fine_tune(self, channel: Channel, weights: Path, batch: int) -> None:
        """Whether ours ends where the eager loop ends: the same trials from real weights, over some seeds."""
        accuracies: dict[str, list[float]] = {"eager": [], "ours": []}
        for seed in range(self.plan.seeds):
            for arm, own in accuracies.items():
                found = channel.ask("fine_tune", 60, arm=arm, weights=weights, seed=seed, batch=batch)
                own.append(found["accuracy"])
                self.add("fine_tuned", {"arm": arm, "seed": seed, **found})
        for arm, own in accuracies.items():
            self.say(f"fine-tuned, {arm}: accuracy {statistics.mean(own):.4f}, {' '.join(f'{one:.4f}' for one in own)}")
        apart = [ours - eager for ours, eager in zip(accuracies["ours"], accuracies["eager"], strict=True)]
        error = statistics.stdev(apart) / len(apart) ** 0.5
        self.say(f"ours less eager, the same seeds: {statistics.mean(apart):+.4f}, standard error {error:.4f}")

    def _evaluations(self, arms: dict[str, Channel]) -> None:
        for repetition in range(self.plan.repetitions):
            for arm, channel in arms.items():
                if arm in ("ours", "eager", "trainer", "trainer-tuned"):
                    found = self.attempt(f"evaluation, {arm}", lambda channel=channel: channel.ask("evaluate", 30), 10)
                    if found is not None:
                        self.add("evaluated", {"arm": arm, **found})
                        self.say(
                            f"evaluation, {arm}, {repetition + 1}: {1e3 * found['seconds']:.0f} ms for "
                            f"{found['sentences']} sentences, {found['sentences'] / found['seconds']:,.0f} a second"
                        )

    def _trials(self, channel: Channel) -> None:
        """The first pays for what a warm process has."""
        for number in range(2):
            found = channel.ask("whole_trial", 90, batch=32 if not self.plan.tiny else 4)
            self.add("trials", found)
            self.say(
                f"whole trial {number + 1}, {self.plan.short:,} rows, one epoch: {found['seconds']:.2f} s, of these "
                f"{found['train_seconds']:.2f} s training at {found['sentences_per_second']:,.0f} sentences/s"
            )

    def _streams(self, channel: Channel, batch: int) -> None:
        for count in self.plan.together:
            channel.ask("prepare_streams", 90, count=count, batch=batch, arm="ours")
            found = channel.ask("measure_streams", 60, steps=100_000, seconds=self.plan.seconds)
            rate = found["sentences"] / found["seconds"]
            self.add("streams", {"count": count, "batch": batch, "rate": rate})
            self.say(f"{count} trainings in one process, batch {batch}: {rate:,.0f} sentences/s together")

    def _processes(self, batch: int) -> None:
        """Each started and prepared, then all measured at once, without MPS: the card takes turns."""
        channels: list[Channel] = []
        for _ in range(max(self.plan.together)):
            channels.append(self.open(apart=True))
            channels[-1].send("hello")
        for channel in channels:
            channel.receive(120)
        for channel in channels:
            channel.send("prepare", arm="ours", batch=batch)
        for channel in channels:
            channel.receive(120)
        for count in self.plan.together:
            for channel in channels[:count]:
                channel.send("measure", steps=100_000, seconds=self.plan.seconds)
            found = [channel.receive(60) for channel in channels[:count]]
            rate = sum(one["sentences"] / one["seconds"] for one in found)
            self.add("processes", {"count": count, "batch": batch, "rate": rate})
            self.say(f"{count} processes, batch {batch}: {rate:,.0f} sentences/s together")
        for channel in channels:
            channel.close()

    def _compiled(self, ours: Channel, batch: int) -> None:
        """In what time is left; by turns with ours."""
        channel = self.open()
        channel.ask("hello", 60)
        arms = {"compiled": channel, "ours": ours}
        for arm, one in arms.items():
            ready = one.ask("prepare", max(20.0, self.left - 20), arm=arm, batch=batch)
            self.add("prepared", {"arm": arm, "batch": batch, "again": True, **ready})
            self.say(f"{arm}, batch {batch}, ready: {describe(ready)}")
        for repetition in range(self.plan.repetitions):
            for arm, one in arms.items():
                self._measure(arm, one, batch, repetition)
        print("\n" + table(self.found, self.setup.shape, batch) + "\n", flush=True)


def has_gpu() -> bool:
    """Asked without starting CUDA in this process: the workers are to have the card."""
    import torch

    return torch.cuda.is_available()


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description="Training speed on a GPU.")
    parser.add_argument("--minutes", type=float, default=8.0, help="no new part is begun after them (8)")
    usual = ",".join(arm for arm in ARMS if arm != "fused")  # which is what ours is on a GPU
    parser.add_argument("--arms", default=usual, help=f"comma-separated, of {', '.join(ARMS)} (all but fused)")
    parser.add_argument("--batch", default="16,32,64", help="comma-separated batch sizes (16,32,64)")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--weights", type=Path, help="folder of a BERT with bert-base-uncased's words, to fine-tune")
    parser.add_argument("--json", type=Path, help="file for all figures, rewritten after every one")
    parser.add_argument("--tiny", action="store_true", help="two layers, few steps, on any machine")
    options = parser.parse_args(arguments)
    plan = plan_of(options)
    gpu = has_gpu()
    if not gpu and not plan.tiny:
        print("no GPU is visible to PyTorch; --tiny goes the whole way on a CPU", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        shape = {**(TINY if plan.tiny else BASE), "vocab_size": vocabulary_size()}
        bench = Bench(plan, Setup(Path(folder), shape, gpu), options.json)
        try:
            bench.attempt("the run", bench.run)
        finally:
            bench.close()
        bench.note("seconds", 60 * plan.minutes - bench.left)
        bench.say(f"{len(bench.found['measured'])} measurements, {len(bench.found['errors'])} things went wrong")
    return 0


if __name__ == "__main__":
    from benchmarks.gpu import main as run  # workers look for classes in a module, not in __main__

    sys.exit(run(sys.argv[1:]))
