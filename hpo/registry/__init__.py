"""The model registry: registers a checkpoint as a version and applies a Decision to it.

The only place that moves an alias. Owns how a model lies in MLflow, so that `hpo.predict`, `mlflow.pyfunc` and
`mlflow models serve` can use it. Must not know how models are trained or compared; it reads no weights.

A served model takes `{"inputs": ["one text", ...]}`, and for sentence pairs
`{"inputs": [{"text": "one", "text_pair": "other"}, ...]}`; it answers
`{"predictions": [{"label": ..., "score": ...}, ...]}`, where the score of a regression is its number.
"""

import json
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version as version_of
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hpo.errors import ModelError
from hpo.mlflow_client import open_client, translated
from hpo.records import Decision
from hpo.registry import files, words

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.models import ModelSignature

CHAMPION = "champion"
CHALLENGER = "challenger"
DECISION = "hpo.decision"
"""The tag of a version that holds its Decision, as JSON."""

_PIPELINES = {"sequence-classification": "text-classification"}

Example: TypeAlias = str | tuple[str, str]
"""A text, or a pair of texts."""


class Version(BaseModel):
    """A registered model version. run_id: the run that it came from. alias: what this program calls it, if anything."""

    model_config = ConfigDict(frozen=True)

    name: str
    number: int
    run_id: str | None = None
    alias: str | None = None
    tags: dict[str, str] = Field(default_factory=dict)

    @property
    def uri(self) -> str:
        """models:/NAME@ALIAS, or models:/NAME/NUMBER where it has no alias."""
        return f"models:/{self.name}@{self.alias}" if self.alias else f"models:/{self.name}/{self.number}"


