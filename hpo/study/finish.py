"""After the search: open the test split once for the winner, decide on promotion, and say what the study found."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hpo import crash
from hpo.answering import Model, read_about
from hpo.config import StudyConfig
from hpo.encoded import Encoded
from hpo.errors import ModelError, ServiceError
from hpo.promotion import Evidence, PromotionConfig, compare, decide
from hpo.records import (
    Answers,
    Breakdown,
    Confirmed,
    Decision,
    Difference,
    Origin,
    Record,
    Review,
    StudyFinished,
    StudySummary,
    TrialRecord,
)
from hpo.registry import Example, Registry, Version
from hpo.runners.machine import cores
from hpo.study.prepare import Prepared
from hpo.study.review import Asked, review, untrained
from hpo.study.trials import has_weights
from hpo.tracking.provenance import provenance
from hpo.training import checkpoint, device, inference

SAVED = "outcome.json"
EXAMPLES = 2


class Outcome(Record):
    """What the test split said of one winner, and what became of it. All but `trial` empty where nothing was tested.

    gate, run_id: by what it was judged, and where it was registered; the same winner is judged anew by another gate,
    under another name or for another MLflow. replicate: which of its fresh seeds was judged; 0 where it was not
    retrained. baseline, baseline_replicate: the default configuration it is compared with, None where there is none.
    """

    trial: int
    replicate: int = 0
    model: str | None = None
    gate: PromotionConfig | None = None
    baseline: int | None = None
    baseline_replicate: int = 0
    run_id: str | None = None
    test_best: dict[str, float] | None = None
    test_baseline: dict[str, float] | None = None
    test_untrained: dict[str, float] | None = None
    test_gain: Difference | None = None
    breakdown: Breakdown | None = None
    review: Review | None = None
    decision: Decision | None = None
    model_uri: str | None = None

    def is_about(self, other: "Outcome") -> bool:
        return all(getattr(self, name) == getattr(other, name) for name in _QUESTION)


_QUESTION = ("trial", "replicate", "model", "gate", "baseline", "baseline_replicate", "run_id")
"""What an outcome answers; all else is the answer."""


def read_outcome(folder: Path) -> Outcome | None:
    """Of the study in `folder`; None where nothing was judged yet. Raises ServiceError where it can't be read."""
    saved = folder / SAVED
    if not saved.is_file():
        return None
    try:
        return Outcome.model_validate_json(saved.read_text("utf-8"))
    except ValueError as error:
        raise ServiceError(
            f"storage: {saved} can't be read ({type(error).__name__}); remove it and go on with --resume, which judges "
            "the winner again"
        ) from error


