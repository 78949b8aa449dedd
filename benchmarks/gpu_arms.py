"""The arms of the GPU benchmark, each alive in a process of its own: our training at its paces, and Trainer.

An arm is prepared for a batch size, then asked for measurements of a few seconds. Must not know how arms are repeated,
interleaved or compared. Needs torch, transformers, numpy, pyarrow, safetensors, tokenizers and pydantic; Trainer needs
accelerate; nothing here needs Ray, Optuna, MLflow, datasets or evaluate.
"""

import dataclasses
import importlib.util
import math
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from hpo.encoded import Array, Encoded
from hpo.records import Seeds, TrialConfig
from hpo.tasks import SequenceClassification
from hpo.trial import TrialObjective

CHECK_EVERY = 16
EPOCHS = 1_000
"""So long that no measurement reaches the end of the schedule."""


class Sentences(SequenceClassification):
    """The task, with its accuracy computed by hand: `evaluate` is not needed."""

    def compute_metrics(self, outputs: Array, encoded: Encoded, labels: Sequence[str]) -> dict[str, float]:
        return {"accuracy": float((outputs.argmax(-1) == encoded.labels).mean())}


@dataclasses.dataclass(frozen=True)
class Setup:
    """Where everything lies. folder: `model`, `data` and `short` (fewer rows). shape: of BertConfig. weights: a folder
    of a finished model, instead of `model`."""

    folder: Path
    shape: Mapping[str, int]
    gpu: bool
    weights: Path | None = None

    @property
    def model(self) -> Path:
        return self.weights or self.folder / "model"

    def objective(self, data: str = "data") -> TrialObjective:
        return TrialObjective(
            model=self.model,
            task=Sentences(text="sentence", label="label", max_length=128),
            labels=("negative", "positive"),
            data=self.folder / data,
            checkpoints=self.folder / "checkpoints",
            metric="accuracy",
            mode="max",
            pad_id=0,
            cpus=1,
            gpus=1.0 if self.gpu else 0.0,
        )


def trial(batch: int, epochs: int = EPOCHS, **params: Any) -> TrialConfig:
    values = {"per_device_train_batch_size": batch, "learning_rate": 3e-5, "num_train_epochs": epochs} | params
    return TrialConfig(number=0, params=values, seeds=Seeds(init=1, order=2), keep_above=2.0)


class Ours:
    """Steps as `hpo.training.loop` takes them, its look at the loss included, without evaluations."""

    def __init__(self, setup: Setup, batch: int, pace: str | None, *, compiled: bool = False, **params: Any) -> None:
        import torch

        from hpo.training import loop

        self._torch, self._set_rate = torch, loop.set_rate
        self.training = setup.objective()._prepare(trial(batch, **params))
        self.training.pace = pace  # type: ignore[assignment]
        torch.manual_seed(2)
        self.training.model.train()
        self.take_step = loop.stepper(self.training)
        if compiled:  # only now: the stepper tries the model out, which would compile it for evaluations
            self.training.model.compile(dynamic=True)
        self._steps = self.training.steps()
        self._done = 0
        self._lengths = self.training.train.ragged["input_ids"].lengths

    def warm(self) -> None:
        """Every length three times: taken eagerly, captured, replayed."""
        from hpo.training.resident import padded_length

        batches = {padded_length(int(self._lengths[rows].max())): rows for rows in self.training.first_epoch()[:-1]}
        for rows in [rows for rows in batches.values() for _ in range(3)]:
            self.step([rows])

    def step(self, micro: list[Array]) -> Any:
        self._done += 1
        self._set_rate(self.training.optimizer, self.training.factor(self._done))
        return self.take_step(micro)

    def next_step(self) -> tuple[Any, list[Array]]:
        micro = next(self._steps)
        return self.step(micro), micro

    def measure(self, steps: int, seconds: float) -> dict[str, float]:
        started, used, done = _now(), [], 0
        while done < steps:
            loss, micro = self.next_step()
            used += micro
            done += 1
            if done % CHECK_EVERY == 0:
                if not math.isfinite(float(loss)):
                    raise ArithmeticError(f"the loss is {float(loss)}")
                if time.perf_counter() - started > seconds:
                    break
        took = _now() - started
        rows = np.concatenate(used)
        return {"seconds": took, "steps": done, "sentences": len(rows), "tokens": int(self._lengths[rows].sum())}

    def describe(self) -> dict[str, Any]:
        """Which way the steps are taken in fact."""
        kind = type(self.take_step).__name__
        return {
            "stepper": kind,
            "captured": getattr(self.take_step, "captured", 0),
            "broken": getattr(self.take_step, "broken", None),
            "parts": list(getattr(self.take_step, "parts", ())),
            "bf16": self.training.bf16,
        }

    def evaluate(self) -> dict[str, float]:
        from hpo.training import inference

        training = self.training
        started = _now()
        inference.logits(training.model, training.validation, training.collate, training.where, bf16=training.bf16)
        took = _now() - started
        training.model.train()
        return {"seconds": took, "sentences": len(training.validation)}


