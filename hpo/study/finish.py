"""After the search: open the test split once for the winner, decide on promotion, and say what the study found."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hpo import crash
from hpo.answering import Model
from hpo.config import StudyConfig
from hpo.durable import replacing
from hpo.encoded import Encoded
from hpo.errors import ServiceError
from hpo.promotion import PromotionConfig, compare
from hpo.records import (
    Breakdown,
    Confirmed,
    Decision,
    Difference,
    Record,
    Review,
    StudyFinished,
    StudySummary,
    TrialRecord,
)
from hpo.runners.machine import cores
from hpo.study.challenge import Challenge, ask, evidence_of, own_model
from hpo.study.prepare import Prepared
from hpo.study.review import Asked, review, untrained
from hpo.study.trials import has_weights
from hpo.training import checkpoint

SAVED = "outcome.json"


class Outcome(Record):
    """What the test split said of one winner, and what became of it. All but `trial` empty where nothing was tested.

    gate, run_id: by what it was judged, and where it was registered; the same winner is judged anew by another gate,
    under another name or for another MLflow. replicate: which of its fresh seeds was judged; 0 where it was not
    retrained. baseline, baseline_replicate: the default configuration it is compared with, None where there is none.
    opened: for whom the test split was opened so far, this one last.
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
    opened: tuple[str, ...] = ()

    @property
    def openings(self) -> tuple[str, ...]:
        """`opened`, which an earlier release did not write."""
        return self.opened or ((_named(self.trial, self.replicate),) if self.test_best else ())

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
        self._say(f"the winner, {_named(best.number, best.replicate)}, answers the test rows")
        asked_best = self._ask(best)
        answers, against = asked_best.answers, None
        if baseline is not None and baseline.checkpoint is not None and has_weights(baseline):
            if baseline.number == best.number:
                against = answers
            else:
                self._say(f"the default, {_named(baseline.number, baseline.replicate)}, answers them, too")
                against = self._ask(baseline).answers
        decision, version = None, None
        if gate is not None and self.run_id is not None:
            challenge = Challenge(self.config, self.prepared, gate, self.run_id, self._say)
            decision, version = challenge.judge(best, answers, confirmed)
        openings = earlier.openings if earlier else ()
        outcome = asked.model_copy(
            update={
                "test_best": dict(answers.metrics),
                "test_baseline": dict(against.metrics) if against else None,
                "test_gain": compare(evidence_of(self.config, answers, against))
                if against not in (None, answers)
                else None,
                "breakdown": answers.breakdown,
                "test_untrained": self._untrained(asked_best, best),
                "review": self._review(asked_best, best),
                "decision": decision,
                "model_uri": version.uri if version else None,
                "opened": tuple(dict.fromkeys((*openings, _named(best.number, best.replicate)))),
            }
        )
        crash.at("promotion-outcome")
        with replacing(self.folder / SAVED) as stream:
            stream.write(outcome.model_dump_json(indent=2).encode())
        return outcome

    def _say(self, step: str) -> None:
        self.say(f"          {step}")

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
        return ask(own_model(record.checkpoint, self.config, self.prepared), Encoded.load(rows), self.config)


def _named(number: int, replicate: int) -> str:
    return f"trial {number}" + (f" seed {replicate}" if replicate else "")


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
