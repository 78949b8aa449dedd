"""The winner of a study as the challenger of a registered model: measured against the present champion on the same
test rows, decided on, registered. Must not know how it was found."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hpo.answering import Model, read_about
from hpo.config import StudyConfig
from hpo.data import trained_on
from hpo.encoded import Array, Encoded
from hpo.errors import ModelError
from hpo.promotion import Evidence, PromotionConfig, decide
from hpo.records import Answers, Confirmed, Decision, Origin, TrialRecord
from hpo.registry import Example, Registry, Version
from hpo.runners.machine import cores
from hpo.study.prepare import Prepared
from hpo.study.review import Asked
from hpo.tracking.provenance import provenance
from hpo.training import device, inference

EXAMPLES = 2


@dataclass(frozen=True)
class Challenge:
    """run_id: of the study's parent run, which gets the registered model. say: each step before it begins."""

    config: StudyConfig
    prepared: Prepared
    gate: PromotionConfig
    run_id: str
    say: Callable[[str], None]

    def judge(self, best: TrialRecord, answers: Answers, confirmed: Confirmed | None) -> tuple[Decision, Version]:
        """What becomes of `best`, whose `answers` to the test rows are these; asked again, as before where it holds."""
        assert best.checkpoint is not None
        decision = self._decided(best.checkpoint) or self._decide(answers, best)
        version = self._register(best, decision, confirmed)
        while version.lost_to is not None and decision.verdict == "promote":  # another was promoted meanwhile
            decision = self._decide(answers, best)
            version = self._register(best, decision, confirmed)
        return decision, version

    def _decided(self, folder: Path) -> Decision | None:
        """What was decided of these weights before, if it still holds: a crash may have come after deciding.

        By another gate, what was kept is judged again. What was promoted stays: as champion it is nobody's challenger,
        and what came after it was measured against it.
        """
        there = Registry(self.config.tracking.uri).decided(self.gate.model, self.run_id, folder)
        if there is None:
            return None
        decision = there[1]
        if decision.is_under(self.gate.min_improvement, self.gate.confidence, self.gate.limits):
            return decision
        if decision.verdict == "keep":
            return None
        note = "it was promoted under another gate before; a promotion is not judged again"
        return decision.model_copy(update={"reasons": (*decision.reasons, note)})

    def _decide(self, answers: Answers, best: TrialRecord) -> Decision:
        registry = Registry(self.config.tracking.uri)
        standing = registry.standing(self.gate.model)
        present, digest = standing.champion, self._digest
        champion, known, obstacle = None, None, None
        if present is not None:
            self.say(f"the present champion, version {present.number} of {self.gate.model}, answers them")
            try:
                with TemporaryDirectory(prefix="hpo-champion-") as temporary:
                    folder = registry.fetch(present, Path(temporary))
                    champion, known = self._ask_champion(folder, answers), self._known_to(folder)
            except ModelError as error:
                obstacle = f"version {present.number}, the present champion, can't be compared: {error}"
        if broken := self.config.limits.broken_by(best):
            obstacle = f"promotion.limits is not kept: {', '.join(broken)}"
        evidence = replace(
            evidence_of(self.config, answers, champion if obstacle is None else None),
            known=known,
            obstacle=obstacle,
            digest=digest,
            against=present.number if present else None,
            seen=standing.seen,
        )
        decision = decide(evidence, self.gate)
        theirs = present.decision.digest if present is not None and present.decision is not None else None
        if evidence.champion is None or known is not None or theirs == digest:
            return decision
        note = "nobody knows whether the champion was trained on some of these rows"
        return decision.model_copy(update={"reasons": (*decision.reasons, note)})

    def _ask_champion(self, folder: Path, answers: Answers) -> Answers:
        """What the champion says on the same rows, as it is served: through its own tokenizer, at its own lengths, with
        what was tuned for it. ModelError where it was made for something else."""
        champion, task = Model.open(folder), self.config.task
        if champion.task.type != task.type:
            raise ModelError(f"its task is {champion.task.type}, not {task.type}")
        if champion.labels != self.prepared.labels:
            named = [", ".join(labels) or "none" for labels in (champion.labels, self.prepared.labels)]
            raise ModelError(f"its classes are {named[0]}, not {named[1]}")
        ours, theirs = task.layout.all, champion.task.layout.all
        if [column.kind for column in ours] != [column.kind for column in theirs]:
            raise ModelError(f"it reads {len(theirs)} columns of other kinds than this study's {len(ours)}")
        test = self.prepared.splits.tables["test"].select([column.name for column in ours])
        encoded = champion.encode(test.rename_columns([column.name for column in theirs]))
        said = ask(champion, encoded, self.config).answers
        if said.references != answers.references:
            raise ModelError("its vocabulary is another, so the same texts ask it for something else")
        return said

    def _known_to(self, folder: Path) -> Array | None:
        """(rows,) test rows that only one of the two was trained on or chosen by. None where the champion does not say.
        ModelError where those are all."""
        theirs = trained_on.load(folder)
        if theirs is None:
            return None
        test, layout = self.prepared.splits.tables["test"], self.config.task.layout
        known: Array = trained_on.stand_in(test, layout, theirs) ^ trained_on.stand_in(test, layout, self._trained_on)
        if known.all():
            raise ModelError(
                "only one of the two was trained on the test rows; keep data.seed and data.test of its study"
            )
        return known

    @cached_property
    def _trained_on(self) -> Array:
        splits = self.prepared.splits
        return trained_on.texts_of((splits.train, splits.validation), self.config.task.layout)

    @property
    def _digest(self) -> str | None:
        return next((own.digest for own in self.prepared.splits.records if own.split == "test"), None)

    def _register(self, best: TrialRecord, decision: Decision, confirmed: Confirmed | None) -> Version:
        assert best.checkpoint is not None
        self.say(f"registering it as {self.gate.model} in MLflow")
        task = own_model(best.checkpoint, self.config, self.prepared).task  # with what was tuned
        with TemporaryDirectory(prefix="hpo-beside-") as beside:
            trained_on.save(self._trained_on, Path(beside))
            return Registry(self.config.tracking.uri).register(
                self.gate.model,
                best.checkpoint,
                pipeline=inference.pipeline(best.checkpoint, task.pipeline) if task.pipeline else None,
                decision=decision,
                run_id=self.run_id,
                task=task,
                labels=self.prepared.labels,
                examples=self._examples(),
                beside=Path(beside),
                tags={"hpo.study": self.config.study, "hpo.trial": str(best.number)}
                | ({"hpo.seed": str(best.replicate)} if best.replicate else {}),
                origin=Origin(
                    study=self.config.study,
                    trial=best.number,
                    replicate=best.replicate,
                    params=best.final_params,
                    value=best.value,
                    confirmed=confirmed,
                    commit=provenance().get("mlflow.source.git.commit"),
                ),
            )

    def _examples(self) -> list[Example]:
        """Rows as users will send them: a text, a pair for a pipeline, else columns by name."""
        task = self.config.task
        names = [column.name for column in task.asked]
        rows: list[dict[str, Any]] = self.prepared.splits.train.select(names).slice(0, EXAMPLES).to_pylist()
        if task.pipeline is None and len(names) > 1:
            return [*rows]
        texts = [[" ".join(value) if isinstance(value, list) else value for value in row.values()] for row in rows]
        return [own[0] if len(own) == 1 else (own[0], own[1]) for own in texts]


def own_model(folder: Path, config: StudyConfig, prepared: Prepared) -> Model:
    """A checkpoint of this study. One of an earlier release says nothing of its task, and nothing was tuned."""
    if read_about(folder) is None:
        return Model(folder, config.task, prepared.labels)
    return Model.open(folder)


def ask(model: Model, rows: Encoded, config: StudyConfig) -> Asked:
    """What a model says to encoded rows, on what the machine has."""
    device.cap_threads(cores())
    model = model.on(config.resources.at_hand, abreast=cores())
    task, labels = model.task, model.labels
    outputs = model.outputs(rows)
    predictions, references = task.evidence(outputs, rows, labels, config.metric)
    answers = Answers(
        predictions=predictions.tolist(),
        references=references.tolist(),
        metrics=task.compute_metrics(outputs, rows, labels),
        breakdown=task.breakdown(outputs, rows, labels),
    )
    return Asked(model, rows, outputs, answers)


def evidence_of(config: StudyConfig, answers: Answers, against: Answers | None) -> Evidence:
    return Evidence(answers, against, config.metric, config.mode, config.task.plain(config.metric))
