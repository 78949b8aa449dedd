"""The succession of one registered name in MLflow: reads its chain, adds to it, and makes the alias follow.

The only place that moves the alias `champion`. Must not know models, files or tests. Raises what MLflow raises.

What lies where: tags of a version, given with its number, say how it came to be (`hpo.verdict`, `hpo.act`,
`hpo.against`, `hpo.seen`, `hpo.copy_of`); `hpo.champion_since` is added once the alias was seen on it. A tag
`hpo.moving.*` of the registered model names the versions that one writer is just putting the alias on. It lies there
before the alias moves and until the writer has looked again, so a writer that comes too late, or dies, is told from a
person who moved the alias in the MLflow UI: a person's choice is kept, a latecomer's is mended by whoever looks next.
"""

import re
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from hpo import crash
from hpo.errors import ServiceError
from hpo.mlflow_client import store_option
from hpo.registry.chain import Chain, Entry

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CHAMPION = "champion"
CHALLENGER = "challenger"

VERDICT = "hpo.verdict"
ACT = "hpo.act"
AGAINST = "hpo.against"
SEEN = "hpo.seen"
COPY_OF = "hpo.copy_of"
LOST_TO = "hpo.lost_to"
SINCE = "hpo.champion_since"
MOVING = "hpo.moving."

_ROUNDS = 200
_LEFT_BEHIND = 3_600.0
"""Seconds after which the mark of a writer is taken for one that died."""


@dataclass(frozen=True)
class Read:
    """The chain of one moment, and the versions in it by number."""

    chain: Chain
    versions: Mapping[int, "ModelVersion"]


class Succession:
    """Of the versions of `name`, at an open client."""

    def __init__(self, client: "MlflowClient", name: str) -> None:
        self._client = client
        self.name = name

    def command(self, act: str, options: str = "") -> str:
        """What a person can type to see or change it."""
        store = store_option(self._client.tracking_uri)
        return f"python -m hpo.champion {act} --model {self.name}{options}{store}"

    def read(self) -> Read:
        """As it is. The alias is asked for before and after the versions, until nobody moved it meanwhile."""
        for _ in range(_ROUNDS):
            before = self._model()
            versions = self._versions()
            after = self._model()
            alias = _alias(after)
            if alias == _alias(before) and (alias is None or alias in versions):
                entries = tuple(entry_of(version) for version in versions.values())
                return Read(Chain(entries, alias, _moving(before) | _moving(after)), versions)
        raise self._restless()

    def settle(self) -> Read:
        """Put the alias on the head, if it is not there by accident; a person's choice stays. Returns what is then.

        Everybody does this for everybody: whoever finds a promotion that was cut short before its alias finishes it.
        """
        mark, targets = f"{MOVING}{int(time.time())}-{secrets.token_hex(4)}", list[str]()
        for _ in range(_ROUNDS):
            found = self.read()
            head = found.chain.head
            if head is None or found.chain.is_at_rest:
                self._forget(mark if targets else None)
                return found
            if found.chain.alias == head.number:
                since = datetime.now(UTC).isoformat(timespec="seconds")
                with _unless_another_did():
                    self._client.set_model_version_tag(self.name, str(head.number), SINCE, since)
                continue
            targets.append(str(head.number))
            self._client.set_registered_model_tag(self.name, mark, ",".join(targets))
            with _unless_another_did():
                self._client.set_registered_model_alias(self.name, CHAMPION, str(head.number))
            crash.at("promotion-alias")
        raise self._restless()

    def enter(
        self,
        *,
        verdict: Literal["promote", "keep"],
        seen: int,
        source: str | None,
        run_id: str | None,
        model_id: str | None,
        description: str,
        tags: Mapping[str, str],
    ) -> "ModelVersion":
        """A new version, all its tags in one stroke with its number."""
        given = {**tags, VERDICT: verdict, SEEN: str(seen)}
        return self._client.create_model_version(
            self.name, source or "", run_id, tags=given, description=description, model_id=model_id
        )

    def note(self, number: int, key: str, value: str) -> None:
        """Add a tag to a version."""
        self._client.set_model_version_tag(self.name, str(number), key, value)

    def challenge(self, number: int) -> bool:
        """Put the alias `challenger` on a version, unless a later one has it."""
        for _ in range(_ROUNDS):
            model = self._model()
            holder = int(model.aliases.get(CHALLENGER, 0)) if model else 0
            if holder >= number:
                return holder == number
            with _unless_another_did():
                self._client.set_registered_model_alias(self.name, CHALLENGER, str(number))
        raise self._restless()

    def _model(self) -> Any:
        from mlflow.exceptions import MlflowException

        try:
            return self._client.get_registered_model(self.name)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise

    def _versions(self) -> dict[int, "ModelVersion"]:
        found: dict[int, ModelVersion] = {}
        token = None
        while True:
            page = self._client.search_model_versions(
                f"name = '{self.name}'", max_results=10_000, order_by=["version_number ASC"], page_token=token
            )
            found |= {int(version.version): version for version in page}
            if not (token := page.token):
                return found

    def _forget(self, mark: str | None) -> None:
        """Take away the own mark, and those that the dead left behind."""
        model = self._model()
        for key in list(model.tags) if model else []:
            if key == mark or (key.startswith(MOVING) and time.time() - _time_of(key) > _LEFT_BEHIND):
                self._client.delete_registered_model_tag(self.name, key)

    def _restless(self) -> ServiceError:
        return ServiceError(
            f"the alias of {self.name} moved each of the {_ROUNDS} times that it was looked at; find out who else "
            "moves it, and repeat the command"
        )


@contextmanager
def _unless_another_did() -> Iterator[None]:
    """Two that write the first alias or tag at once: MLflow inserts twice, and the database refuses the second. Whoever
    is refused looks again."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if not re.search("IntegrityError|UniqueViolation", str(error)):
            raise


def entry_of(version: "ModelVersion") -> Entry:
    """A version from elsewhere is no promotion; one from before `hpo.seen` was written stands as it is."""
    number, tags = int(version.version), version.tags
    act = tags.get(ACT)
    return Entry(
        number=number,
        is_promoted=tags.get(VERDICT) == "promote",
        act="by-hand" if act == "by-hand" else "rollback" if act == "rollback" else "gate",
        against=_number(tags.get(AGAINST)),
        seen=_number(tags.get(SEEN), number - 1) or 0,
        copy_of=_number(tags.get(COPY_OF)),
        is_settled=SINCE in tags or SEEN not in tags,
        lost=_number(tags.get(LOST_TO)),
    )


def _number(text: str | None, default: int | None = None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else default


def _alias(model: Any) -> int | None:
    return _number(str(model.aliases.get(CHAMPION, ""))) if model else None


def _moving(model: Any) -> frozenset[int]:
    texts = [value for key, value in model.tags.items() if key.startswith(MOVING)] if model else []
    return frozenset(int(number) for text in texts for number in text.split(",") if number.isdecimal())


def _time_of(mark: str) -> float:
    return float(_number(mark.removeprefix(MOVING).partition("-")[0]) or 0)
