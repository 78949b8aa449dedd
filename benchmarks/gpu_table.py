"""What the GPU benchmark prints of its figures: one line an arm, one table a batch size. Loads no torch."""

import statistics
from collections.abc import Sequence
from typing import Any

EPOCH = 67_349
"""Rows of SST-2: an epoch over them is what trials are counted in."""


def describe(ready: dict[str, Any]) -> str:
    memory = f", {ready['peak_bytes'] / 2**30:.2f} GiB at most" if "peak_bytes" in ready else ""
    graphs = f", {ready['captured']} lengths captured" if ready["captured"] else ""
    broken = f", NOT CAPTURED ({ready['broken']})" if ready["broken"] else ""
    precision = "bfloat16" if ready["bf16"] else "float32"
    return (
        f"{', '.join([ready['stepper'], *ready['parts'], precision])}, built in {ready['build_seconds']:.1f} s, "
        f"warm in {ready['warm_seconds']:.1f} s{graphs}{broken}{memory}"
    )


def flops_per_token(shape: dict[str, int]) -> float:
    """Forward and backward through the matrices of the layers: 6 a weight. Attention and embeddings left out."""
    width, inner = shape["hidden_size"], shape["intermediate_size"]
    return 6.0 * shape["num_hidden_layers"] * (4 * width**2 + 2 * width * inner)


def table(found: dict[str, Any], shape: dict[str, int], batch: int) -> str:
    """One line an arm: least, median and most of its repetitions."""
    lines = [
        f"| batch {batch} | sentences/s | ms a step | MFU on useful tokens | peak GiB | epochs of SST-2 an hour | x |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    rates: dict[str, list[float]] = {}
    for arm in dict.fromkeys(one["arm"] for one in found["measured"] if one["batch"] == batch):
        own = [one for one in found["measured"] if one["arm"] == arm and one["batch"] == batch]
        rates[arm] = [one["sentences"] / one["seconds"] for one in own]
        steps = [1e3 * one["seconds"] / one["steps"] for one in own]
        useful = [one["tokens"] / one["seconds"] * flops_per_token(shape) / found["peak_flops"] for one in own]
        memory = [one["peak_bytes"] for one in found["prepared"] if one["arm"] == arm and one["batch"] == batch
                  and "peak_bytes" in one]  # fmt: skip
        lines.append(
            f"| {arm} | {spread(rates[arm], ',.0f')} | {spread(steps, '.2f')} | {spread(useful, '.1%')} | "
            f"{f'{max(memory) / 2**30:.2f}' if memory else '-'} | "
            f"{3600 * statistics.median(rates[arm]) / EPOCH:,.0f} | {{{arm}}} |"
        )
    baseline = statistics.median(rates.get("trainer") or rates.get("eager") or [1.0])
    ratios = {arm: f"{statistics.median(own) / baseline:.2f}" for arm, own in rates.items()}
    return "\n".join([*lines[:2], *(line.format(**ratios) for line in lines[2:])])


def spread(values: Sequence[float], form: str) -> str:
    return " / ".join(format(value, form) for value in (min(values), statistics.median(values), max(values)))
