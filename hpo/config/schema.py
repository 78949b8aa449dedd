"""What a space file says, as frozen models. Owns the sections of its own; the others come from the rooms they steer.

Checks of one section are here or with the section; those between sections are in `checks`. Must import nothing heavy.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails

from hpo.config import points
from hpo.config.parameters import parse_space, written
from hpo.config.rules import bind
from hpo.config.sections import BudgetConfig, CheckpointsConfig, ConfirmConfig, ResourcesConfig, Section
from hpo.config.syntax import dotted, dump, shown
from hpo.config.wording import explain
from hpo.data import DataConfig
from hpo.errors import ConfigError, Problem
from hpo.mlflow_client import without_password
from hpo.objectives import Limits, Mode, mode_of
from hpo.promotion import PromotionConfig
from hpo.samplers import Sampler, TpeConfig
from hpo.schedulers import AshaConfig, SchedulerUnion
from hpo.space import Choice, Fixed, Scalar, SearchSpace
from hpo.tasks import MaskedLm, Task
from hpo.tracking import TrackingConfig

PACKAGE = "package:"
DEFAULT_TRIALS = 20

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
_HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?")


def said(model: BaseModel, dumped: dict[str, Any]) -> dict[str, Any]:
    """`dumped` without every null that only repeats a default; one that stands against a default is kept."""
    kept = {}
    for name, info in type(model).model_fields.items():
        key, own = info.alias or name, getattr(model, name)
        if key in dumped and not (own is None and info.default is None):
            kept[key] = said(own, dumped[key]) if isinstance(own, BaseModel) else dumped[key]
    return kept


def checked_name(name: str) -> str:
    """A name that becomes a folder. ValueError."""
    if not _NAME.fullmatch(name):
        rule = "only letters, digits, `.`, `_` and `-`, no leading dot, at most 100 characters"
        raise ValueError(f"{shown(name)} becomes a folder: {rule}; rename it")
    return name


def _typed(default: str) -> BeforeValidator:
    """`tpe` is short for {type: tpe}, and a mapping without a type is of the default one."""

    def expand(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {"type": default, **value}
        return {"type": value} if isinstance(value, str) else value

    return BeforeValidator(expand)


def _parsed(value: Any) -> SearchSpace:
    if isinstance(value, SearchSpace):
        return value
    if not isinstance(value, Mapping):
        raise ValueError(f"{shown(value)} is not a section of keys; write a hyperparameter and its range a line")
    space, faults = parse_space(value)
    if faults:
        raise ValueError("; ".join(f"{dotted(path)}: {message}" for path, message in faults))
    return space


def models_of(space: SearchSpace) -> tuple[str, ...]:
    """The names that `space.model` lists; () where the model is not searched."""
    match space.parameters.get("model"):
        case Choice(values):
            return tuple(map(str, values))
        case Fixed(value):
            return (str(value),)
    return ()


class ModelConfig(Section):
    """name: a Hub id, a folder, or package:<distribution> for weights shipped in a Python package; where `space.model`
    lists several, the first of them. revision: of this one. teacher: a finished model of the same task,
    models:/NAME@champion or a checkpoint's folder, that `distillation_weight` learns from."""

    name: str
    revision: str | None = None
    teacher: Annotated[str, Field(min_length=1)] | None = None

    @field_validator("name")
    @classmethod
    def _can_be_a_model(cls, name: str) -> str:
        if not Path(name).is_absolute() and not _HUB_ID.fullmatch(name.removeprefix(PACKAGE)):
            raise ValueError(
                f"{shown(name)} is neither a folder that exists nor a Hub id; write owner/name, a folder, "
                "or package:<distribution>"
            )
        return name

    @model_validator(mode="after")
    def _only_the_hub_has_revisions(self) -> Self:
        if self.revision is not None and (self.name.startswith(PACKAGE) or Path(self.name).is_absolute()):
            raise ValueError("revision is given, but only models of the Hub have revisions; remove it")
        return self


class AdaptConfig(Section):
    """Each trial's model is first adapted to texts of the task's domain, which need no labels. Its hyperparameters are
    in the space, as `adapt_learning_rate`; `adapt: [false, true]` there lets the search decide whether it is done."""

    task: MaskedLm
    data: DataConfig


class StagesConfig(Section):
    """What comes before the training for the task."""

    adapt: AdaptConfig


class SearchConfig(Section):
    """How trials are proposed, stopped and compared.

    metric, mode: None takes the task's own; several metrics, the leading one first, each have the mode that is theirs.
    first: points that are tried before the sampler's; a mapping names what differs from the default configuration.
    warm_start: other studies whose trials are taken over: their names (`*` for any letters), folders or ledger URLs.
    """

    sampler: Annotated[Sampler, _typed("tpe")] = TpeConfig()
    scheduler: Annotated[SchedulerUnion, _typed("asha")] = AshaConfig()
    metric: str | Annotated[tuple[str, ...], Field(min_length=1, max_length=4)] | None = None
    mode: Literal["min", "max"] | None = None
    first: tuple[points.First, ...] = ("default",)
    warm_start: tuple[Annotated[str, Field(min_length=1)], ...] = ()


