"""What benchmarks that compare trainings seed by seed share: their lines in a file, and the mean difference."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np


def read_lines(file: Path) -> list[dict[str, Any]]:
    """None where the file is not there yet."""
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()] if file.exists() else []


def add_line(file: Path, line: Mapping[str, Any]) -> None:
    with file.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(line) + "\n")


def difference(gaps: Sequence[float]) -> str:
    """`+1.4 ± 13.4`: the mean of paired differences, one a seed, and half of its 95 % interval (Student's t)."""
    from scipy.stats import t

    half = t.ppf(0.975, len(gaps) - 1) * np.std(gaps, ddof=1) / math.sqrt(len(gaps)) if len(gaps) > 1 else math.nan
    return f"{np.mean(gaps):+.1f} ± {half:.1f}"
