"""A registered version as the rest of this program sees it. Must not import mlflow."""

import re
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hpo.records import Decision, Origin
from hpo.registry.succession import COPY_OF, LOST_TO

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

DECISION = "hpo.decision"
"""The tag of a version that holds its Decision, as JSON."""

ORIGIN = "hpo.origin"
"""The same for its Origin."""

SHA256 = "hpo.sha256"
"""Of its weights."""


class Version(BaseModel):
    """A registered model version. run_id: the run that it came from. alias: what this program calls it, if anything.
    created: seconds since the epoch."""

    model_config = ConfigDict(frozen=True)

    name: str
    number: int
    run_id: str | None = None
    alias: str | None = None
    created: float = 0.0
    tags: dict[str, str] = Field(default_factory=dict)

    @property
    def uri(self) -> str:
        """models:/NAME@ALIAS, or models:/NAME/NUMBER where it has no alias."""
        return f"models:/{self.name}@{self.alias}" if self.alias else f"models:/{self.name}/{self.number}"

    @property
    def lost_to(self) -> int | None:
        """The champion that was promoted while this one was tested: what was decided of this one does not hold."""
        return int(self.tags[LOST_TO]) if LOST_TO in self.tags else None

    @property
    def decision(self) -> Decision | None:
        """None for a version from elsewhere, and for one that was made before decisions were stored."""
        try:
            return Decision.model_validate_json(self.tags.get(DECISION, ""))
        except ValidationError:
            return None

    @property
    def origin(self) -> Origin | None:
        """None where it was not told."""
        try:
            return Origin.model_validate_json(self.tags.get(ORIGIN, ""))
        except ValidationError:
            return None


def version_of(found: "ModelVersion", alias: str | None) -> Version:
    return Version(
        name=found.name,
        number=int(found.version),
        run_id=found.run_id or None,
        alias=alias,
        created=(found.creation_timestamp or 0) / 1000,
        tags=dict(found.tags),
    )


def model_id_of(found: "ModelVersion") -> str | None:
    """Of the logged model whose files it has. MLflow 3.17 forgets it, and its server takes no files without it."""
    inside = re.search(r"/models/(m-[0-9a-f]+)/", found.source or "")
    return inside.group(1) if inside else found.model_id


def is_copy(found: "ModelVersion") -> bool:
    """Whether a person made it of another version."""
    return COPY_OF in found.tags
