"""One trial, from encoded rows to the checkpoint of its best evaluation. Knows no Ray and no MLflow."""

import math
import os
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from hpo.encoded import OWNER, Array, Encoded
from hpo.errors import OutOfMemoryError
from hpo.failures import is_out_of_memory, of_stage_before
from hpo.records import Report, Seeds, TrialConfig
from hpo.space import Params
from hpo.tasks import Task, described, metrics, settled
from hpo.training.adapted import folder_of, key_of
from hpo.training.bookmarks import Bookmarks, Pulse

if TYPE_CHECKING:
    from hpo.training.hyperparameters import Hyperparameters
    from hpo.training.inference import Collate
    from hpo.training.loop import Training
    from hpo.training.model import Starting
    from hpo.training.resume import Best


def _nothing() -> None:
    """Nobody has to be told."""


WAIT_SECONDS = 1.0
"""Between two looks at a full disk."""


@dataclass(frozen=True, slots=True)
class Start:
    """One of the models that trials start from. model: its folder. data: the rows as its tokenizer encodes them."""

    model: Path
    data: Path
    pad_id: int


@dataclass(frozen=True)
class TrialObjective:
    """What all trials of a study share. A process that keeps it loads rows and weights once, for all its trials.

    model: folder of the pretrained weights. data: folder with train.arrow and validation.arrow; the test split lies
    elsewhere and is not known here. checkpoints: where `trial-0000` folders go. cpus, gpus: what one trial may use.
    name, models: where the name of the model is searched, that of `model`, and all of them. adaptation: the stage
    before; its `checkpoints` is where adapted models lie, shared by all trials with the same values. adapted: whether
    `model` is one of them. beat: called for every batch, besides the sign of life in `running`.
    running: where running trials show that they are alive, and write down where they are every `bookmark_seconds`;
    None: nowhere, never. teacher: the file of what a teacher answers to the rows of train. trying: a few steps to see
    how long they take, too few for every recipe to act.
    """

    model: Path
    task: Task
    labels: tuple[str, ...]
    data: Path
    checkpoints: Path
    metric: str
    mode: Literal["min", "max"]
    pad_id: int
    name: str | None = None
    adapted: bool = False
    adaptation: "TrialObjective | None" = None
    beat: Callable[[], None] = _nothing
    models: Mapping[str, Start] = field(default_factory=dict)
    cpus: int = 1
    gpus: float = 0.0
    running: Path | None = None
    bookmark_seconds: float | None = None
    teacher: Path | None = None
    trying: bool = False

    def __call__(self, config: TrialConfig) -> Generator[Report, None, None]:
        """Train, report at every rung and every epoch's end, keep the best evaluation, write it at the end.

        Raises TrialError: OutOfMemoryError, with all memory given back, DivergedError, DeadParameterError.
        """
        try:
            yield from self.of(config.first_params)._train_and_report(config)
            return
        except Exception as error:
            if isinstance(error, OutOfMemoryError) or not is_out_of_memory(error):
                raise  # the stage before has given its memory back
            said = f"{type(error).__name__}: {error}".splitlines()[0]
        from hpo.training import device  # by now nothing holds the frames of the training

        device.release()
        raise OutOfMemoryError(said)

    def of(self, params: Params) -> "TrialObjective":
        """The same for trials of the one model that `params` name."""
        name = params.get("model", self.name)
        return self if name == self.name else self._each[str(name)]

    def pulse(self, config: TrialConfig) -> Path | None:
        """The file that a trial touches while its steps go on."""
        return Bookmarks(self.running).pulse(config.name) if self.running else None

    def _train_and_report(self, config: TrialConfig) -> Generator[Report, None, None]:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        from hpo.training import device, liveness, loop, population
        from hpo.training.resume import Best, Keeper

        device.cap_threads(self.cpus)
        marks = Bookmarks(self.running) if self.running else None
        keeper = Keeper(config, self.labels, marks, self.bookmark_seconds, Pulse(self.pulse(config)))
        keeper.pulse()
        start, stage = self._start(config, keeper.pulse)
        device.watch_memory(device.pick_device(self.gpus))
        training = start._prepare(config)
        training.collate = alive(alive(training.collate, keeper.pulse), self.beat)  # in evaluations, too
        liveness.assert_live(training, config.first_params)
        course = population.course_of(config)
        sign = 1.0 if self.mode == "max" else -1.0
        sizes = training.count_parameters()
        evaluate_at = evaluation_steps(training, config.rungs) | course.steps(training.total_steps)
        progress, again = keeper.go_on(training, course)
        yield from again
        between = partial(keeper.between, training, course)
        for evaluation in loop.train(training, evaluate_at, progress, between):
            value, best = evaluation.metrics[self.metric], keeper.best
            if best is None or sign * value > sign * best.evaluation.metrics[self.metric]:
                best = Best(evaluation, training.copy_weights(), training.model_config, dict(course.params))
                keeper.best = best
            looks = [*(one.step for one in keeper.said), evaluation.step]
            waited = sum(step > best.evaluation.step for step in looks)
            is_whole = evaluation.step == training.total_steps
            done = is_whole or 0 < training.patience <= waited
            if is_whole and progress is None and not self.trying:
                liveness.assert_acted(training)
            if done and not is_whole:
                keeper.notes.append(
                    f"it ends after step {evaluation.step:,}: no better {self.metric} in {waited} looks"
                )
            checkpoint = None
            if done and self._can_win(best.evaluation.metrics[self.metric], config.keep_above):
                checkpoint = self._write(config, best, keeper.pulse)
            course.before_report(training, evaluation.step)
            report = Report(
                step=evaluation.step,
                progress=evaluation.step / training.total_steps,
                metrics=evaluation.metrics
                | course.metrics
                | {"seconds": keeper.seconds}
                | ({"micro_batch_size": float(config.micro_batch)} if config.micro_batch else {})
                | stage
                | (sizes | device.memory(training.where) if done else {}),
                done=done,
                checkpoint=checkpoint,
                notes=keeper.take_notes(),
            )
            yield keeper.heard(report)
            if done:
                return
            course.after_report(training, evaluation.step)

    def _start(self, config: TrialConfig, pulse: Callable[[], None]) -> "tuple[TrialObjective, dict[str, float]]":
        """This objective, from the model that the stage before makes of its own; and what that stage reached."""
        from hpo.training.carried import carry_on
        from hpo.training.checkpoint import read_manifest
        from hpo.training.hyperparameters import of_stage
        from hpo.training.once import made_once

        params = config.first_params
        key = key_of(self.name, params)
        if self.adaptation is None or key is None:
            return self, {}
        stage = self.adaptation.of({"model": self.name} if self.name else {})
        own = of_stage(params)
        seeds = Seeds(init=int(key[:7], 16), order=int(key[7:14], 16))

        def make(folder: Path) -> Path:
            """Train, and name its checkpoint."""
            alone = replace(stage, checkpoints=folder, beat=pulse)
            trial = TrialConfig(number=0, params=own, seeds=seeds, micro_batch=config.adapt_micro_batch)
            with of_stage_before():
                *_, last = alone(trial)
            assert last.checkpoint is not None
            carry_on(last.checkpoint, stage.model)
            return last.checkpoint

        home = made_once(stage.checkpoints / folder_of(key), make, partial(_wait, pulse))
        reached = read_manifest(home).metrics[stage.metric]
        start = replace(self, model=home, adapted=True, adaptation=None, models={})
        return start, {f"adapt_{stage.metric}": reached}

    def _can_win(self, value: float, keep_above: float | None) -> bool:
        return keep_above is None or (value >= keep_above if self.mode == "max" else value <= keep_above)

    def _prepare(self, config: TrialConfig) -> "Training":
        from hpo.training import batches, device
        from hpo.training.hyperparameters import Hyperparameters, without_stage
        from hpo.training.loop import Clip, Training
        from hpo.training.losses import build_loss
        from hpo.training.model import begin_with_shares, freeze
        from hpo.training.optimizer import build_optimizer, multiplier
        from hpo.training.recipes import active

        hyper = Hyperparameters.model_validate(without_stage(config.first_params))
        where = device.pick_device(self.gpus)
        model = self._starting.build(hyper, config.seeds.init)
        if self.task.learns == "classes":
            begin_with_shares(model, self._train.labels.mean(axis=0))
        recipes = active(hyper)
        for recipe in recipes:
            recipe.prepare(model)
        freeze(model, hyper.frozen_layers)
        model.to(where)
        per_epoch = batches.steps_per_epoch(
            len(self._train), hyper.per_device_train_batch_size, hyper.gradient_accumulation_steps
        )
        total = total_steps(hyper, per_epoch)
        training = Training(
            model=model,
            optimizer=build_optimizer(model, hyper),
            factor=multiplier(hyper, total),
            loss=build_loss(hyper, self.task.learns),
            plain_loss=build_loss(Hyperparameters(), self.task.learns),
            hyper=hyper,
            started_from=self.name,
            adapted=self.adapted,
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
            micro_batch=config.micro_batch,
            recipes=recipes,
            patience=hyper.early_stopping_patience,
            taught=self._taught,
        )
        fed = self.task.fed(self._train, self.pad_id, hyper.mlm_probability, config.seeds.order)
        if fed is not None:
            training.train_on(fed.rows, fed, before_step=fed.at)
            training.mlm_probability = fed.share
        for recipe in recipes:
            recipe.begin(training)
        return training

    def _write(self, config: TrialConfig, best: "Best", pulse: Callable[[], None]) -> Path:
        """On a full disk, when there is room: waiting is a sign of life."""
        from hpo.training import checkpoint

        write = partial(
            checkpoint.write,
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
        size = sum(part.nbytes for part in best.weights.values())
        return checkpoint.when_there_is_room(self.checkpoints, size, write, partial(_wait, pulse))

    def _collate(self, encoded: Encoded, rows: Array) -> dict[str, Array]:
        return self.task.collate(encoded, rows, self.pad_id)

    def _score(self, outputs: Array, encoded: Encoded) -> dict[str, float]:
        with metrics.plainly():
            return self.task.compute_metrics(outputs, encoded, self.labels)

    @cached_property
    def _each(self) -> "Mapping[str, TrialObjective]":
        return {
            name: replace(self, model=own.model, data=own.data, pad_id=own.pad_id, name=name, models={})
            for name, own in self.models.items()
        }

    @cached_property
    def _starting(self) -> "Starting":
        from hpo.training.model import Starting

        return Starting(self.model, self.task.head, self.task.head_config(self.labels))

    @cached_property
    def _train(self) -> Encoded:
        return Encoded.load(self.data / "train.arrow")

    @cached_property
    def _taught(self) -> Array | None:
        """(features, values)"""
        if self.teacher is None:
            return None
        import numpy as np

        logits: Array = np.load(self.teacher, mmap_mode="r")
        return logits if self._train.owners is None else logits[self._train.flat[OWNER]]

    @cached_property
    def _validation(self) -> Encoded:
        return Encoded.load(self.data / "validation.arrow")


def _wait(pulse: Callable[[], None]) -> None:
    """Waiting is a sign of life, too."""
    pulse()
    time.sleep(WAIT_SECONDS)


def alive(collate: "Collate", pulse: Callable[[], None]) -> "Collate":
    """The same, with a sign of life for every batch."""

    def collated(encoded: Encoded, rows: Array) -> Mapping[str, Array]:
        pulse()
        return collate(encoded, rows)

    return collated


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
