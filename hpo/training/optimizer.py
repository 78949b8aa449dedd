"""AdamW in groups, and the learning rate by step."""

import math
from collections import defaultdict
from collections.abc import Callable

import torch
from torch import nn

from hpo.training.hyperparameters import Hyperparameters
from hpo.training.model import depths


def build_optimizer(model: nn.Module, hyper: Hyperparameters) -> torch.optim.AdamW:
    """Fused AdamW (Loshchilov and Hutter 2019) without decay on biases and LayerNorm.

    With layerwise_lr_decay d the rate at depth k of D is learning_rate * d^(D - k) (Clark et al. 2020, ELECTRA).
    """
    depth = depths(model)
    top = max(depth.values())
    groups: dict[tuple[float, bool], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            scale = hyper.layerwise_lr_decay ** (top - depth[name])
            groups[scale, parameter.ndim >= 2].append(parameter)  # biases and norms are vectors
    optimizer = torch.optim.AdamW(
        [
            {"params": parameters, "scale": scale, "decays": decays, "lr": hyper.learning_rate}
            for (scale, decays), parameters in groups.items()
        ],
        betas=(hyper.adam_beta1, hyper.adam_beta2),
        eps=hyper.adam_epsilon,
        fused=True,
    )
    set_values(optimizer, hyper)
    return optimizer


def set_values(optimizer: torch.optim.Optimizer, hyper: Hyperparameters) -> None:
    """The peak learning rate and the weight decay of every group; in the middle of training, too."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] = hyper.learning_rate * group["scale"]
        group["weight_decay"] = hyper.weight_decay if group["decays"] else 0.0


def multiplier(hyper: Hyperparameters, total_steps: int) -> Callable[[int], float]:
    """The factor on every learning rate, by the number of optimiser steps done (0 before the first).

    Linear warmup over warmup_ratio of all steps, then linear or cosine to zero, or constant.
    """
    warmup = math.ceil(hyper.warmup_ratio * total_steps)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        remaining = (total_steps - step) / max(1, total_steps - warmup)
        if hyper.lr_scheduler_type == "linear":
            return remaining
        if hyper.lr_scheduler_type == "cosine":
            return 0.5 * (1.0 + math.cos(math.pi * (1.0 - remaining)))
        return 1.0

    return factor


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor
