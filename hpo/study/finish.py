"""After the search: open the test split once, decide on promotion, and say what the study found."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from hpo.config import StudyConfig
from hpo.encoded import Encoded
from hpo.errors import ModelError
from hpo.promotion import Decision, Evidence, decide
from hpo.records import Answers, TrialRecord
from hpo.registry import Registry, Version
from hpo.study.prepare import Prepared
from hpo.training import checkpoint, pretrained

PROMOTED = "promotion.json"


@dataclass(frozen=True)
class Verdicts:
    """What the test split said. Each None where there is no test split, or no such model."""

    best: Answers | None = None
    baseline: Answers | None = None
    decision: Decision | None = None
    version: Version | None = None


@dataclass(frozen=True)
class Finish:
    config: StudyConfig
    prepared: Prepared
    folder: Path

    def open_test(self, best: TrialRecord, baseline: TrialRecord | None) -> Verdicts:
        """Answers of the winner and of the default configuration on the test rows. Raises ModelError."""
        if self.prepared.encoded.test is None or best.checkpoint is None:
            return Verdicts()
        rows = Encoded.load(self.prepared.encoded.test)
        answers = self._answers(best.checkpoint, rows)
        against = None
        if baseline is not None and baseline.checkpoint is not None:
            against = answers if baseline.number == best.number else self._answers(baseline.checkpoint, rows)
        return Verdicts(answers, against)

    def promote(self, best: TrialRecord, answers: Answers, run_id: str) -> tuple[Decision, Version]:
        """Compare with the present champion on the same rows, register, and let the registry move its alias.

        A study that has registered this trial before is told what it was told then.
        """
        gate = self.config.promotion
        assert gate is not None
        assert best.checkpoint is not None
        if (earlier := self._earlier(best)) is not None:
            return earlier
        registry = Registry(self.config.tracking.uri)
        champion, obstacle = None, None
        if (present := registry.champion(gate.model)) is not None:
            try:
                champion = self._champion_answers(registry.fetch(present, self.folder / "champion"))
            except ModelError as error:
                obstacle = f"version {present.number}, the present champion, can't be compared: {error}"
        decision = decide(
            Evidence(
                challenger=answers,
                champion=champion,
                metric=self.config.metric,
                mode=self.config.mode,
                score=lambda predictions, references: self.config.task.score(
                    self.config.metric, predictions, references
                ),
                obstacle=obstacle,
            ),
            gate,
        )
        version = registry.register(
            gate.model,
            best.checkpoint,
            decision=decision,
            run_id=run_id,
            task=self.config.task,
            labels=self.prepared.labels,
            examples=self._examples(),
            tags={"hpo.study": self.config.study, "hpo.trial": str(best.number)},
        )
        record = {"trial": best.number, "version": version.model_dump(), "decision": decision.model_dump()}
        temporary = self.folder / f".{PROMOTED}.{os.getpid()}"
        temporary.write_text(json.dumps(record, indent=2), encoding="utf-8")
        temporary.rename(self.folder / PROMOTED)
        return decision, version
