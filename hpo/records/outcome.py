"""What comes after the search: answers on the test rows, the decision made from them, the summary of the study."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from hpo.records.review import Review
from hpo.records.trials import Confirmed, Record, TrialRecord, TrialState
from hpo.space import Scalar


@dataclass(frozen=True, slots=True)
class Answers:
    """What a model says on the rows of a split, row by row, with the truth beside it.

    predictions: one number a row (class id or score), or as many numbers as the metric needs to be computed again over
    some of the rows. references: the same of the truth. metrics: over all rows. breakdown: of their parts.
    """

    predictions: Sequence[Any]
    references: Sequence[Any]
    metrics: Mapping[str, float] = field(default_factory=dict)
    breakdown: "Breakdown | None" = None

    def of(self, rows: Sequence[int]) -> "Answers":
        """Of some of the rows alone; without figures over all."""
        return Answers([self.predictions[row] for row in rows], [self.references[row] for row in rows])


class Breakdown(Record):
    """Metrics of the parts of a task, such as the types of entities: a table. Each row begins with the part's name."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str | int | float, ...], ...]


class Usage(Record):
    """How a model is asked, in words for people. what: it does, of which columns. answer: what it says. row, reply: one
    of each, as a server takes and gives it, in JSON."""

    what: str
    answer: str
    row: str
    reply: str


class Decision(Record):
    """Whether the challenger becomes champion, and the evidence. reasons: sentences with figures.

    Scores: of `metric` on the `rows` test rows that count; `left_out` more do not, since only one of the two was
    trained on them or chosen by them; digest: sha256 of all. improvement: of the challenger over the
    champion, above zero where it is better; None without a champion. low, high: its two-sided interval, of the
    confidence asked or else of 0.95. test: what gave p_value. wins, losses: rows that only the challenger, only the
    champion has right (accuracy). against: the version compared with. seen: the highest version number when it was
    looked up, by which the registry knows who came in between. limits: that the gate asked to be kept.
    """

    verdict: Literal["promote", "keep"]
    reasons: tuple[str, ...]
    challenger_score: float
    champion_score: float | None = None
    improvement: float | None = None
    p_value: float | None = None
    metric: str = ""
    mode: Literal["min", "max"] = "max"
    rows: int = 0
    left_out: int = 0
    digest: str | None = None
    test: Literal["mcnemar", "bootstrap"] | None = None
    wins: int | None = None
    losses: int | None = None
    low: float | None = None
    high: float | None = None
    confidence: float | None = None
    min_improvement: float = 0.0
    limits: dict[str, float] = Field(default_factory=dict)
    against: int | None = None
    seen: int | None = None

    def is_under(self, min_improvement: float, confidence: float | None, limits: Mapping[str, float]) -> bool:
        """Whether it was made by the gate that asks for this."""
        return (self.min_improvement, self.confidence, self.limits) == (min_improvement, confidence, dict(limits))


class Difference(Record):
    """Of two models on the same rows. gain: above zero where the first is better, in the metric's own unit; low, high:
    its interval of `confidence`."""

    gain: float
    low: float
    high: float
    confidence: float


class Origin(Record):
    """Where a registered model comes from. commit: of this program. value: the trial's, on the validation split.
    confirmed: the same over fresh seeds, where the study retrained it. replicate: the fresh seed that its weights are
    of; 0 for those of the search.
    """

    study: str
    trial: int
    replicate: int = 0
    params: dict[str, Scalar]
    value: float | None = None
    confirmed: Confirmed | None = None
    commit: str | None = None


class StudySummary(Record):
    """What a finished study answers: what won, what tuning bought, and where the winner is now.

    best: the winner. baseline: the default configuration, trained by the same study. test_*: metrics on the test split;
    None where the study has no test rows. test_untrained: of the winner's model before its first step, with a head that
    begins by chance. test_gain: of the winner over the baseline. test_opened: for whom the test split was opened, this
    winner last: a study that goes on may name another one. moved: what the space has no room for in the default, with
    the value that took its place. counts: trials by state.
    decision: `promote` or `keep`, with reasons. model_uri: models:/NAME@ALIAS. seconds: wall time of this run.
    confirmed: the leaders over fresh seeds, the best mean first; empty where the study confirms nothing.
    breakdown: of the winner's metrics on the test split. review: of its answers there. objectives: every searched
    metric with its mode, the leading one first. pareto: numbers of the complete trials that no other one beats in all
    of them.
    history: what was brought in from other studies, and what was left out, in words.
    replicate: the fresh seed of the winner whose weights were judged; 0 for those of the search. checkpoint: where
    these weights lie; None where nothing was kept.
    """

    study: str
    metric: str
    mode: Literal["min", "max"]
    best: TrialRecord
    replicate: int = 0
    checkpoint: Path | None = None
    baseline: TrialRecord | None = None
    test_best: dict[str, float] | None = None
    test_baseline: dict[str, float] | None = None
    test_untrained: dict[str, float] | None = None
    test_gain: Difference | None = None
    test_opened: tuple[str, ...] = ()
    moved: dict[str, tuple[Scalar, Scalar]] = Field(default_factory=dict)
    breakdown: Breakdown | None = None
    review: Review | None = None
    counts: dict[TrialState, int] = Field(default_factory=dict)
    decision: str | None = None
    reasons: tuple[str, ...] = ()
    model_uri: str | None = None
    tracking_uri: str = ""
    experiment: str = ""
    experiment_id: str | None = None
    parent_run_id: str | None = None
    seconds: float = 0.0
    test_rows: int = 0
    validation_rows: int = 0
    confirmed: tuple[Confirmed, ...] = ()
    objectives: dict[str, Literal["min", "max"]] = Field(default_factory=dict)
    pareto: tuple[int, ...] = ()
    history: tuple[str, ...] = ()

    @property
    def confirmed_baseline(self) -> Confirmed | None:
        """The default configuration over fresh seeds."""
        number = self.baseline.number if self.baseline else None
        return next((one for one in self.confirmed if one.number == number), None)

    @property
    def is_default_best(self) -> bool:
        return self.baseline is not None and self.baseline.number == self.best.number

    @property
    def optimism(self) -> float | None:
        """By how much the first scores of the leaders were too good on average. The default configuration, which
        nobody chose by its score, counts only where it is alone. None where nothing was confirmed."""
        chosen = [one for one in self.confirmed if one is not self.confirmed_baseline] or self.confirmed
        return sum(one.optimism(self.mode) for one in chosen) / len(chosen) if chosen else None
