"""Promotion: whether a challenger may take the champion's place, decided from what both say on the same test rows.

Pure: answers in, Decision out. Must not know MLflow, models or files. numpy and scipy are imported where they count.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from hpo.records import Answers, Decision

if TYPE_CHECKING:
    from hpo.encoded import Array

__all__ = ["Decision", "Evidence", "PromotionConfig", "Score", "decide"]

Score: TypeAlias = Callable[["Array", "Array"], float]
"""(predictions (rows,), references (rows,)) -> the metric."""

_RESAMPLES = 2_000
_SEED = 17


class PromotionConfig(BaseModel):
    """The gate. model: the name in the registry. min_improvement: in the metric's own unit, to be exceeded.

    limits: what the winner may cost at most (seconds, latency, parameters), or must reach at least in another metric.
    confidence: how sure the test must be that the challenger is better (0.95: p below 0.05); None asks no test.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Annotated[str, Field(min_length=1, pattern=r"^\w[\w .\-]*$")]
    min_improvement: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 0.0
    confidence: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    limits: dict[str, Annotated[float, Field(allow_inf_nan=False)]] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What both models say on the same test rows, in the same order; champion: None where there is none.

    obstacle: why the present champion could not be asked (other labels, files gone), as a sentence.
    """

    challenger: Answers
    champion: Answers | None
    metric: str
    mode: Literal["min", "max"]
    score: Score
    obstacle: str | None = None


def decide(evidence: Evidence, gate: PromotionConfig) -> Decision:
    """Promote what beats the champion by more than the gate asks; the first model of a name is promoted as it is.

    With a confidence, chance must also be an unlikely explanation: for accuracy McNemar's exact test on the rows that
    only one of the two has right (McNemar 1947), for other metrics a paired bootstrap of the metric (Efron 1979; 2,000
    resamples, seeded). Both one-sided. Raises ValueError where the rows are not the same.
    """
    import numpy as np

    references = np.asarray(evidence.challenger.references)
    own = evidence.score(np.asarray(evidence.challenger.predictions), references)
    said = f"{evidence.metric} is {own:.4f} on {len(references):,} test rows"
    if not math.isfinite(own):
        return Decision(verdict="keep", reasons=(f"{said}, which is no figure to go by",), challenger_score=own)
    if evidence.obstacle is not None:
        return Decision(verdict="keep", reasons=(said, evidence.obstacle), challenger_score=own)
    if evidence.champion is None:
        return Decision(verdict="promote", reasons=(f"{said}, and there was no champion yet",), challenger_score=own)
    if not np.array_equal(references, np.asarray(evidence.champion.references)):
        raise ValueError("challenger and champion answered different rows; give both the same ones")
    theirs = evidence.score(np.asarray(evidence.champion.predictions), references)
    improvement = _sign(evidence) * (own - theirs) if math.isfinite(theirs) else math.inf
    reasons = [f"{said}, against {theirs:.4f} of the champion", _on_improvement(improvement, gate)]
    is_better = improvement > gate.min_improvement
    p_value = None
    if gate.confidence is not None:
        p_value, reason = _test(evidence, gate.confidence)
        reasons.append(reason)
        is_better = is_better and p_value <= 1.0 - gate.confidence
    return Decision(
        verdict="promote" if is_better else "keep",
        reasons=tuple(reasons),
        challenger_score=own,
        champion_score=theirs,
        improvement=improvement,
        p_value=p_value,
    )


def _on_improvement(improvement: float, gate: PromotionConfig) -> str:
    needed = f"more than {gate.min_improvement:g} is needed"
    if improvement > 0:
        return f"it is better by {improvement:.4g}; {needed}"
    return f"it is no better ({improvement:+.4g}); {needed}"


def _test(evidence: Evidence, confidence: float) -> tuple[float, str]:
    """How probable so good a result is if the challenger were no better, and the same as a sentence."""
    asked = f"at most {1.0 - confidence:.3g} is needed for a confidence of {confidence:g}"
    if evidence.metric == "accuracy":
        p_value, wins, losses = _mcnemar(evidence)
        return p_value, (
            f"of {wins + losses:,} rows that only one has right, {wins:,} are the challenger's: "
            f"p = {p_value:.3g} (McNemar, exact), {asked}"
        )
    p_value = _bootstrap(evidence)
    return p_value, f"p = {p_value:.3g} (paired bootstrap, {_RESAMPLES:,} resamples), {asked}"


def _mcnemar(evidence: Evidence) -> tuple[float, int, int]:
    import numpy as np
    from scipy.stats import binomtest

    assert evidence.champion is not None
    references = np.asarray(evidence.challenger.references)
    own = np.asarray(evidence.challenger.predictions) == references
    theirs = np.asarray(evidence.champion.predictions) == references
    wins, losses = int((own & ~theirs).sum()), int((theirs & ~own).sum())
    if wins + losses == 0:
        return 1.0, 0, 0
    return float(binomtest(wins, wins + losses, 0.5, alternative="greater").pvalue), wins, losses


def _bootstrap(evidence: Evidence) -> float:
    """The share of resamples in which the challenger is not better; one is added to both, so it is never zero."""
    import numpy as np

    assert evidence.champion is not None
    draw = np.random.default_rng(_SEED)
    references = np.asarray(evidence.challenger.references)
    own, theirs = np.asarray(evidence.challenger.predictions), np.asarray(evidence.champion.predictions)
    not_better = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a resample of equal rows has no correlation: it counts as not better
        for _ in range(_RESAMPLES):
            rows = draw.integers(len(references), size=len(references))
            truth = references[rows]
            difference = evidence.score(own[rows], truth) - evidence.score(theirs[rows], truth)
            not_better += not _sign(evidence) * difference > 0
    return (not_better + 1) / (_RESAMPLES + 1)


def _sign(evidence: Evidence) -> float:
    return 1.0 if evidence.mode == "max" else -1.0
