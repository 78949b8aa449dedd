"""One trial, from encoded rows to the checkpoint of its best evaluation. Knows no Ray and no MLflow."""

import math
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from hpo.encoded import Array, Encoded
from hpo.records import Report, TrialConfig
from hpo.space import Params
from hpo.tasks import Task, described, settled

if TYPE_CHECKING:
    import torch

    from hpo.training.hyperparameters import Hyperparameters
    from hpo.training.loop import Evaluation, Training
    from hpo.training.model import Starting


@dataclass(frozen=True, slots=True)
class Best:
    """The best evaluation so far, and the model as it was then. params: the values in force, which may change."""

    evaluation: "Evaluation"
    weights: Mapping[str, "torch.Tensor"]
    model_config: Mapping[str, Any]
    params: Params


@dataclass(frozen=True)
class TrialObjective:
    """What all trials of a study share. A process that keeps it loads rows and weights once, for all its trials.

    model: folder of the pretrained weights. data: folder with train.arrow and validation.arrow; the test split lies
    elsewhere and is not known here. checkpoints: where `trial-0000` folders go. cpus, gpus: what one trial may use.
    """

    model: Path
    task: Task
    labels: tuple[str, ...]
    data: Path
    checkpoints: Path
    metric: str
    mode: Literal["min", "max"]
    pad_id: int
    cpus: int = 1
    gpus: float = 0.0

    def __call__(self, config: TrialConfig) -> Iterator[Report]:
        """Train, report at every rung and every epoch's end, keep the best evaluation, write it at the end."""
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        from hpo.training import device, liveness, loop, population

        device.cap_threads(self.cpus)
        started = time.perf_counter()
        training = self._prepare(config)
        liveness.assert_live(training, config.first_params)
        course = population.course_of(config)
        sign = 1.0 if self.mode == "max" else -1.0
        best: Best | None = None
        sizes = training.count_parameters()
        evaluate_at = evaluation_steps(training, config.rungs) | course.steps(training.total_steps)
        for evaluation in loop.train(training, evaluate_at):
            value = evaluation.metrics[self.metric]
            if best is None or sign * value > sign * best.evaluation.metrics[self.metric]:
                best = Best(evaluation, training.copy_weights(), training.model_config, dict(course.params))
            done = evaluation.step == training.total_steps
            checkpoint = None
            if done and self._can_win(best.evaluation.metrics[self.metric], config.keep_above):
                checkpoint = self._write(config, best)
            course.before_report(training, evaluation.step)
            yield Report(
                step=evaluation.step,
                progress=evaluation.step / training.total_steps,
                metrics=evaluation.metrics
                | course.metrics
                | {"seconds": time.perf_counter() - started}
                | (sizes if done else {}),
                done=done,
                checkpoint=checkpoint,
            )
            course.after_report(training, evaluation.step)

    def _can_win(self, value: float, keep_above: float | None) -> bool:
        return keep_above is None or (value >= keep_above if self.mode == "max" else value <= keep_above)

    def _prepare(self, config: TrialConfig) -> "Training":
        from hpo.training import batches, device
        from hpo.training.hyperparameters import Hyperparameters
        from hpo.training.loop import Clip, Training
        from hpo.training.losses import build_loss
        from hpo.training.model import freeze
        from hpo.training.optimizer import build_optimizer, multiplier

        hyper = Hyperparameters.model_validate(config.first_params)
        where = device.pick_device(self.gpus)
        model = self._starting.build(hyper, config.seeds.init)
        freeze(model, hyper.frozen_layers)
        model.to(where)
        per_epoch = batches.steps_per_epoch(
            len(self._train), hyper.per_device_train_batch_size, hyper.gradient_accumulation_steps
        )
        total = total_steps(hyper, per_epoch)
        return Training(
            model=model,
            optimizer=build_optimizer(model, hyper),
            factor=multiplier(hyper, total),
            loss=build_loss(hyper, self.task.target),
            plain_loss=build_loss(Hyperparameters(), self.task.target),
            hyper=hyper,
            train=self._train,
            validation=self._validation,
            collate=self._collate,
            score=self._score,
            dropouts=lambda field: self._starting.dropouts(field, hyper),
            where=where,
            clip=Clip(hyper.max_grad_norm),
            order_seed=config.seeds.order,
            total_steps=total,
            steps_per_epoch=per_epoch,
        )

    def _write(self, config: TrialConfig, best: "Best") -> Path:
        from hpo.training import checkpoint

        return checkpoint.write(
            self.checkpoints / config.name,
            weights=best.weights,
            model_config=best.model_config,
            tokenizer_folder=self.model,
            about=described(settled(self.task, best.evaluation.metrics), self.labels),
            trial=config.trial,
            step=best.evaluation.step,
            metrics=best.evaluation.metrics,
            params=best.params,
            seeds=config.seeds,
        )

    def _collate(self, encoded: Encoded, rows: Array) -> dict[str, Array]:
        return self.task.collate(encoded, rows, self.pad_id)

    def _score(self, outputs: Array, encoded: Encoded) -> dict[str, float]:
        return self.task.compute_metrics(outputs, encoded, self.labels)

    @cached_property
    def _starting(self) -> "Starting":
        from hpo.training.model import Starting

        return Starting(self.model, self.task.head, self.task.head_config(self.labels))

    @cached_property
    def _train(self) -> Encoded:
        return Encoded.load(self.data / "train.arrow")

    @cached_property
    def _validation(self) -> Encoded:
        return Encoded.load(self.data / "validation.arrow")


def total_steps(hyper: "Hyperparameters", per_epoch: int) -> int:
    """Optimiser steps of a whole trial."""
    return max(1, math.ceil(hyper.num_train_epochs * per_epoch - 1e-9))


class Length(Protocol):
    """How long a trial is, in optimiser steps."""

    @property
    def total_steps(self) -> int: ...

    @property
    def steps_per_epoch(self) -> int: ...


def evaluation_steps(training: Length, rungs: tuple[float, ...]) -> frozenset[int]:
    """After which steps to evaluate: at every rung, at every epoch's end, at the very end."""
    total = training.total_steps
    at_rungs = {max(1, math.ceil(fraction * total - 1e-9)) for fraction in rungs}
    at_epochs = set(range(training.steps_per_epoch, total, training.steps_per_epoch))
    return frozenset(at_rungs | at_epochs | {total})
