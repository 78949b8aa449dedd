"""Sentences that are good or bad, as the one telling word in them says: rows that a tiny BERT learns in a second."""

from pathlib import Path

import numpy as np

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
