"""What each token gives to an answer: against the sum that it has to have, and against gradients taken by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch
from encoders import ENCODERS
from torch import nn

from hpo.encoded import Array
from hpo.errors import ModelError
from hpo.training.attribution import attribute
from hpo.training.hyperparameters import Hyperparameters
from hpo.training.model import Starting
from hpo.training.pretrained import Tokenizer, load_tokenizer

CPU = torch.device("cpu")


def classifier(folder: Path) -> nn.Module:
    """With weights large enough that its answers are not all alike."""
    model = Starting(folder, "AutoModelForSequenceClassification", {"num_labels": 3}).build(Hyperparameters(), 1)
    for name, part in model.named_parameters():
        if name.endswith("weight") and part.ndim == 2:
            nn.init.normal_(part, std=0.15)
    return model.eval()


def asked(tokenizer: Tokenizer) -> tuple[dict[str, Array], Array]:
    """One pair of texts, and which of its tokens stay without words."""
    encoded = tokenizer(["the film was very good"], ["it was bad"], 32)
    inputs = {name: np.array(values) for name, values in encoded.items()}
    inputs["attention_mask"] = np.ones_like(inputs["input_ids"])
    return inputs, np.isin(inputs["input_ids"][0], tokenizer.special_ids)


@pytest.mark.parametrize("family", ENCODERS)
def test_of_every_family_the_weights_add_up_to_the_difference_of_the_logits(family: str, tmp_path: Path) -> None:
    folder = ENCODERS[family](tmp_path / "model")
    model, tokenizer = classifier(folder), load_tokenizer(folder)
    inputs, keep = asked(tokenizer)
    found = attribute(model, inputs, 1, keep=keep, pad_id=tokenizer.pad_id, where=CPU)
    difference = found.logit - found.baseline
    assert abs(difference) > 1e-3
    assert found.weights.sum() == pytest.approx(difference, rel=0.05)
    assert found.weights[keep] == pytest.approx(0.0, abs=1e-6)
    assert all(part.grad is None for part in model.parameters())
    ids = {name: torch.from_numpy(array) for name, array in inputs.items()}
    with torch.no_grad():
        assert found.logit == pytest.approx(float(model(**ids).logits[0, 1]), abs=1e-5)


def test_weights_are_those_of_gradients_summed_by_hand(tiny_bert: Path) -> None:
    model, tokenizer = classifier(tiny_bert), load_tokenizer(tiny_bert)
    inputs, keep = asked(tokenizer)
    found = attribute(model, inputs, 2, keep=keep, pad_id=tokenizer.pad_id, where=CPU)
    ids = torch.from_numpy(inputs["input_ids"])
    blank = torch.where(torch.from_numpy(keep), ids, torch.full_like(ids, tokenizer.pad_id))
    words = model.get_input_embeddings()
    start, end = words(blank).detach(), words(ids).detach()
    others = {name: torch.from_numpy(array) for name, array in inputs.items() if name != "input_ids"}
    gradients = torch.zeros_like(end)
    for step in range(400):  # midpoints
        point = (start + (step + 0.5) / 400 * (end - start)).requires_grad_()
        logit = model(inputs_embeds=point, **others).logits[0, 2]
        gradients += torch.autograd.grad(logit, point)[0] / 400
    by_hand = ((end - start) * gradients).sum(dim=-1)[0]
    assert found.weights == pytest.approx(by_hand.numpy(), abs=1e-3)


def test_a_model_that_cannot_be_asked_so_says_why() -> None:
    class Counts(nn.Module):
        def forward(self, input_ids: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"logits": input_ids.float().sum(dim=1, keepdim=True)}

    ids = np.array([[2, 7, 3]])
    with pytest.raises(ModelError, match=r"a Counts model can't be explained token by token \(AttributeError"):
        attribute(Counts(), {"input_ids": ids}, 0, keep=ids[0] < 4, pad_id=0, where=CPU)


@pytest.mark.parametrize("family", ENCODERS)
def test_the_pieces_of_a_text_read_as_its_words(family: str, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(ENCODERS[family](tmp_path / "model"))
    ids = tokenizer(["the film was very goood"], None, 64)["input_ids"][0]
    pieces = tokenizer.pieces(ids)[1:-1]
    assert "".join(f"{' ' if begins else ''}{text}" for text, begins in pieces).split() == [
        "the",
        "film",
        "was",
        "very",
        "goood",
    ]
