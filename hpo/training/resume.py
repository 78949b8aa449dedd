"""What it takes to go on with a training in another process as if nothing had happened: to the bit, on a CPU.

Owns how a training becomes tensors and a bookmark, how often, and the way back. Must not know why it was cut off.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from hpo.errors import DamagedBookmarkError
from hpo.records import Report, TrialConfig
from hpo.space import Params
from hpo.training.bookmarks import BestSoFar, Bookmark, Bookmarks, Pulse, Said, digest_of
from hpo.training.checkpoint import save_tensors
from hpo.training.loop import Evaluation, Progress
from hpo.training.population import Course, State
from hpo.training.recipes.contract import Recipe

if TYPE_CHECKING:
    from hpo.training.loop import Training

_STATE, _BEST, _LOSSES, _RANDOM, _RECIPES = "state/", "best/", "losses", "random/", "recipes/"


@dataclass(frozen=True, slots=True)
class Best:
    """The best evaluation so far, and the model as it was then. params: the values in force, which may change."""

    evaluation: Evaluation
    weights: Mapping[str, torch.Tensor]
    model_config: Mapping[str, Any]
    params: Params


@dataclass(frozen=True)
class Tensors:
    """Everything of a training that is not in its bookmark. state: weights and moments. best: weights of the best
    evaluation so far, empty before the first. losses: (steps,) since the last evaluation. random: states of the
    generators, uint8, by kind of device. recipes: what they keep, by `class/name`."""

    state: State
    best: Mapping[str, torch.Tensor]
    losses: torch.Tensor
    random: Mapping[str, torch.Tensor]
    recipes: Mapping[str, torch.Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, training: "Training", progress: Progress, best: Mapping[str, torch.Tensor]) -> "Tensors":
        random = {"cpu": torch.get_rng_state()}
        if training.where.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(training.where)
        losses = torch.stack([loss.detach().cpu() for loss in progress.losses]) if progress.losses else torch.zeros(0)
        recipes = {
            f"{_key(recipe)}{name}": part.detach().to("cpu", copy=True)
            for recipe in training.recipes
            for name, part in recipe.state().items()
        }
        return cls(State.of(training), best, losses, random, recipes)

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(part.nbytes for part in self._flat().values())

    def save(self, path: Path) -> None:
        save_tensors(self._flat(), path)

    @classmethod
    def load(cls, path: Path) -> "Tensors":
        """Raises DamagedBookmarkError."""
        try:
            flat = load_file(path)
        except (OSError, SafetensorError) as error:
            raise DamagedBookmarkError(f"{path.name} can't be read ({error})") from error
        return cls(
            State.of_flat(dict(_below(flat, _STATE))),
            dict(_below(flat, _BEST)),
            flat[_LOSSES],
            dict(_below(flat, _RANDOM)),
            dict(_below(flat, _RECIPES)),
        )

    def put_into(self, training: "Training") -> None:
        """Weights, optimiser and generators become those of the training that was cut off."""
        self.state.put_into(training)
        for recipe in training.recipes:
            recipe.go_on(training, dict(_below(self.recipes, _key(recipe))))
        torch.set_rng_state(self.random["cpu"])
        if training.where.type == "cuda" and "cuda" in self.random:
            torch.cuda.set_rng_state(self.random["cuda"], training.where)

    def progress(self, mark: Bookmark, where: torch.device) -> Progress:
        return Progress(mark.step, list(self.losses.to(where)), mark.seen, mark.seconds, mark.trained)

    def _flat(self) -> dict[str, torch.Tensor]:
        flat = {f"{_STATE}{name}": part for name, part in self.state.flat().items()}
        flat |= {f"{_BEST}{name}": part.contiguous() for name, part in self.best.items()}
        flat |= {f"{_RANDOM}{name}": part for name, part in self.random.items()}
        flat |= {f"{_RECIPES}{name}": part.contiguous() for name, part in self.recipes.items()}
        return {**flat, _LOSSES: self.losses}


@dataclass
class Keeper:
    """Keeps one trial: shows that it is alive, and writes a bookmark every so often.

    labels: the task's, in the order of their ids. every: seconds between two bookmarks, the first one not before; None:
    no bookmarks. elapsed: seconds that the trial had taken when it was cut off. notes: what the next report has to say.
    """

    config: TrialConfig
    labels: Sequence[str]
    marks: Bookmarks | None
    every: float | None
    pulse: Pulse
    elapsed: float = 0.0
    best: Best | None = None
    said: list[Said] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._began = self._written = time.perf_counter()
        self._has_complained = False

    @property
    def seconds(self) -> float:
        """Since the trial began, the time between a cut and going on left out."""
        return self.elapsed + time.perf_counter() - self._began

    def go_on(self, training: "Training", course: Course) -> tuple[Progress | None, list[Report]]:
        """Put a training that was cut off where it was. What it had reported is to be reported again.

        None: there is nothing to go on from; `notes` says so where it should have been.
        """
        if self.marks is None:
            return None, []
        try:
            found = self.marks.read(self.config.name, digest_of(self.config, self.labels))
            if found is None:
                return None, []
            mark, file = found
            tensors = Tensors.load(file)
        except DamagedBookmarkError as error:
            self.notes.append(f"its bookmark is damaged ({error}) and set aside; it begins again")
            return None, []
        course.go_on(training, mark.params, mark.source)
        tensors.put_into(training)
        if mark.best is not None:
            evaluation = Evaluation(mark.best.step, dict(mark.best.metrics))
            self.best = Best(evaluation, tensors.best, mark.best.architecture, mark.best.params)
        self.elapsed, self.said = mark.elapsed, list(mark.reports)
        self._began = self._written = time.perf_counter()
        self.notes.append(f"it goes on after step {mark.step:,} of {training.total_steps:,}")
        return tensors.progress(mark, training.where), [one.again(self.take_notes()) for one in mark.reports]

    def heard(self, report: Report) -> Report:
        """Keep in mind what is reported."""
        self.said.append(Said.of(report))
        return report

    def take_notes(self) -> tuple[str, ...]:
        """Each is said once."""
        notes, self.notes = tuple(self.notes), []
        return notes

    def between(self, training: "Training", course: Course, progress: Progress) -> None:
        """After every optimiser step."""
        self.pulse()
        now = time.perf_counter()
        if self.marks is None or self.every is None or now - self._written < self.every:
            return
        best = self.best
        tensors = Tensors.of(training, progress, best.weights if best else {})
        mark = Bookmark(
            of=digest_of(self.config, self.labels),
            step=progress.step,
            seen=progress.seen,
            seconds=progress.seconds,
            trained=progress.trained,
            elapsed=self.seconds,
            reports=tuple(self.said),
            best=best
            and BestSoFar(
                step=best.evaluation.step,
                metrics=best.evaluation.metrics,
                architecture=dict(best.model_config),
                params=dict(best.params),
            ),
            params=dict(course.params),
            source=course.source,
        )
        checkpoint = sum(part.nbytes for part in tensors.state.weights.values())
        is_kept = self.marks.write(self.config.name, mark, tensors.size, tensors.save, checkpoint)
        if not is_kept and not self._has_complained:
            self.notes.append(f"no room for a bookmark of {tensors.size / 1e6:,.0f} MB; cut off, it would begin again")
        self._has_complained = not is_kept
        self._written = time.perf_counter()


def _below(flat: Mapping[str, torch.Tensor], prefix: str) -> Iterator[tuple[str, torch.Tensor]]:
    return ((name.removeprefix(prefix), part) for name, part in flat.items() if name.startswith(prefix))


def _key(recipe: Recipe) -> str:
    return f"{type(recipe).__name__}/"