class Huggingface:
    """`transformers.Trainer`, on a GPU in bfloat16: as it comes, padded to each batch's longest; or tuned.

    pad_to: tokens that every row is padded to, instead. arguments: what else TrainingArguments is given.
    """

    TUNED: ClassVar[dict[str, Any]] = {
        "dataloader_num_workers": 2,
        "logging_nan_inf_filter": False,
        "optim": "adamw_torch_fused",
        "per_device_eval_batch_size": 128,
    }
    WARM = 10

    def __init__(
        self,
        setup: Setup,
        batch: int,
        *,
        tuned: bool,
        pad_to: int = 0,
        warm: int = WARM,
        arguments: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        if importlib.util.find_spec("accelerate") is None:
            raise ImportError("Trainer needs accelerate, which is not installed")
        from transformers import AutoModelForSequenceClassification

        self._setup, self._batch, self._tuned = setup, batch, tuned
        self._pad_to, self._warm, self._arguments = pad_to, warm, arguments
        self._model = AutoModelForSequenceClassification.from_pretrained(setup.model)
        self._train = Encoded.load(setup.folder / "data" / "train.arrow")
        self._validation = Encoded.load(setup.folder / "data" / "validation.arrow")
        self._mean = float(self._train.ragged["input_ids"].lengths.mean())

    def warm(self) -> None:
        self.measure(CHECK_EVERY, 60.0)

    def measure(self, steps: int, seconds: float) -> dict[str, float]:
        """Tokens are sentences times their mean length: the batches are made in other processes."""
        clock = _clock(self._warm, steps, seconds)
        self._trainer(max_steps=self._warm + steps, callbacks=[clock]).train()
        sentences = clock.steps * self._batch
        return {
            "seconds": clock.seconds,
            "steps": clock.steps,
            "sentences": sentences,
            "tokens": round(sentences * self._mean),
        }

    def describe(self) -> dict[str, Any]:
        return {"stepper": "Trainer", "captured": 0, "broken": None, "parts": [], "bf16": self._setup.gpu}

    def evaluate(self) -> dict[str, float]:
        trainer = self._trainer(max_steps=1, callbacks=[])
        started = _now()
        trainer.predict(_Rows(self._validation))
        return {"seconds": _now() - started, "sentences": len(self._validation)}

    def _trainer(self, max_steps: int, callbacks: list[Any]) -> Any:
        import inspect

        from transformers import Trainer, TrainingArguments

        known = inspect.signature(TrainingArguments).parameters
        grouped = (
            {"train_sampling_strategy": "group_by_length"}
            if "train_sampling_strategy" in known
            else {"group_by_length": True}
        )
        arguments = {
            "output_dir": str(self._setup.folder / "trainer"),
            "per_device_train_batch_size": self._batch,
            "learning_rate": 3e-5,
            "max_steps": max_steps,
            "bf16": self._setup.gpu,
            "use_cpu": not self._setup.gpu,
            "report_to": [],
            "save_strategy": "no",
            "disable_tqdm": True,
            **(self.TUNED | grouped if self._tuned else {}),
            **self._arguments,
        }
        return Trainer(
            model=self._model,
            args=TrainingArguments(**arguments),
            train_dataset=_Rows(self._train),
            data_collator=partial(_pad, to=self._pad_to),
            callbacks=callbacks,
        )


class _Rows:
    """A data set as Trainer takes it: dictionaries by number."""

    def __init__(self, encoded: Encoded) -> None:
        self._ids, self._labels = encoded.ragged["input_ids"], encoded.flat["labels"]

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {"input_ids": self._ids[row], "labels": int(self._labels[row])}


def _pad(rows: list[dict[str, Any]], to: int) -> dict[str, Any]:
    """To the longest of the batch, at least to `to`; with numpy, which is quicker than a tokenizer's `pad`."""
    import torch

    lengths = np.array([len(row["input_ids"]) for row in rows])
    ids = np.zeros((len(rows), max(to, lengths.max())), np.int64)
    for place, row in enumerate(rows):
        ids[place, : lengths[place]] = row["input_ids"]
    mask = (np.arange(ids.shape[1]) < lengths[:, None]).astype(np.int64)
    labels = np.array([row["labels"] for row in rows])
    found = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    return {name: torch.from_numpy(part) for name, part in found.items()}


def _clock(warm: int, at_most: int, limit: float) -> Any:
    """A callback that measures `at_most` steps after `warm` ones, or `limit` seconds, and ends the training."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):  # type: ignore[misc]
        started = seconds = 0.0
        steps = 0

        def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            if state.global_step == warm:
                self.started = _now()
            done = state.global_step - warm
            if done > 0 and (done == at_most or (done % CHECK_EVERY == 0 and _now() - self.started > limit)):
                self.seconds, self.steps = _now() - self.started, done
                control.should_training_stop = True

    return Clock()


def _now() -> float:
    """The clock, once the device has done all it was given."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
