"""The model registry: registers a checkpoint as a version, applies a Decision to it, and knows who is champion.

The rooms: `chain` (who is champion, pure), `succession` (the chain in MLflow, the alias), `by_hand` (what people do
past the gate), `packing` (a checkpoint as an MLflow model), `files`, `words`. Must not know how models are trained or
compared; it reads no weights.
"""

import shutil
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from hpo import crash
from hpo.errors import ModelError
from hpo.mlflow_client import open_client, translated
from hpo.records import Decision, Origin
from hpo.registry import by_hand, files, packing, words
from hpo.registry.chain import Chain
from hpo.registry.packing import Asked, Example
from hpo.registry.succession import AGAINST, CHALLENGER, CHAMPION, LOST_TO, VERDICT, Succession
from hpo.registry.version import DECISION, ORIGIN, SHA256, Version, is_copy, model_id_of, version_of

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

__all__ = ["CHALLENGER", "CHAMPION", "Example", "Past", "Registry", "Standing", "Version"]


class Standing(BaseModel):
    """Who has to be beaten now. seen: the highest version number when it was looked up, for the decision to keep."""

    champion: Version | None
    seen: int


class Past(BaseModel):
    """All that a name has been: its chain, and its versions by number."""

    chain: Chain
    versions: dict[int, Version]


