"""Sentences that are good or bad, as the one telling word in them says: rows that a tiny BERT learns in a second."""

from pathlib import Path

import numpy as np

SPACE = """\
study: films
seed: 3
model: {{name: {model}}}
task: {{type: sequence-classification, text: sentence, label: label, max_length: 16}}
data:
  files: {{train: train.tsv, validation: validation.tsv}}
  test: {{from: train, rows: 60}}
  seed: 3
space:
  learning_rate: {{low: 1e-3, high: 1e-2, log: true}}
  num_train_epochs: [2, 3]
  per_device_train_batch_size: 16
  hidden_dropout_prob: {{low: 0.0, high: 0.2}}
search: {{sampler: {{type: tpe, n_startup_trials: 3}}, scheduler: {{type: asha, rungs: 2}}}}
budget: {{trials: 4}}
promotion: {{model: films}}
tracking: {{uri: "sqlite:///{folder}/mlflow.db"}}
storage: {folder}/studies
"""

WORDS = ["film", "plot", "a", "the", "very", "was", "it"]


def write_films(folder: Path, train: int = 300, validation: int = 60) -> None:
    """train.tsv and validation.tsv, with the columns sentence and label; the same rows every time."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(0)
    for split, rows in (("train", train), ("validation", validation)):
        lines = ["sentence\tlabel"]
        for place in range(rows):
            text = [*draw.choice(WORDS, draw.integers(1, 8)), "good" if place % 2 else "bad"]
            lines.append(f"{' '.join(draw.permutation(text))}\t{'pos' if place % 2 else 'neg'}")
        (folder / f"{split}.tsv").write_text("\n".join(lines) + "\n")


def write_space(folder: Path, model: Path) -> Path:
    """films.yaml over these rows and `model`; all that it makes lies beside it."""
    write_films(folder, 360, 60)
    space = folder / "films.yaml"
    space.write_text(SPACE.format(model=model, folder=folder))
    return space
