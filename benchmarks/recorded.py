"""The recorded learning curves as the benchmarks read them, and the tables that they leave in the docs."""

import json
import math
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from hpo import config
from hpo.config.points import first_points
from hpo.records import Seeds, TrialConfig
from hpo.runners.replay import Curve, ReplayObjective, read_curves
from hpo.runners.toy import TimedToy
from hpo.space import Params

CURVES = Path(__file__).with_name("curves")
RESULTS = Path(__file__).with_name("results")
DOCS = Path(__file__).resolve().parent.parent / "docs" / "search.md"

VALIDATION_ROWS = {"sst2": 872, "rte": 277}
GRID_POINTS = 18
METRIC = "accuracy"


@dataclass(frozen=True)
class Recorded:
    """A task's recorded trials. study: its space, with a search of its own to be filled in by the benchmark."""

    name: str
    study: config.StudyConfig
    curves: tuple[Curve, ...]

    @cached_property
    def objective(self) -> ReplayObjective:
        return ReplayObjective(self.study.space, self.curves)

    def worth(self, params: Params) -> float:
        """What a trial would have become, stopped or not."""
        return self.objective.nearest(params)[0].best(METRIC)

    @property
    def draws(self) -> tuple[Curve, ...]:
        """The random trials."""
        return tuple(curve for curve in self.curves if curve.origin == "random")

    @property
    def grid(self) -> tuple[Curve, ...]:
        """The trials of the BERT paper's grid; none of them before all are there."""
        found = tuple(curve for curve in self.curves if curve.origin == "bert-paper-grid")
        return found if len(found) == GRID_POINTS else ()

    @property
    def grid_points(self) -> list[tuple[int, Params]]:
        return [(curve.number, curve.params) for curve in self.grid]

    @property
    def target(self) -> float:
        """One standard error below the best of the grid; below the best of all as long as the grid is not recorded."""
        return max((curve.best(METRIC) for curve in self.grid), default=self.best) - self.error

    @property
    def best(self) -> float:
        return max(curve.best(METRIC) for curve in self.curves)

    @property
    def error(self) -> float:
        """One standard error of the best accuracy over the validation rows."""
        return math.sqrt(self.best * (1.0 - self.best) / VALIDATION_ROWS[self.name])

    def searched(self, **sections: Any) -> config.StudyConfig:
        """The study with other sections, such as search and budget."""
        return self.study.model_copy(update=sections)


@dataclass(frozen=True)
class MadeUp:
    """A toy over the same space: a smooth optimum that no trial hits by chance, where recorded ones are few."""

    study: config.StudyConfig
    name: str = "toy"
    objective: TimedToy = field(default_factory=lambda: TimedToy(noise=0.0))
    rows: int = 1000

    @property
    def grid_points(self) -> list[tuple[int, Params]]:
        points = first_points(["bert-paper-grid"], self.study.space)
        return [(number, params) for number, (_, params) in enumerate(points)]

    @property
    def target(self) -> float:
        """One standard error below the best of all."""
        return self.best - math.sqrt(self.best * (1.0 - self.best) / self.rows)

    @cached_property
    def best(self) -> float:
        source = random.Random(0)
        return max(self.worth(self.study.space.draw(source)) for _ in range(5_000))

    def worth(self, params: Params) -> float:
        return max(report.metrics[METRIC] for report in self.objective(TrialConfig(0, params, Seeds(0, 0))))

    def searched(self, **sections: Any) -> config.StudyConfig:
        return self.study.model_copy(update=sections)


def load(name: str, file: Path | None = None, overrides: Sequence[str] = ()) -> Recorded:
    """The trials of benchmarks/curves/<name>.jsonl, or of another `file`. overrides: as for python -m hpo.run."""
    file = file or CURVES / f"{name}.jsonl"
    rows = [f"data.files.{split}={file}" for split in ("train", "validation")]  # must exist; replay reads no rows
    return Recorded(name, config.load(CURVES / f"{name}.yaml", [*rows, *overrides]), tuple(read_curves(file)))


def available(at_least: int = 24) -> list[Recorded]:
    """The tasks with so many random trials."""
    tasks = [load(name) for name in VALIDATION_ROWS if (CURVES / f"{name}.jsonl").is_file()]
    return [task for task in tasks if len(task.draws) >= at_least]


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; all columns but the first are figures."""
    lines = [head, ["---", *(["---:"] * (len(head) - 1))], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_section(name: str, text: str, file: Path = DOCS) -> None:
    """Put `text` between the marks `<!-- name -->` and `<!-- /name -->` of a document that has them."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    document = file.read_text("utf-8")
    before, found, rest = document.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise SystemExit(f"{file} has no place for this table: write the lines {begin} and {end}")
    _replace(file, f"{before}{begin}\n{text}\n{end}{after}")


def write_json(name: str, settings: Mapping[str, Any], figures: Mapping[str, Sequence[object]]) -> Path:
    """settings: of the whole run. figures: lists of dataclass objects, each of which becomes a line."""
    RESULTS.mkdir(exist_ok=True)
    lists = [
        f' "{key}": [\n' + ",\n".join(f"  {json.dumps(_rounded(vars(one)))}" for one in own) + "\n ]"
        for key, own in figures.items()
    ]
    plain = [f' "{key}": {json.dumps(value)}' for key, value in settings.items()]
    file = RESULTS / f"{name}.json"
    _replace(file, "{\n" + ",\n".join((*plain, *lists)) + "\n}\n")
    return file


def _rounded(value: Any) -> Any:
    match value:
        case float():
            return round(value, 6)
        case tuple():
            return [_rounded(one) for one in value]
        case dict():
            return {key: _rounded(one) for key, one in value.items()}
    return value


def _replace(file: Path, text: str) -> None:
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    temporary.write_text(text, "utf-8")
    temporary.rename(file)
