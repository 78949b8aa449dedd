"""The MLflow mirror of a study: one parent run, one nested child a trial, and one nested in that a fresh seed.

Owns what a person sees in MLflow. Applies events so that a second time changes nothing: runs are found by their tags
before they are created, and metrics carry the time of their event, which makes a repeated one the same row.
Must not be called on a path that a trial waits for (see spool), and is never read back by the study.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hpo import crash
from hpo.errors import ServiceError
from hpo.mlflow_client import kept_store, open_client, sqlite_file, translated, view_path
from hpo.records import (
    AnyEvent,
    DatasetRecord,
    StudyFinished,
    StudyStarted,
    StudyStopped,
    TrialConfirmed,
    TrialDropped,
    TrialFinished,
    TrialNoted,
    TrialReported,
    TrialStarted,
    TrialState,
)
from hpo.space import Scalar
from hpo.tracking import ReplayNeededError, TrackingConfig
from hpo.tracking.entities import (
    TAG_LIMIT,
    also_shown,
    batches,
    best_trial,
    dataset_input,
    key,
    milliseconds,
    names_in,
    number_of,
    params_of,
    replicate_of,
    row_of,
    search,
    seed_runs,
    study_runs,
    trial_runs,
    twins,
)
from hpo.tracking.link import Link, make_link
from hpo.tracking.page import page, varying
from hpo.tracking.provenance import provenance
from hpo.tracking.view import KIND_TAG, run_color, view_tag

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_STATUS = {TrialState.COMPLETE: "FINISHED", TrialState.PRUNED: "KILLED", TrialState.FAILED: "FAILED"}


class MlflowTracker:
    """Applies a study's events to an MLflow store. Connects at the first event; raises ServiceError while it cannot.

    `folder` is the study's. In its `mlflow.json` lies the identity under which MLflow knows the study, so that a
    study made anew under an old name gets a page of its own.
    """

    def __init__(self, config: TrackingConfig, folder: Path) -> None:
        self._config = config
        self._folder = folder
        self._open: MlflowClient | None = None
        self._study: StudyStarted | None = None
        self._experiment_id = ""
        self._parent: str | None = None
        self._lost = self._is_doubled = False
        self._children: dict[tuple[int, int], str] = {}
        self._provenance: dict[str, str] = {}

    def apply(self, event: AnyEvent) -> None:
        if self._open is None:
            self._open = open_client(self._config.uri)
        try:
            with translated(self._config.uri):
                self._apply(event)
        except Exception:
            self._parent = None  # what was asked for may have been done all the same: look before creating again
            raise

    def close(self) -> None:
        """Nothing is kept back, so there is nothing to hand over."""

    @property
    def _client(self) -> "MlflowClient":
        assert self._open is not None
        return self._open

    def _apply(self, event: AnyEvent) -> None:
        match event:
            case StudyStarted():
                self._study = event
                self._start_study(event)
            case TrialStarted():
                self._start_trial(event)
            case TrialReported():
                self._log(self._run_of(event), event.time, event.metrics, event.step)
            case TrialFinished():
                self._finish_trial(event)
            case TrialConfirmed():
                self._confirm_trial(event)
            case TrialNoted():
                self._log(self._run_of(event), event.time, tags={"hpo.note": event.text[:TAG_LIMIT]} | event.tags)
            case TrialDropped():
                tags = {"hpo.dropped": str(event.dropped).lower()}
                self._log(self._child(event.number, event.time), event.time, tags=tags)
            case StudyStopped():
                self._stop_study(event)
            case StudyFinished():
                self._finish_study(event)

    # The study

    def _start_study(self, event: StudyStarted) -> None:
        parent = self._find_parent(event)
        self._set_status(parent, "RUNNING")
        tags = {"hpo.metric": event.metric, "hpo.mode": event.mode, "hpo.status": "running"}
        self._log(parent, event.time, tags=self._summary_tags(parent) | tags | event.tags, params=event.params)
        self._log_datasets(parent, event.datasets)
        self._client.log_text(parent, event.document, "space.yaml")

    def _stop_study(self, event: StudyStopped) -> None:
        parent = self._parent_run()
        for run in self._search_all(parent):
            if run.info.status == "RUNNING":
                self._set_status(run.info.run_id, "SCHEDULED")
        tags = self._summary_tags(parent) | {"hpo.status": "stopped", "hpo.reason": event.reason}
        self._log(parent, event.time, tags=tags)
        self._set_status(parent, "SCHEDULED")

    def _finish_study(self, event: StudyFinished) -> None:
        parent = self._parent_run()
        for run in self._search_all(parent):
            if run.info.status in ("RUNNING", "SCHEDULED"):  # left by a crash, and the budget needed it no more
                self._log(run.info.run_id, event.time, tags={"hpo.reason": "the study finished without it"})
                self._client.set_terminated(run.info.run_id, "KILLED", milliseconds(event.time))
        front = names_in(event.tags.get("pareto"))
        for run in self._search_children(parent):
            is_on_front, said = run.data.tags.get("hpo.trial") in front, run.data.tags.get("hpo.pareto", "false")
            if str(is_on_front).lower() != said:
                self._log(run.info.run_id, event.time, tags={"hpo.pareto": str(is_on_front).lower()})
        tags = self._summary_tags(parent, event) | {"hpo.status": "finished"}
        self._log(parent, event.time, event.metrics, tags=tags | event.tags)
        for path in event.files:
            if path.is_file():
                self._client.log_artifact(parent, str(path))
        self._client.set_terminated(parent, "FINISHED", milliseconds(event.time))

    def _summary_tags(self, parent: str, event: StudyFinished | None = None) -> dict[str, str]:
        """What the trials say together: the names that vary, the winner's params, the page. Updates the view."""
        study = self._study
        if study is None:
            return {}
        runs = self._search_children(parent)
        rows = [row_of(run, study.metric) for run in runs]
        rows = sorted((row for row in rows if row.number >= 0), key=lambda row: row.number)
        searched = names_in(study.tags.get("hpo.searched")) or varying(rows)
        tags = {"mlflow.note.content": page(study, rows, searched, view_path(self._experiment_id, parent), event)}
        tags |= {"hpo.searched": ", ".join(searched)} if searched else {}
        everywhere = [name for name in searched if all(name in row.params for row in rows)]
        self._client.set_experiment_tag(
            self._experiment_id,
            *view_tag(parent, study.metric, study.mode, searched, everywhere, also_shown(runs)),
        )
        best = best_trial(event) if event else None
        winner = next((row for row in rows if row.number == best), None)
        if winner is not None:
            tags |= {f"best_{name}": winner.params[name] for name in searched if name in winner.params}
        return tags

    def _find_parent(self, study: StudyStarted) -> str:
        """The study's run: found by its tags, or created. Raises ReplayNeededError where the store has lost it."""
        link = make_link(self._folder)
        self._experiment_id = self._find_experiment(self._config.experiment or study.study)
        runs = self._search(study_runs(link.id))
        runs.sort(key=lambda run: run.info.run_id != link.parent_run_id)  # else the oldest
        if not runs and link.parent_run_id and not self._lost:
            self._lost = True  # in memory only: who crashes here has to be told everything the next time
            raise ReplayNeededError(f"MLflow has no run of study {study.study!r} any more; it is told everything again")
        self._provenance = self._provenance or provenance()
        if runs:
            parent = str(runs[0].info.run_id)
        else:
            tags = {"hpo.id": link.id, "hpo.kind": "study", "hpo.study": study.study} | self._provenance
            start = milliseconds(study.time)
            run = self._client.create_run(self._experiment_id, start, tags, run_name=study.study)
            parent = str(run.info.run_id)
        own = Link(link.id, self._experiment_id, parent, kept_store(self._config.uri))
        if own != link:
            own.save(self._folder)
        there = self._search_all(parent)
        self._children = {}
        for run in there:
            if (number := number_of(run)) >= 0:
                self._children[number, replicate_of(run)] = str(run.info.run_id)
        self._parent = parent
        return parent

    def _parent_run(self) -> str:
        if self._parent is not None:
            return self._parent
        if self._study is None:
            raise ServiceError("the tracker was not told how the study started; append study_started first")
        return self._find_parent(self._study)

    def _find_experiment(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            return str(self._client.create_experiment(name, self._artifact_location(), KIND_TAG))
        if experiment.lifecycle_stage == "deleted":
            raise MlflowException(
                f"experiment {name!r} is deleted; restore it (mlflow experiments restore -x "
                f"{experiment.experiment_id}) or name another one (tracking.experiment)"
            )
        return str(experiment.experiment_id)

    def _artifact_location(self) -> str | None:
        """Absolute, beside the database: MLflow's own default depends on the folder that one happens to be in."""
        if self._config.uri.startswith("http"):
            return None  # the server knows
        database = sqlite_file(self._config.uri)
        return str((database or self._folder.absolute()).parent / "mlartifacts")

    # Trials

    def _start_trial(self, event: TrialStarted) -> None:
        child = self._run_of(event)
        self._set_status(child, "RUNNING")
        self._log(child, event.time, tags={"hpo.origin": event.origin} | event.tags, params=event.params)
        if self._study is not None:
            self._log_datasets(child, [own for own in self._study.datasets if own.split != "test"])

    def _finish_trial(self, event: TrialFinished) -> None:
        child = self._run_of(event)
        tags = {"hpo.state": str(event.state)} | ({"hpo.reason": event.reason[-TAG_LIMIT:]} if event.reason else {})
        self._log(child, event.time, event.metrics, tags=tags)  # at step 0: the UI draws bars and no lone points
        self._client.set_terminated(child, _STATUS.get(event.state, "FAILED"), milliseconds(event.time))

    def _confirm_trial(self, event: TrialConfirmed) -> None:
        one = event.confirmed
        tags = {"hpo.confirmed": "out" if one.is_out else "confirmed", "hpo.seeds": str(len(one.values))}
        self._log(self._child(one.number, event.time), event.time, one.figures(event.mode), tags=tags)

    def _run_of(self, event: TrialStarted | TrialReported | TrialFinished | TrialNoted) -> str:
        """That of the trial, or of its retraining over fresh seeds."""
        number, time = event.number, event.time
        return self._seed_run(number, event.replicate, time) if event.replicate else self._child(number, time)

    def _child(self, number: int, time: float) -> str:
        """The run of a trial, created where there is none yet."""
        parent = self._parent_run()
        if (number, 0) not in self._children:
            tags = {"mlflow.parentRunId": parent, "hpo.kind": "trial"}
            self._children[number, 0] = self._create(number, time, tags, f"trial-{number:04}")
        return self._children[number, 0]

    def _seed_run(self, number: int, replicate: int, time: float) -> str:
        """Nested in its trial's run; with a kind of its own, so that whoever counts trials does not find it."""
        trial = self._child(number, time)
        if (number, replicate) not in self._children:
            tags = {"mlflow.parentRunId": trial, "hpo.kind": "seed", "hpo.seed": str(replicate)}
            tags["hpo.study_run"] = self._parent_run()
            name = f"trial-{number:04}-seed-{replicate}"
            self._children[number, replicate] = self._create(number, time, tags, name)
        return self._children[number, replicate]

    def _create(self, number: int, time: float, tags: Mapping[str, str], name: str) -> str:
        study = self._study.study if self._study else ""
        common = {"hpo.trial": str(number), "hpo.study": study, "mlflow.runColor": run_color(number)}
        given = {**tags, **common, **self._provenance}
        run = self._client.create_run(self._experiment_id, milliseconds(time), given, run_name=name)
        crash.at("mirror-create")
        return str(run.info.run_id)

    def _search_all(self, parent: str) -> "list[Run]":
        """Trials and retrainings, one run each: a server that was too slow may have made one after it was given up on,
        and then another one when it was asked again."""
        self._remove_other_parents(parent)
        found = [*self._search_children(parent), *self._search_seeds(parent)]
        gone = {str(run.info.run_id) for run in twins(found, self._children)}
        for run_id in gone:
            self._client.delete_run(run_id)
        return [run for run in found if run.info.run_id not in gone]

    def _remove_other_parents(self, parent: str) -> None:
        """Of the study itself there may be two in the same way. Raises ReplayNeededError where trials were told to the
        one that goes."""
        studies = [run.info.run_id for run in self._search(study_runs(make_link(self._folder).id))]
        others = [run_id for run_id in studies if run_id != parent]
        below = [run.info.run_id for own in others for run in (*self._search_children(own), *self._search_seeds(own))]
        if below and not self._is_doubled:
            self._is_doubled = True  # in memory only, and nothing is removed before: who crashes here asks again
            raise ReplayNeededError("MLflow had two runs of the study; the one that stays is told everything again")
        for run_id in (*below, *others):
            self._client.delete_run(run_id)

    def _search_children(self, parent: str) -> "list[Run]":
        """The trials, the oldest first."""
        return self._search(trial_runs(parent))

    def _search_seeds(self, parent: str) -> "list[Run]":
        """The retrainings of all trials, the oldest first."""
        return self._search(seed_runs(parent))

    def _search(self, condition: str) -> "list[Run]":
        return search(self._client, [self._experiment_id], condition)

    # What is common to both

    def _log(
        self,
        run_id: str,
        time: float,
        metrics: Mapping[str, float] | None = None,
        step: int = 0,
        tags: Mapping[str, str] | None = None,
        params: Mapping[str, Scalar] | None = None,
    ) -> None:
        """One `log_batch` where MLflow's limits allow it. A param that the run has with another value becomes a tag:
        MLflow's params never change, but an extended study's do."""
        tags, values = dict(tags or {}), params_of(params or {})
        if values:
            data = self._client.get_run(run_id).data
            now = {name: key(f"hpo.now.{name}") for name in values}
            differing = [name for name, value in values.items() if data.params.get(name, value) != value]
            differing += [name for name in values if now[name] in data.tags]  # it may be the first value again
            tags |= {now[name]: values[name] for name in differing}
            values = {name: value for name, value in values.items() if name not in data.params}
        for batch in batches(time, metrics or {}, step, values, tags):
            self._client.log_batch(run_id, *batch)

    def _log_datasets(self, run_id: str, datasets: Iterable[DatasetRecord]) -> None:
        inputs = [dataset_input(own) for own in datasets]
        if inputs:
            self._client.log_inputs(run_id, inputs)

    def _set_status(self, run_id: str, status: str) -> None:
        self._client.update_run(run_id, status=status)
