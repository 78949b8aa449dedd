"""One process of the GPU benchmark: it is asked by name for what an arm, the model or the card can tell.

A question that goes wrong is answered with its traceback, and costs the arm that it was about. Must not know tables.
"""

import dataclasses
import multiprocessing
import os
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.gpu_arms import Huggingface, Ours, Setup, _now, trial
from hpo.records import Seeds

PACES = {
    "ours": None,
    "eager": "eager",
    "graphs": "graphs",
    "shadow": "shadow",
    "fused": "fused",
    "compiled": "fused",
}
"""`ours` is what TrialObjective takes on this device; `compiled` has a model that Inductor compiled besides."""

ARMS = ("ours", "trainer", "trainer-tuned", "eager", "graphs", "shadow", "fused", "compiled")


class Worker:
    """What a process holds: the setup and at most one prepared arm."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._arm: Ours | Huggingface | None = None
        self._many: list[Ours] = []
        self._short = setup.objective("short")

    def hello(self) -> dict[str, Any]:
        """Import what takes long; say what is there."""
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        import torch
        import transformers

        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        torch.set_num_threads(1)
        found = {"torch": torch.__version__, "transformers": transformers.__version__, "cuda": torch.version.cuda}
        if self._setup.gpu:
            found |= {"device": torch.cuda.get_device_name(), "bytes": torch.cuda.get_device_properties(0).total_memory}
        return found

    def write_model(self) -> None:
        """Random weights; the same in every run."""
        import torch
        from transformers import BertConfig, BertForSequenceClassification

        torch.manual_seed(0)
        config = BertConfig(**self._setup.shape, num_labels=2)
        BertForSequenceClassification(config).save_pretrained(self._setup.folder / "model")

    def peak(self, size: int) -> float:
        """FLOP/s of the best of some bfloat16 products of two square matrices."""
        import torch

        where = torch.device("cuda" if self._setup.gpu else "cpu")
        one, other = (torch.randn(size, size, device=where, dtype=torch.bfloat16) for _ in range(2))
        best = 0.0
        for _ in range(5):
            started = _now()
            for _ in range(10):
                one @ other
            best = max(best, 10 * 2.0 * size**3 / (_now() - started))
        return best

    def prepare(self, arm: str, batch: int) -> dict[str, Any]:
        """Build the arm and warm it up. Returns seconds, and the memory that it took at most."""
        import torch

        self.release()
        if self._setup.gpu:
            torch.cuda.reset_peak_memory_stats()
        started = time.perf_counter()
        self._arm = self._build(arm, batch)
        built = time.perf_counter()
        self._arm.warm()
        found = {"build_seconds": built - started, "warm_seconds": _now() - built} | self._arm.describe()
        if self._setup.gpu:
            found |= {
                "peak_bytes": torch.cuda.max_memory_allocated(),
                "reserved_bytes": torch.cuda.max_memory_reserved(),
            }
        return found

    def release(self) -> None:
        """Forget what was prepared, and give its memory back."""
        import torch

        self._arm = None
        self._many.clear()
        if self._setup.gpu:
            torch.cuda.empty_cache()

    def _build(self, arm: str, batch: int) -> Ours | Huggingface:
        if arm.startswith("trainer"):
            return Huggingface(self._setup, batch, tuned=arm == "trainer-tuned")
        return Ours(self._setup, batch, PACES[arm], compiled=arm == "compiled")

    def measure(self, steps: int, seconds: float) -> dict[str, float]:
        assert self._arm is not None
        return self._arm.measure(steps, seconds)

    def evaluate(self) -> dict[str, float]:
        assert self._arm is not None
        return self._arm.evaluate()

    def prepare_streams(self, count: int, batch: int, arm: str) -> None:
        """So many trainings in this process, to be stepped in turn, each on a stream of its own."""
        self._arm = None  # those that are there already stay
        while len(self._many) < count:
            self._many.append(Ours(self._setup, batch, PACES[arm]))
            self._many[-1].warm()

    def measure_streams(self, steps: int, seconds: float) -> dict[str, float]:
        import contextlib

        import torch

        streams: list[Any] = [torch.cuda.Stream() if self._setup.gpu else None for _ in self._many]
        started, sentences, done = _now(), 0, 0
        while done < steps and time.perf_counter() - started < seconds:
            losses = []
            for training, stream in zip(self._many, streams, strict=True):
                with torch.cuda.stream(stream) if stream is not None else contextlib.nullcontext():
                    loss, micro = training.next_step()
                losses.append(loss)
                sentences += sum(len(rows) for rows in micro)
            done += 1
            if done % 16 == 0:
                [float(loss) for loss in losses]
        return {"seconds": _now() - started, "sentences": sentences}

    def curve(self, arm: str, batch: int, steps: int, bf16: bool) -> list[float]:
        """Losses of a training without dropout from the same weights, in the same order, at a constant rate."""
        import torch

        self.release()
        still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "bf16": bf16}
        still |= {"warmup_ratio": 0.0, "lr_scheduler_type": "constant"}
        training = Ours(self._setup, batch, PACES[arm], **still)
        return [float(loss) for loss in torch.stack([training.next_step()[0] for _ in range(steps)])]

    def whole_trial(self, batch: int) -> dict[str, float]:
        """A trial of one epoch over the short data, through TrialObjective, its checkpoint left out."""
        self.release()
        started = _now()
        last = list(self._short(trial(batch, epochs=1)))[-1]
        return {"seconds": _now() - started, **last.metrics}

    def fine_tune(self, arm: str, weights: Path, seed: int, batch: int) -> dict[str, float]:
        """A trial of one epoch over the short data from real weights, its steps taken as the arm takes them."""
        from hpo.training import graphs

        self.release()
        kind = "cuda" if self._setup.gpu else "cpu"
        usual = graphs.PACES[kind]
        graphs.PACES[kind] = PACES[arm] or usual
        try:
            objective = dataclasses.replace(self._setup.objective("short"), model=weights)
            config = trial(batch, epochs=1, learning_rate=1e-4)
            config = dataclasses.replace(config, seeds=Seeds(init=seed, order=100 + seed))
            return dict(list(objective(config))[-1].metrics)
        finally:
            graphs.PACES[kind] = usual


class Local:
    """Asks a worker in this process."""

    def __init__(self, setup: Setup) -> None:
        self._worker = Worker(setup)

    def ask(self, question: str, timeout: float, **arguments: Any) -> Any:
        return getattr(self._worker, question)(**arguments)

    def send(self, question: str, **arguments: Any) -> None:
        self._answer = getattr(self._worker, question)(**arguments)

    def receive(self, timeout: float) -> Any:
        return self._answer

    def close(self) -> None:
        """Nothing is left behind."""


class Remote:
    """Asks a worker in a process of its own, and ends it where it takes too long."""

    def __init__(self, setup: Setup) -> None:
        context = multiprocessing.get_context("spawn")
        self._here, there = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(setup, there)
        )  # no daemon: Trainer's loaders are its children
        self._process.start()
        there.close()

    def ask(self, question: str, timeout: float, **arguments: Any) -> Any:
        self.send(question, **arguments)
        return self.receive(timeout)

    def send(self, question: str, **arguments: Any) -> None:
        self._here.send((question, arguments))

    def receive(self, timeout: float) -> Any:
        """Raises TimeoutError, RuntimeError with the worker's traceback, EOFError where it died."""
        if not self._here.poll(timeout):
            self.close()
            raise TimeoutError(f"no answer within {timeout:.0f} s")
        kind, answer = self._here.recv()
        if kind == "error":
            raise RuntimeError(answer)
        return answer

    def close(self) -> None:
        self._process.kill()
        self._process.join()


def _serve(setup: Setup, connection: Connection) -> None:
    multiprocessing.set_start_method("fork", force=True)  # else Trainer's loaders are spawned as this process was
    worker = Worker(setup)
    while True:
        try:
            question, arguments = connection.recv()
        except EOFError:
            return
        try:
            answer = ("ok", getattr(worker, question)(**arguments))
        except Exception:
            answer = ("error", "".join(traceback.format_exc().splitlines(keepends=True)[-12:]))
        connection.send(answer)