class Registry:
    """The registry at an MLflow uri. Every method raises ServiceError where MLflow or its disk does not answer."""

    def __init__(self, uri: str, client: "MlflowClient | None" = None) -> None:
        """client: of that uri, where one is open."""
        self._uri = uri
        self._given = client

    def champion(self, name: str) -> Version | None:
        """The version of `name` that has the alias."""
        return self._by_alias(name, CHAMPION)

    def standing(self, name: str) -> Standing:
        """Who has to be beaten. A promotion that was cut short before it moved the alias is finished first."""
        with translated(self._uri):
            found = self._succession(name).settle()
        champion = found.chain.champion
        alias = CHAMPION if champion is not None and champion == found.chain.alias else None
        return Standing(
            champion=version_of(found.versions[champion], alias) if champion is not None else None,
            seen=found.chain.seen,
        )

    def past(self, name: str) -> Past:
        """The whole chain, as it is. Raises ModelError where the registry has no such model."""
        with translated(self._uri):
            found = self._succession(name).read()
        if not found.versions:
            raise ModelError(f"{name}: the registry has no versions of it; it has {self._known(f'models:/{name}')}")
        versions = {number: version_of(version, None) for number, version in found.versions.items()}
        return Past(chain=found.chain, versions=versions)

    def rollback(self, name: str, *, to: int | None, by: str, reason: str | None) -> Version:
        """Make the champion before the present one, or the earlier champion `to`, champion again, as a new version.

        Raises ModelError where there is none, and where somebody else was promoted meanwhile.
        """
        self.past(name)
        with translated(self._uri):
            return by_hand.rollback(self._succession(name), to=to, by=by, reason=reason)

    def promote(self, name: str, number: int, *, by: str, reason: str | None) -> Version:
        """Make a version champion past the gate, as a new version. Raises ModelError as `rollback` does."""
        self.past(name)
        with translated(self._uri):
            return by_hand.promote(self._succession(name), number, by=by, reason=reason)

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
                with packing.addressed(self._uri):
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

    def attach(self, version: Version, files: Path, place: str, tags: Mapping[str, str]) -> str:
        """Put what a folder holds beside the model, under `place` of the run that it comes from, and tags on the
        version; returns where. A second time replaces the first. Raises ModelError where it comes from no run."""
        if version.run_id is None:
            raise ModelError(f"{version.uri}: it comes from no run, so nothing can be put beside it; use the files")
        with translated(self._uri):
            self._client.log_artifacts(version.run_id, str(files), place)
            for key, value in tags.items():
                self._client.set_model_version_tag(version.name, str(version.number), key, value)
        return f"runs:/{version.run_id}/{place}"

    def decided(self, name: str, run_id: str, checkpoint: Path) -> tuple[Version, Decision] | None:
        """What `register` did already with the same weights of the same run: the version, under the alias that it has
        now, and the decision that is stored on it. None where it did nothing that counts, or was overtaken.

        A version without an alias is one that a crash kept from its alias, or that a later one took it from:
        `register` with that decision gives it in the first case, and changes nothing in the second.
        """
        digest = files.sha256_of_weights(checkpoint)
        with translated(self._uri):
            there = self._registered(name, run_id, digest)
            if there is None or (decision := version_of(there, None).decision) is None:
                return None
            chain = self._succession(name).read().chain
            if chain.lost_to(int(there.version)) is not None:
                return None
            there = self._client.get_model_version(name, there.version)  # a search does not tell aliases
        return version_of(there, next((own for own in (CHAMPION, CHALLENGER) if own in there.aliases), None)), decision

    def register(
        self,
        name: str,
        checkpoint: Path,
        *,
        pipeline: Any,
        decision: Decision,
        run_id: str,
        task: Asked,
        labels: Sequence[str],
        examples: Sequence[Example],
        tags: Mapping[str, str],
        origin: Origin | None = None,
        beside: Path | None = None,
    ) -> Version:
        """Log the checkpoint as a model of `run_id`, register it, and give it the alias that it earned.

        pipeline: of `transformers`, over that checkpoint (MLflow 3.17 can't read the folder itself with transformers
        5.23); None for a task without one, which this program serves itself. The run may have ended. examples: a few
        rows as users will send them. beside: a folder whose files go with the model. The same weights of the same run
        are registered once: repeating a call that a crash cut short finishes it, by the decision that was stored then
        whatever is given now, and takes no alias from a later version. Only what was kept by another gate takes the
        decision that is given.

        decision: with `seen` and `against` of the `standing` that it was made on (ValueError without). Where the
        version that comes back has `lost_to`, another one was promoted meanwhile: ask for the standing, decide and
        register again until it has not. The model is logged once.
        """
        if decision.seen is None:
            raise ValueError("a decision without `seen` can't be placed; make it on Registry.standing(name)")
        digest = files.sha256_of_weights(checkpoint)
        about = words.of_version(decision, origin)
        with translated(self._uri):
            succession = self._succession(name)
            there = self._registered(name, run_id, digest)
            enter = partial(
                succession.enter,
                verdict=decision.verdict,
                seen=decision.seen,
                run_id=run_id,
                tags={SHA256: digest, **_evidence(decision, origin), **tags},
                description=about,
            )
            if there is None:
                logged = packing.log_model(
                    self._client, self._uri, name, checkpoint, pipeline, about, run_id, task, labels, examples, beside
                )
                self._create_model(name, words.of_model(name, task.usage(labels), self._uri))
                source = self._client.get_logged_model(logged).artifact_location
                crash.at("promotion-model")
                there = enter(source=source, model_id=logged)
            elif succession.read().chain.lost_to(int(there.version)) is None and (
                (stored := version_of(there, None).decision) is None or _holds(stored, decision)
            ):
                decision = stored or decision
            elif decision.verdict == "promote":
                there = enter(source=there.source, model_id=model_id_of(there))
            else:
                self._judge_again(there, {**_evidence(decision, origin), VERDICT: "keep"}, about)
            crash.at("promotion-version")
            return self._give_alias(succession, there, decision, origin)

    def _give_alias(
        self, succession: Succession, version: "ModelVersion", decision: Decision, origin: Origin | None
    ) -> Version:
        name, number = version.name, int(version.version)
        if decision.verdict == "keep":
            alias = CHALLENGER if succession.challenge(number) else None
            return version_of(self._client.get_model_version(name, version.version), alias)
        chain = succession.settle().chain
        lost_to = chain.lost_to(number)
        if lost_to is not None:
            self._judge_again(version, {LOST_TO: str(lost_to)}, words.of_version(decision, origin, lost_to))
        alias = CHAMPION if chain.alias == number else None
        return version_of(self._client.get_model_version(name, version.version), alias)

    def _judge_again(self, version: "ModelVersion", tags: Mapping[str, str], about: str) -> None:
        for key, value in tags.items():
            self._client.set_model_version_tag(version.name, version.version, key, value)
        self._client.update_model_version(version.name, version.version, about)

    def _create_model(self, name: str, about: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(name, description=about)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _succession(self, name: str) -> Succession:
        return Succession(self._client, name)

    @cached_property
    def _client(self) -> "MlflowClient":
        return self._given or open_client(self._uri)

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
        return version_of(found, alias)

    def _by_number(self, name: str, number: int) -> Version | None:
        with translated(self._uri):
            from mlflow.exceptions import MlflowException

            try:
                return version_of(self._client.get_model_version(name, str(number)), None)
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
        """The newest version that `register` made of these weights."""
        versions = self._client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
        own = [version for version in versions if version.tags.get(SHA256) == digest and not is_copy(version)]
        return max(own, key=lambda version: int(version.version), default=None)


def _evidence(decision: Decision, origin: Origin | None) -> dict[str, str]:
    """Tags: the whole as JSON, and beside it what people sort and search by."""
    figures = {
        "test_score": decision.challenger_score,
        "champion_score": decision.champion_score,
        "improvement": decision.improvement,
        "p_value": decision.p_value,
    }
    tags = {f"hpo.{key}": f"{value:.6g}" for key, value in figures.items() if value is not None}
    tags |= {DECISION: decision.model_dump_json(), "hpo.reasons": "; ".join(decision.reasons)}
    if decision.against is not None:
        tags[AGAINST] = str(decision.against)
    return tags | ({ORIGIN: origin.model_dump_json()} if origin else {})


def _holds(stored: Decision, given: Decision) -> bool:
    """A promotion is not judged again, nor what was kept by the same gate."""
    return stored.verdict == "promote" or stored.is_under(given.min_improvement, given.confidence, given.limits)


def _is_absent(error: Exception) -> bool:
    """Whether MLflow means that a name, an alias or a version does not exist."""
    code = getattr(error, "error_code", "")
    return code == "RESOURCE_DOES_NOT_EXIST" or (code == "INVALID_PARAMETER_VALUE" and "alias" in str(error))
