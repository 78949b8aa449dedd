from pathlib import Path

import numpy as np
import pytest

from hpo.encoded import Encoded, Ragged
from hpo.tasks import SequenceClassification
from hpo.trial import TrialObjective


@pytest.fixture(scope="session")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sentences that are good or bad, as the one telling word in them says."""
    folder = tmp_path_factory.mktemp("encoded")
    draw = np.random.default_rng(0)
    for split, rows in (("train", 192), ("validation", 48)):
        labels = draw.integers(0, 2, rows)
        texts = [[2, *draw.integers(7, 14, draw.integers(1, 7)), 5 if label else 6, 3] for label in labels]
        Encoded({"input_ids": Ragged.of(texts)}, {"labels": labels.astype(np.int64)}).save(folder / f"{split}.arrow")
    return folder


@pytest.fixture
def objective(tiny_bert: Path, encoded: Path, tmp_path: Path) -> TrialObjective:
    return TrialObjective(
        model=tiny_bert,
        task=SequenceClassification(text="sentence", label="label", max_length=16),
        labels=("bad", "good"),
        data=encoded,
        checkpoints=tmp_path / "checkpoints",
        metric="accuracy",
        mode="max",
        pad_id=0,
        name="tiny-bert",
    )