class Registry:
    """The registry at an MLflow uri. Every method raises ServiceError where MLflow or its disk does not answer."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._open: MlflowClient | None = None

    def champion(self, name: str) -> Version | None:
        """The present champion among the versions of `name`."""
        return self._by_alias(name, CHAMPION)

    def resolve(self, uri: str) -> Version:
        """The version that models:/NAME@ALIAS or models:/NAME/NUMBER means. Raises ModelError where there is none."""
        found = self._find(uri)
        if found is None:
            raise ModelError(f"{uri}: the registry has no such version; it has {self._known(uri)}")
        return found

    def has(self, uri: str) -> bool:
        """Whether there is (still) a version that `uri` means, by one request. Raises ModelError if it names none."""
        return self._find(uri) is not None

    def fetch(self, version: Version, folder: Path) -> Path:
        """Copy the model below `folder`: weights, config and tokenizer in one folder, which is returned. Beside them
        `task.json`: the task and its labels, as they were registered.

        Raises ModelError where the version or some of its files are gone, ServiceError where they can't be asked for.
        """
        source = f"models:/{version.name}/{version.number}"
        target = folder / f"version-{version.number}"
        shutil.rmtree(target, ignore_errors=True)
        with translated(self._uri):
            from mlflow.exceptions import MlflowException

            client = self._client
            target.mkdir(parents=True)
            try:
                client.get_model_version(version.name, str(version.number))
                with _addressed(self._uri):
                    from mlflow.artifacts import download_artifacts

                    whole = Path(download_artifacts(source, dst_path=str(target), registry_uri=self._uri))
            except MlflowException as error:
                if not _is_absent(error):
                    raise
                said = str(error).strip().partition("\n")[0][:300]
                raise ModelError(
                    f"{source}: it is gone ({said}); name another version, or register it again"
                ) from error
            return files.gather(whole, source)

    def decided(self, name: str, run_id: str, checkpoint: Path) -> tuple[Version, Decision] | None:
        """What `register` did already with the same weights of the same run: the version, under the alias that it has
        now, and the decision that is stored on it. None where it did nothing that counts.

        A version without an alias is one that a crash kept from its alias, or that a later one took it from:
        `register` with that decision gives it in the first case, and changes nothing in the second.
        """
        digest = files.sha256_of_weights(checkpoint)
        with translated(self._uri):
            there = self._registered(name, run_id, digest)
            if there is None or (decision := _decision(there)) is None:
                return None
            there = self._client.get_model_version(name, there.version)  # a search does not tell aliases
        return _version(there, next((own for own in (CHAMPION, CHALLENGER) if own in there.aliases), None)), decision

    def register(
        self,
        name: str,
        checkpoint: Path,
        *,
        pipeline: Any,
        decision: Decision,
        run_id: str,
        task: BaseModel,
        labels: Sequence[str],
        examples: Sequence[Example],
        tags: Mapping[str, str],
    ) -> Version:
        """Log the checkpoint as a model of `run_id`, register it, and give it the alias that it earned.

        pipeline: of `transformers`, over that checkpoint (MLflow 3.17 can't read the folder itself with transformers
        5.23). The run may have ended. examples: a few rows as users will send them. The same weights of the same run
        are registered once: repeating a call that a crash cut short finishes it, by the decision that was stored then
        whatever is given now, and takes no alias from a later version.
        """
        digest = files.sha256_of_weights(checkpoint)
        with translated(self._uri):
            there = self._registered(name, run_id, digest)
            if there is None:
                model_id = self._log_model(name, pipeline, decision, run_id, task, labels, examples)
                given = {"hpo.sha256": digest, DECISION: decision.model_dump_json(), **tags}
                about = words.of_model(name, json.loads(task.model_dump_json()), labels)
                there = self._create_version(name, run_id, model_id, given, about)
            decision = _decision(there) or decision
            self._write_decision(there, decision)
            alias = self._move_alias(there, CHAMPION if decision.verdict == "promote" else CHALLENGER)
            return _version(self._client.get_model_version(name, there.version), alias)

    @property
    def _client(self) -> "MlflowClient":
        if self._open is None:
            self._open = open_client(self._uri)
        return self._open

    def _find(self, uri: str) -> Version | None:
        rest = uri.removeprefix("models:/").strip("/")
        name, at, alias = rest.partition("@")
        if at:
            return self._by_alias(name, alias)
        name, _, number = rest.partition("/")
        if not number.isdecimal():
            raise ModelError(f"{uri}: this names no version; write models:/NAME@champion or models:/NAME/3")
        return self._by_number(name, int(number))

    def _by_alias(self, name: str, alias: str) -> Version | None:
        with translated(self._uri):
            from mlflow.exceptions import MlflowException

            try:
                found = self._client.get_model_version_by_alias(name, alias)
            except MlflowException as error:
                if _is_absent(error):
                    return None
                raise
        return _version(found, alias)

    def _by_number(self, name: str, number: int) -> Version | None:
        with translated(self._uri):
            from mlflow.exceptions import MlflowException

            try:
                return _version(self._client.get_model_version(name, str(number)), None)
            except MlflowException as error:
                if _is_absent(error):
                    return None
                raise

    def _known(self, uri: str) -> str:
        """What there is instead, in words."""
        name = uri.removeprefix("models:/").strip("/").partition("@")[0].partition("/")[0]
        with translated(self._uri):
            models = {model.name: model for model in self._client.search_registered_models()}
        if name not in models:
            return f"the models {', '.join(sorted(models))}" if models else "no models at all"
        aliases = ", ".join(f"@{alias}" for alias in sorted(models[name].aliases))
        return f"of {name}: {aliases}" if aliases else f"{name}, but none of its versions has an alias"

    def _registered(self, name: str, run_id: str, digest: str) -> "ModelVersion | None":
        versions = self._client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
        return next((own for own in versions if own.tags.get("hpo.sha256") == digest), None)

    def _log_model(
        self,
        name: str,
        pipeline: Any,
        decision: Decision,
        run_id: str,
        task: BaseModel,
        labels: Sequence[str],
        examples: Sequence[Example],
    ) -> str:
        """The id of a logged model of the run. No run is opened for it, so an ended one stays as it is."""
        from mlflow.entities import LoggedModelOutput

        described = json.loads(task.model_dump_json())
        run = self._client.get_run(run_id)
        model = self._client.create_logged_model(run.info.experiment_id, name=files.MODEL, source_run_id=run_id)
        pipeline.model.name_or_path = f"checkpoint of {name}"  # what looks like an id is looked up on the Hub
        limits = {"truncation": True, "max_length": described["max_length"]}
        with _addressed(self._uri):
            from mlflow import transformers

            transformers.log_model(
                pipeline,
                name=files.MODEL,
                model_id=model.model_id,
                task=_PIPELINES[described["type"]],
                pip_requirements=[f"{library}=={_release(library)}" for library in ("torch", "transformers")],
                input_example=_input_example(examples),
                signature=_signature(examples),
                model_config=limits,
                model_card=words.Card(words.of_version(decision)),
                metadata={"hpo": {"task": described, "labels": list(labels)}},
            )
        self._client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 0)])
        self._client.finalize_logged_model(model.model_id, "READY")
        return str(model.model_id)

    def _create_version(
        self, name: str, run_id: str, model_id: str, tags: dict[str, str], about: str
    ) -> "ModelVersion":
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(name, description=about)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        location = self._client.get_logged_model(model_id).artifact_location
        return self._client.create_model_version(name, location, run_id, tags=tags, model_id=model_id)

    def _move_alias(self, version: "ModelVersion", alias: str) -> str | None:
        """The alias, or None where a later version has it: what was decided after this version stands."""
        holder = self._by_alias(version.name, alias)
        if holder is not None and holder.number > int(version.version):
            return None
        self._client.set_registered_model_alias(version.name, alias, version.version)
        return alias

    def _write_decision(self, version: "ModelVersion", decision: Decision) -> None:
        name, number = version.name, version.version
        figures = {
            "test_score": decision.challenger_score,
            "champion_score": decision.champion_score,
            "improvement": decision.improvement,
            "p_value": decision.p_value,
        }
        tags = {f"hpo.{key}": f"{value:.6g}" for key, value in figures.items() if value is not None}
        tags |= {
            DECISION: decision.model_dump_json(),
            "hpo.verdict": decision.verdict,
            "hpo.reasons": "; ".join(decision.reasons),
        }
        for key, value in tags.items():
            self._client.set_model_version_tag(name, number, key, value)
        self._client.update_model_version(name, number, words.of_version(decision))


def _version(found: "ModelVersion", alias: str | None) -> Version:
    return Version(
        name=found.name, number=int(found.version), run_id=found.run_id or None, alias=alias, tags=dict(found.tags)
    )


def _decision(version: "ModelVersion") -> Decision | None:
    """None for a version from elsewhere, and for one that was made before decisions were stored."""
    try:
        return Decision.model_validate_json(version.tags.get(DECISION, ""))
    except ValidationError:
        return None


def _input_example(examples: Sequence[Example]) -> Any:
    """As MLflow stores it: a list of texts, or rows with the columns text and text_pair."""
    import pandas as pd

    if isinstance(examples[0], str):
        return list(examples)
    return pd.DataFrame(examples, columns=["text", "text_pair"])


def _signature(examples: Sequence[Example]) -> "ModelSignature":
    """Texts in; the label and its probability out (for a regression, the number is the score)."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    names = [None] if isinstance(examples[0], str) else ["text", "text_pair"]
    inputs = Schema([ColSpec("string", name) for name in names])
    return ModelSignature(inputs, Schema([ColSpec("string", "label"), ColSpec("double", "score")]))


def _release(library: str) -> str:
    """The version without its build: 2.13.0 of 2.13.0+cpu, which the package index does not have."""
    return version_of(library).partition("+")[0]


def _is_absent(error: Exception) -> bool:
    """Whether MLflow means that a name, an alias or a version does not exist."""
    code = getattr(error, "error_code", "")
    return code == "RESOURCE_DOES_NOT_EXIST" or (code == "INVALID_PARAMETER_VALUE" and "alias" in str(error))


@contextmanager
def _addressed(uri: str) -> Iterator[None]:
    """MLflow's flavours know one address per process; it is this one meanwhile. And silence: they warn of their own
    imports, and of requirements that were left out on purpose."""
    import mlflow

    before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None  # type: ignore[no-untyped-call]
    mlflow.set_tracking_uri(uri)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        mlflow.set_tracking_uri(before)  # type: ignore[arg-type]  # None forgets it, and so the types should say