@dataclass(frozen=True)
class Finish:
    """Judges the winner of the study in `folder`. run_id: of its parent run, which gets the registered model. say: each
    step before it begins, since together they take longer than a trial of the quickstart.
    """

    config: StudyConfig
    prepared: Prepared
    folder: Path
    run_id: str | None
    say: Callable[[str], None] = lambda text: None

    def judge(self, best: TrialRecord, baseline: TrialRecord | None, confirmed: Confirmed | None = None) -> Outcome:
        """The same winner is judged once; asked again, what was said then is said again. confirmed: of the winner.

        Raises ModelError (a damaged checkpoint), ServiceError (the registry).
        """
        gate = self.config.promotion
        asked = Outcome(
            trial=best.number,
            replicate=best.replicate,
            model=gate.model if gate else None,
            gate=gate,
            baseline=baseline.number if baseline else None,
            baseline_replicate=baseline.replicate if baseline else 0,
            run_id=self.run_id,
        )
        earlier = read_outcome(self.folder)
        if earlier is not None and earlier.is_about(asked):
            return earlier
        if self.prepared.encoded.test is None or best.checkpoint is None or not has_weights(best):
            return asked
        self._say(f"the winner, {_named(best)}, answers the test rows")
        asked_best = self._ask(best)
        answers, against = asked_best.answers, None
        if baseline is not None and baseline.checkpoint is not None and has_weights(baseline):
            if baseline.number == best.number:
                against = answers
            else:
                self._say(f"the default, {_named(baseline)}, answers them, too")
                against = self._ask(baseline).answers
        decision, version = None, None
        if gate is not None and self.run_id is not None:
            decision = self._decided(gate, self.run_id, best.checkpoint) or self._decide(answers, best)
            version = self._register(best, decision, confirmed)
            while version.lost_to is not None and decision.verdict == "promote":  # another was promoted meanwhile
                decision = self._decide(answers, best)
                version = self._register(best, decision, confirmed)
        outcome = asked.model_copy(
            update={
                "test_best": dict(answers.metrics),
                "test_baseline": dict(against.metrics) if against else None,
                "test_gain": compare(self._evidence(answers, against)) if against not in (None, answers) else None,
                "breakdown": answers.breakdown,
                "test_untrained": self._untrained(asked_best, best),
                "review": self._review(asked_best, best),
                "decision": decision,
                "model_uri": version.uri if version else None,
            }
        )
        crash.at("promotion-outcome")
        saved = self.folder / SAVED
        temporary = saved.with_name(f".{SAVED}.{os.getpid()}")
        with temporary.open("w", encoding="utf-8") as file:
            file.write(outcome.model_dump_json(indent=2))
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(saved)
        return outcome

    def _say(self, step: str) -> None:
        self.say(f"          {step}")

    def _decided(self, gate: PromotionConfig, run_id: str, folder: Path) -> Decision | None:
        """What was decided of these weights before, if it still holds: a crash may have come after deciding.

        By another gate, what was kept is judged again. What was promoted stays: as champion it is nobody's challenger,
        and what came after it was measured against it.
        """
        there = Registry(self.config.tracking.uri).decided(gate.model, run_id, folder)
        if there is None:
            return None
        decision = there[1]
        if decision.is_under(gate.min_improvement, gate.confidence, gate.limits):
            return decision
        if decision.verdict == "keep":
            return None
        note = "it was promoted under another gate before; a promotion is not judged again"
        return decision.model_copy(update={"reasons": (*decision.reasons, note)})

    def _review(self, asked: Asked, best: TrialRecord) -> Review:
        self._say("where it is wrong, and which words its answers stand on")
        table = self.prepared.splits.tables["test"].select([column.name for column in self.config.task.asked])
        return review(asked, table, self.prepared.start_of(best.params).encoded.validation)

    def _untrained(self, asked: Asked, best: TrialRecord) -> dict[str, float]:
        """What the winner's model says before its first step."""
        self._say("its model answers them as it was before any training")
        start, config = self.prepared.start_of(best.params), self.config
        labels, seed, gpus = self.prepared.labels, best.seeds.init, config.resources.at_hand
        model = Model(start.pretrained.folder, config.task, labels, gpus=gpus, fresh=seed, abreast=cores())
        return untrained(model, asked.rows, start.encoded.validation)

    def _ask(self, record: TrialRecord) -> Asked:
        """What the checkpoint of a trial says on the test rows, as the tokenizer of its model encodes them."""
        rows = self.prepared.start_of(record.params).encoded.test
        assert record.checkpoint is not None
        assert rows is not None
        checkpoint.verify(record.checkpoint)
        return self._asked(self._own(record.checkpoint), Encoded.load(rows))

    def _own(self, folder: Path) -> Model:
        """A checkpoint of this study. One of an earlier release says nothing of its task, and nothing was tuned."""
        if read_about(folder) is None:
            return Model(folder, self.config.task, self.prepared.labels)
        return Model.open(folder)

    def _ask_champion(self, folder: Path) -> Answers:
        """What the champion says on the same rows, as it is served: through its own tokenizer, at its own lengths, with
        what was tuned for it. ModelError where its task or its classes differ."""
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
        return self._asked(champion, champion.encode(test.rename_columns([column.name for column in theirs]))).answers

    def _asked(self, model: Model, rows: Encoded) -> Asked:
        device.cap_threads(cores())
        model = model.on(self.config.resources.at_hand, abreast=cores())
        task, labels = model.task, model.labels
        outputs = model.outputs(rows)
        predictions, references = task.evidence(outputs, rows, labels, self.config.metric)
        answers = Answers(
            predictions=predictions.tolist(),
            references=references.tolist(),
            metrics=task.compute_metrics(outputs, rows, labels),
            breakdown=task.breakdown(outputs, rows, labels),
        )
        return Asked(model, rows, outputs, answers)

    def _decide(self, answers: Answers, best: TrialRecord) -> Decision:
        gate = self.config.promotion
        assert gate is not None
        broken = self.config.limits.broken_by(best)
        registry = Registry(self.config.tracking.uri)
        champion, obstacle = None, None
        standing = registry.standing(gate.model)
        if (present := standing.champion) is not None:
            self._say(f"the present champion, version {present.number} of {gate.model}, answers them")
            try:
                with TemporaryDirectory(prefix="hpo-champion-") as folder:
                    champion = self._ask_champion(registry.fetch(present, Path(folder)))
            except ModelError as error:
                obstacle = f"version {present.number}, the present champion, can't be compared: {error}"
        if champion is not None and present is not None and champion.references != answers.references:
            champion, what = None, "its vocabulary is another, so the same texts ask it for something else"
            obstacle = f"version {present.number}, the present champion, can't be compared: {what}"
        digests = {record.split: record.digest for record in self.prepared.splits.records}
        evidence = replace(
            self._evidence(answers, champion),
            obstacle=f"promotion.limits is not kept: {', '.join(broken)}" if broken else obstacle,
            digest=digests.get("test"),
            against=present.number if present else None,
            seen=standing.seen,
        )
        return decide(evidence, gate)

    def _evidence(self, answers: Answers, against: Answers | None) -> Evidence:
        metric = self.config.metric
        return Evidence(answers, against, metric, self.config.mode, self.config.task.plain(metric))

    def _register(self, best: TrialRecord, decision: Decision, confirmed: Confirmed | None) -> Version:
        gate = self.config.promotion
        assert gate is not None
        assert best.checkpoint is not None
        assert self.run_id is not None
        self._say(f"registering it as {gate.model} in MLflow")
        task = self._own(best.checkpoint).task  # with what was tuned
        return Registry(self.config.tracking.uri).register(
            gate.model,
            best.checkpoint,
            pipeline=inference.pipeline(best.checkpoint, task.pipeline) if task.pipeline else None,
            decision=decision,
            run_id=self.run_id,
            task=task,
            labels=self.prepared.labels,
            examples=self._examples(),
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


def _named(record: TrialRecord) -> str:
    return f"trial {record.number}" + (f" seed {record.replicate}" if record.replicate else "")


def finished(summary: StudySummary, files: tuple[Path, ...]) -> StudyFinished:
    """The parent run's row: what won and by how much."""
    metric, best, baseline, gain = summary.metric, summary.best, summary.baseline, summary.test_gain
    believed = summary.review.reliability if summary.review else None
    figures = {
        f"best_{metric}": best.value,
        f"default_{metric}": baseline.value if baseline else None,
        f"test_{metric}": (summary.test_best or {}).get(metric),
        f"default_test_{metric}": (summary.test_baseline or {}).get(metric),
        f"untrained_test_{metric}": (summary.test_untrained or {}).get(metric),
        "test_gain": gain.gain if gain else None,
        "test_gain_low": gain.low if gain else None,
        "test_gain_high": gain.high if gain else None,
        "calibration_error": believed.error if believed else None,
        "calibration_error_after": believed.error_after if believed else None,
        "temperature": believed.temperature if believed else None,
        "trials": float(sum(summary.counts.values())),
        **{f"trials_{state}": float(count) for state, count in summary.counts.items()},
        "seconds": summary.seconds,
        **(summary.confirmed[0].figures(summary.mode) if summary.confirmed else {}),
        "optimism_of_leaders": summary.optimism,
    }
    front = ", ".join(str(number) for number in summary.pareto) if len(summary.objectives) > 1 else None
    tags = {"best_trial": str(best.number), "decision": summary.decision, "model": summary.model_uri, "pareto": front}
    return StudyFinished(
        time=time.time(),
        metrics={name: value for name, value in figures.items() if value is not None},
        tags={name: value for name, value in tags.items() if value is not None},
        files=files,
    )
