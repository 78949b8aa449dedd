"""Promotion: whether a challenger may take the champion's place, decided from what both say on the same test rows.

Pure: answers in, Decision out. Must not know MLflow, models or files. numpy and scipy are imported where they count.

Two things are asked, and both must hold. `min_improvement` asks whether the difference that was seen is worth a switch;
`confidence` asks whether there is a difference at all. So the test is against zero, not against the margin: a margin in
the test would need tens of thousands of rows to say anything, and one model in twenty that is no better passes at 0.95
with either. The interval of the improvement is stored beside, for whoever wants to hold it against the margin.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from hpo.records import Answers, Decision, Difference

if TYPE_CHECKING:
    from hpo.encoded import Array

__all__ = ["Decision", "Evidence", "PromotionConfig", "Score", "compare", "decide"]

Score: TypeAlias = Callable[["Array", "Array"], float]
"""(predictions (rows,), references (rows,)) -> the metric."""

_RESAMPLES = 2_000
_SEED = 17
_ROUNDING = 1e-12
_INTERVAL = 0.95
"""Of the improvement's interval, where no confidence is asked."""


class PromotionConfig(BaseModel):
    """The gate. model: the name in the registry. min_improvement: in the metric's own unit, to be exceeded.

    confidence: how sure the test must be that the challenger is better (0.95: p at most 0.05); None asks no test, and
    then every second challenger that is merely equal is promoted. limits: what the winner may cost at most (seconds,
    latency, parameters), or must reach at least in another metric.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Annotated[str, Field(min_length=1, pattern=r"^\w[\w .\-]*$")]
    min_improvement: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 0.0
    confidence: Annotated[float, Field(gt=0.0, lt=1.0)] | None = 0.95
    limits: dict[str, Annotated[float, Field(allow_inf_nan=False)]] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What both models say on the same test rows, in the same order; champion: None where there is none.

    obstacle: why nothing can be promoted whatever the rows say (a champion with other labels or without files, a limit
    that is not kept), as a sentence. known: (rows,) those that only one of the two was trained on or chosen by, which
    are left out: they say nothing of what it is worth. digest: sha256 of the test rows. against, seen: the champion's
    version, and the highest one when it was looked up.
    """

    challenger: Answers
    champion: Answers | None
    metric: str
    mode: Literal["min", "max"]
    score: Score
    obstacle: str | None = None
    known: "Array | None" = None
    digest: str | None = None
    against: int | None = None
    seen: int | None = None

    @property
    def left_out(self) -> int:
        return int(self.known.sum()) if self.known is not None and self.champion is not None else 0

    def on_new_rows(self) -> "Evidence":
        """What both say on the rows that neither knows better than the other."""
        if self.known is None or self.champion is None or not self.left_out:
            return self
        rows = [row for row, is_known in enumerate(self.known) if not is_known]
        return replace(self, challenger=self.challenger.of(rows), champion=self.champion.of(rows), known=None)

    @property
    def is_alike(self) -> bool:
        """Whether both score the same on every row."""
        import numpy as np

        return self.champion is not None and np.array_equal(
            np.asarray(self.challenger.predictions), np.asarray(self.champion.predictions), equal_nan=True
        )


@dataclass(frozen=True, slots=True)
class _Tested:
    """One comparison. low, high: of the improvement."""

    test: Literal["mcnemar", "bootstrap"]
    p_value: float
    low: float
    high: float
    words: str
    wins: int | None = None
    losses: int | None = None


def decide(evidence: Evidence, gate: PromotionConfig) -> Decision:
    """Promote what beats the champion by more than the gate asks; the first model of a name is promoted as it is.

    With a confidence, chance must also be an unlikely explanation: for accuracy McNemar's exact test on the rows that
    only one of the two has right (McNemar 1947), for other metrics a paired bootstrap of the metric (Efron 1979; 2,000
    resamples, seeded). Both one-sided. Raises ValueError where the rows are not the same.
    """
    import numpy as np

    left_out, evidence = evidence.left_out, evidence.on_new_rows()
    references = np.asarray(evidence.challenger.references)
    own = evidence.score(np.asarray(evidence.challenger.predictions), references)
    said = f"{evidence.metric} is {own:.4f} on {len(references):,} test rows"
    if left_out:
        remedy = "; keep data.seed and data.test of its study" if left_out > len(references) else ""
        said += f" ({left_out:,} more are left out, since only one of the two was trained on them{remedy})"
    facts: dict[str, Any] = {
        "challenger_score": own,
        "metric": evidence.metric,
        "mode": evidence.mode,
        "rows": len(references),
        "left_out": left_out,
        "digest": evidence.digest,
        "confidence": gate.confidence,
        "min_improvement": gate.min_improvement,
        "limits": gate.limits,
        "against": evidence.against,
        "seen": evidence.seen,
    }
    if not math.isfinite(own):
        return Decision(verdict="keep", reasons=(f"{said}, which is no figure to go by",), **facts)
    if evidence.obstacle is not None:
        return Decision(verdict="keep", reasons=(said, evidence.obstacle), **facts)
    if evidence.champion is None:
        return Decision(verdict="promote", reasons=(f"{said}, and there was no champion yet",), **facts)
    if not np.array_equal(references, np.asarray(evidence.champion.references)):
        raise ValueError("challenger and champion answered different rows; give both the same ones")
    theirs = evidence.score(np.asarray(evidence.champion.predictions), references)
    facts["champion_score"] = theirs
    if not math.isfinite(theirs):
        said = f"{said}, and the champion's {theirs} is no figure to go by"
        return Decision(verdict="promote", reasons=(said,), **facts)
    improvement = _sign(evidence) * (own - theirs)
    reasons = [f"{said}, against {theirs:.4f} of the champion", _on_improvement(improvement, gate)]
    if evidence.is_alike:
        reasons[1:] = ["both score alike on every test row, so neither is better"]
    is_better = improvement > gate.min_improvement
    tested = _tested(evidence, gate.confidence, improvement)
    if tested is not None:
        facts |= {"low": tested.low, "high": tested.high, "wins": tested.wins, "losses": tested.losses}
    if tested is not None and gate.confidence is not None:
        allowed = 1.0 - gate.confidence
        if not evidence.is_alike:
            reasons.append(f"{tested.words}, at most {allowed:.3g} is needed for a confidence of {gate.confidence:g}")
        is_better = is_better and tested.p_value <= allowed + _ROUNDING
        facts |= {"test": tested.test, "p_value": tested.p_value}
    verdict: Literal["promote", "keep"] = "promote" if is_better else "keep"
    return Decision(verdict=verdict, reasons=tuple(reasons), improvement=improvement, **facts)


