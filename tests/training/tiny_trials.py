"""Trials for the tiny BERT."""

import json
from pathlib import Path

from hpo.records import Seeds, TrialConfig
from hpo.trial import TrialObjective


def trial(number: int = 0, keep_above: float | None = None, **params: object) -> TrialConfig:
    return TrialConfig(
        number=number,
        params={"learning_rate": 3e-3, "num_train_epochs": 3, "per_device_train_batch_size": 8, **params},
        seeds=Seeds(init=1, order=2),
        rungs=(1 / 9, 1 / 3, 1.0),
        keep_above=keep_above,
    )


def config_of(folder: Path) -> dict[str, object]:
    return json.loads((folder / "config.json").read_text())


NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def losses(objective: TrialObjective, pace: str, steps: int = 40, **params: object) -> list[float]:
    """Of a training's first steps, without dropout, taken at this pace."""
    from hpo.training import loop

    training = objective._prepare(trial(**(NO_DROPOUT | params)))
    training.pace = pace
    training.model.train()
    take_step = loop.stepper(training)
    found = []
    for step, micro in zip(range(steps), training.steps(), strict=False):
        loop.set_rate(training.optimizer, training.factor(step))
        found.append(float(take_step(micro)))
    return found
