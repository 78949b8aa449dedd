"""AdamW in one kernel against PyTorch's, the kernel interpreted on the CPU."""

import importlib
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch
from tiny_trials import losses, trial
from torch import nn

from hpo.training import graphs, loop
from hpo.trial import TrialObjective

pytest.importorskip("triton")


@pytest.fixture
def flat(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module as it is where its kernel is interpreted."""
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.delitem(sys.modules, "hpo.training.flat", raising=False)
    yield importlib.import_module("hpo.training.flat")
    sys.modules.pop("hpo.training.flat", None)


def parameters() -> list[nn.Parameter]:
    draw = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=draw)) for shape in ((50, 60), (70,), (2, 3))]


def adamw(parts: list[nn.Parameter]) -> torch.optim.AdamW:
    matrices = {"params": [parts[0], parts[2]], "weight_decay": 0.1}
    return torch.optim.AdamW([matrices, {"params": [parts[1]], "lr": 2e-2, "weight_decay": 0.0}], lr=1e-2, fused=True)


@pytest.mark.parametrize("max_norm", [1.0, 0.0])
def test_it_steps_as_clipping_and_adamw_do(flat: ModuleType, max_norm: float) -> None:
    theirs, ours = parameters(), parameters()
    reference, optimizer = adamw(theirs), adamw(ours)
    shadows = [part.detach().to(torch.bfloat16) for part in ours]
    update = flat.FlatAdamW(optimizer, ours, shadows)
    assert update.adopt()
    for _ in range(5):
        gradients = [torch.randn_like(part).to(torch.bfloat16) for part in ours]
        update.step(gradients, torch.tensor([1e-2, 2e-2]), max_norm)
        for part, gradient in zip(theirs, gradients, strict=True):
            part.grad = gradient.float()
        if max_norm:
            nn.utils.clip_grad_norm_(theirs, max_norm)
        reference.step()
        for one, other, shadow in zip(ours, theirs, shadows, strict=True):
            torch.testing.assert_close(one, other)
            torch.testing.assert_close(shadow.float(), one.detach(), rtol=1e-2, atol=1e-6)
            assert optimizer.state[one]["step"] == reference.state[other]["step"]
            torch.testing.assert_close(optimizer.state[one]["exp_avg"], reference.state[other]["exp_avg"])
            torch.testing.assert_close(optimizer.state[one]["exp_avg_sq"], reference.state[other]["exp_avg_sq"])


def test_another_state_is_taken_over_where_all_took_the_same_steps(flat: ModuleType) -> None:
    parts = parameters()
    optimizer = adamw(parts)
    update = flat.FlatAdamW(optimizer, parts, [part.detach().to(torch.bfloat16) for part in parts])
    assert update.adopt()
    for part in parts:
        optimizer.state[part] = {
            "step": torch.tensor(7.0),
            "exp_avg": torch.full_like(part, 2.0),
            "exp_avg_sq": torch.full_like(part, 3.0),
        }
    optimizer.param_groups[0]["weight_decay"] = 0.5
    assert update.adopt()
    assert float(update._firsts.max()) == 2.0
    assert float(update._decays[0]) == 0.5
    update.step([torch.zeros_like(part, dtype=torch.bfloat16) for part in parts], torch.zeros(2), 1.0)
    assert {float(optimizer.state[part]["step"]) for part in parts} == {8.0}
    del optimizer.state[parts[1]]
    assert not update.adopt()


def test_a_training_with_it_goes_as_without(flat: ModuleType, objective: TrialObjective) -> None:
    """But for the copies' rounding: interpreted, the kernel cuts bits off."""
    fused = losses(objective, "fused", steps=24, bf16=True, layerwise_lr_decay=0.7)
    assert fused == pytest.approx(losses(objective, "shadow", steps=24, bf16=True, layerwise_lr_decay=0.7), abs=0.05)
    training = objective._prepare(trial(bf16=True))
    training.pace = "fused"
    take_step = loop.stepper(training)
    assert isinstance(take_step, graphs.Captured)
    assert take_step.parts == ("shadow", "flat", "additive masks")


def test_without_a_compiler_training_goes_on_without_it(
    objective: TrialObjective, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "hpo.training.flat", raising=False)
    monkeypatch.setitem(sys.modules, "triton", None)
    training = objective._prepare(trial(bf16=True))
    training.pace = "fused"
    with pytest.warns(RuntimeWarning, match="AdamW's own kernel is left out"):
        take_step = loop.stepper(training)
    assert isinstance(take_step, graphs.Captured)
    assert take_step.parts == ("shadow", "additive masks")