def compare(evidence: Evidence) -> Difference | None:
    """By how much the challenger is better than the other one on the same rows, and how sure that is. By the methods of
    `decide`, without a verdict; None where there is nothing to compare."""
    import numpy as np

    if evidence.champion is None:
        return None
    references = np.asarray(evidence.challenger.references)
    own, theirs = (
        evidence.score(np.asarray(one.predictions), references) for one in (evidence.challenger, evidence.champion)
    )
    gain = _sign(evidence) * (own - theirs)
    tested = _tested(evidence, _INTERVAL, gain) if math.isfinite(gain) else None
    if tested is None:
        return None
    return Difference(gain=gain, low=tested.low, high=tested.high, confidence=_INTERVAL)


def _on_improvement(improvement: float, gate: PromotionConfig) -> str:
    needed = f"more than {gate.min_improvement:g} is needed"
    if improvement > 0:
        return f"it is better by {improvement:.4g}; {needed}"
    return f"it is no better ({improvement:+.4g}); {needed}"


def _tested(evidence: Evidence, confidence: float | None, improvement: float) -> _Tested | None:
    """None where no test is asked and the interval would cost thousands of evaluations."""
    import numpy as np

    if evidence.metric == "accuracy" and np.ndim(evidence.challenger.predictions) == 1:  # one answer a row
        return _mcnemar(evidence, confidence or _INTERVAL)
    return None if confidence is None else _bootstrap(evidence, confidence, improvement)


def _mcnemar(evidence: Evidence, confidence: float) -> _Tested:
    """Rows on which both are right or both are wrong say nothing of which is better, and are left out. The interval is
    that of Bonett and Price (2012), which stays honest where few rows differ."""
    import numpy as np
    from scipy.stats import binomtest

    assert evidence.champion is not None
    references = np.asarray(evidence.challenger.references)
    own = np.asarray(evidence.challenger.predictions) == references
    theirs = np.asarray(evidence.champion.predictions) == references
    wins, losses = int((own & ~theirs).sum()), int((theirs & ~own).sum())
    p_value = float(binomtest(wins, wins + losses, 0.5, alternative="greater").pvalue) if wins + losses else 1.0
    up, down = (wins + 1) / (len(references) + 2), (losses + 1) / (len(references) + 2)
    reach = NormalDist().inv_cdf((1 + confidence) / 2) * math.sqrt(
        max(up + down - (up - down) ** 2, 0.0) / (len(references) + 2)
    )
    apart = f"of {wins + losses:,} rows that only one has right, {wins:,} are the challenger's"
    if not wins + losses:
        apart = "both have the same rows right"
    words = f"{apart}: p = {p_value:.3g} (McNemar, exact)"
    low, high = max(up - down - reach, -1.0), min(up - down + reach, 1.0)
    return _Tested("mcnemar", p_value, low, high, words, wins, losses)


def _bootstrap(evidence: Evidence, confidence: float, improvement: float) -> _Tested:
    """p is the larger of two: the share of resamples in which the challenger is not better, and the share that goes
    beyond zero, centred there, by as much as the improvement. The first alone is too easily convinced where few rows
    differ, and a little above its level elsewhere (`benchmarks/noise.py`). One is added to both counts, so that p is
    never zero. A resample in which the metric is not defined counts against the challenger.
    """
    import numpy as np

    assert evidence.champion is not None
    draw = np.random.default_rng(_SEED)
    references = np.asarray(evidence.challenger.references)
    own, theirs = np.asarray(evidence.challenger.predictions), np.asarray(evidence.champion.predictions)
    differences = np.empty(_RESAMPLES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a resample of equal rows has no correlation
        for place in range(_RESAMPLES):
            rows = draw.integers(len(references), size=len(references))
            truth = references[rows]
            differences[place] = evidence.score(own[rows], truth) - evidence.score(theirs[rows], truth)
    differences *= _sign(evidence)
    not_better = int((~(differences > _ROUNDING)).sum())
    by_chance = int((~(differences < 2 * improvement - _ROUNDING)).sum())
    p_value = (max(not_better, by_chance) + 1) / (_RESAMPLES + 1)
    defined = differences[np.isfinite(differences)]
    tails = ((1 - confidence) / 2, (1 + confidence) / 2)
    low, high = np.quantile(defined, tails) if len(defined) else (improvement, improvement)
    words = f"p = {p_value:.3g} (paired bootstrap, {_RESAMPLES:,} resamples)"
    return _Tested("bootstrap", p_value, float(low), float(high), words)


def _sign(evidence: Evidence) -> float:
    return 1.0 if evidence.mode == "max" else -1.0
