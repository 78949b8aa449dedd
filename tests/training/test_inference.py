import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_bert import write_tiny_bert

from hpo.errors import ModelError
from hpo.training import inference

HEAD = "AutoModelForSequenceClassification"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bert(tmp_path_factory.mktemp("whole") / "checkpoint")


def cut(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def resize(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_size": 64}))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "zeros": lambda folder: (folder / "model.safetensors").write_bytes(bytes(100)),
    "no bytes": lambda folder: (folder / "model.safetensors").write_bytes(b""),
    "weights cut short": cut,
    "no weights": lambda folder: (folder / "model.safetensors").unlink(),
    "weights of another size": resize,
    "no config": lambda folder: (folder / "config.json").unlink(),
    "a config that is no JSON": lambda folder: (folder / "config.json").write_text("{"),
    "a config of no known model": lambda folder: (folder / "config.json").write_text('{"model_type": "x"}'),
    "a config that is a list": lambda folder: (folder / "config.json").write_text("[]"),
    "layers of no number": lambda folder: (folder / "config.json").write_text(
        '{"model_type": "bert", "hidden_size": "x"}'
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_model_is_named_with_a_remedy(damage: str, whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(whole, folder)
    DAMAGES[damage](folder)
    said = {
        "no config": r"has no config\.json; name a folder made by",
        "a config that is no JSON": r"config\.json is not JSON \(.+\); save the model again",
    }.get(damage, r"damaged: its weights can't be loaded \(.+\); bring")
    with pytest.raises(ModelError, match=said):
        inference.load(folder, HEAD, torch.device("cpu"))


def test_a_whole_model_is_loaded_for_answers(whole: Path) -> None:
    assert not inference.load(whole, HEAD, torch.device("cpu")).training
