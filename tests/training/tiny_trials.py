"""Trials for the tiny BERT."""

import json
from pathlib import Path

from hpo.records import Seeds, TrialConfig


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