class StudyConfig(Section):
    """A whole space file, checked and resolved: paths are absolute, `{date}` and `{number}` are put in, defaults
    are filled in.

    constraints: rules between hyperparameters of the space, which leaves out the assignments that break one.
    storage: the folder of all studies, as seen from where the command runs. ledger: a database for the trials, instead
    of a file of the study's folder. base: the folder of the space file.
    """

    study: str
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 17
    model: ModelConfig
    task: Task
    data: DataConfig
    stages: StagesConfig | None = None
    space: Annotated[SearchSpace, PlainValidator(_parsed), PlainSerializer(written)]
    constraints: tuple[str, ...] = ()
    search: SearchConfig = SearchConfig()
    budget: BudgetConfig = BudgetConfig(trials=DEFAULT_TRIALS)
    resources: ResourcesConfig = ResourcesConfig()
    confirm: ConfirmConfig | None = None
    promotion: PromotionConfig | None = None
    tracking: TrackingConfig = Field(default_factory=TrackingConfig)
    storage: Path = Path("studies")
    ledger: str | None = None
    checkpoints: CheckpointsConfig = CheckpointsConfig()
    base: Path = Path()

    @field_validator("study")
    @classmethod
    def _becomes_a_folder(cls, study: str) -> str:
        return checked_name(study)

    @field_validator("storage", mode="before")
    @classmethod
    def _is_a_folder(cls, storage: Any) -> Any:
        if isinstance(storage, str) and "://" in storage:
            raise ValueError(
                f"{shown(storage)} is a URL, but checkpoints need a folder; name one that all nodes see, "
                "and give S3 to MLflow's server, which keeps models and reports there"
            )
        if storage == "":
            raise ValueError("the name is empty; name a folder, such as studies")
        return storage

    @field_validator("ledger")
    @classmethod
    def _is_a_server(cls, ledger: str | None) -> str | None:
        if ledger is None:
            return ledger
        shown_url = without_password(ledger)
        if not re.match(r"postgresql\+psycopg2://[^/]+/[^/?]+", ledger):
            raise ValueError(
                f"{shown_url!r} is no PostgreSQL; write postgresql+psycopg2://USER@HOST/DATABASE, or leave it out"
            )
        if shown_url != ledger:
            raise ValueError(
                f"{shown_url!r} holds a password, which would be kept with the study; "
                "put it into PGPASSWORD or PGPASSFILE"
            )
        return ledger

    @model_validator(mode="after")
    def _experiment_is_named(self) -> Self:
        """Runs within construction, before anybody holds the object."""
        if self.tracking.experiment is None:
            self.__dict__["tracking"] = self.tracking.model_copy(update={"experiment": self.study})
        return self

    @model_validator(mode="after")
    def _space_keeps_the_constraints(self) -> Self:
        space, faults = bind(self.space, self.constraints, self.task)
        if faults:
            details: list[InitErrorDetails] = [
                {"type": "value_error", "loc": path, "input": None, "ctx": {"error": ValueError(message)}}
                for path, message in faults
            ]
            raise ValidationError.from_exception_data(type(self).__name__, details)
        self.__dict__["space"] = space
        return self

    @property
    def folder(self) -> Path:
        """Where this study's ledger and checkpoints lie."""
        return self.storage / self.study

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models that trials start from, that of the default configuration first."""
        return models_of(self.space) or (self.model.name,)

    @property
    def objectives(self) -> dict[str, Mode]:
        """Every searched metric with its mode, the leading one first."""
        asked = self.search.metric or self.task.default_metric
        names = (asked,) if isinstance(asked, str) else asked
        modes = {name: mode_of(name) for name in names}
        return modes if self.search.mode is None else {**modes, names[0]: self.search.mode}

    @property
    def metric(self) -> str:
        """The leading one."""
        return next(iter(self.objectives))

    @property
    def mode(self) -> Mode:
        return self.objectives[self.metric]

    @property
    def limits(self) -> Limits:
        """What a winner has to keep, by `promotion.limits`."""
        asked = self.promotion.limits if self.promotion else {}
        return Limits(asked, {name: mode_of(name) for name in asked})

    def default_point(self) -> dict[str, Scalar]:
        """The default configuration, for every parameter that varies."""
        return points.default_point(self.space)

    def moved_default(self) -> dict[str, tuple[Scalar, Scalar]]:
        """What of it the space has no room for: the usual value, and the nearest one that there is."""
        return points.moved_default(self.space)

    def first_points(self) -> list[tuple[str, dict[str, Scalar]]]:
        """(origin, params) of `search.first`, each as near to what was asked for as the space allows, none twice."""
        return points.first_points(self.search.first, self.space)

    def left_out_points(self) -> tuple[str, ...]:
        """What of `search.first` breaks a constraint, in words."""
        return points.left_out(self.search.first, self.space)

    def document(self) -> str:
        """The resolved space file as YAML, for people: without passwords and without `base`."""
        values = said(self, self.model_dump(mode="json", by_alias=True, exclude={"base"}))
        values["tracking"]["uri"] = without_password(values["tracking"]["uri"])
        return dump(values)

    def to_json(self) -> str:
        """All of it; `from_json` gives an equal object back. Holds a password where the tracking URI has one."""
        return json.dumps(said(self, self.model_dump(mode="json", by_alias=True)), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """ConfigError where `text` is not what `to_json` wrote."""
        try:
            return cls.model_validate(json.loads(text))
        except ValidationError as error:
            faults = [(one["loc"], explain(one)) for one in error.errors(include_url=False)]
            raise ConfigError([Problem(dotted(path), message) for path, message in faults]) from None
        except json.JSONDecodeError as error:
            raise ConfigError([Problem("", f"the saved configuration is not JSON: {error}; restore it")]) from None
