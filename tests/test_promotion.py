import math
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from hpo.promotion import Evidence, PromotionConfig, compare, decide
from hpo.records import Answers


def accuracy(predictions: Any, references: Any) -> float:
    return float((predictions == references).mean())


def pearson(predictions: Any, references: Any) -> float:
    return float(np.corrcoef(predictions, references)[0, 1])


def squared_error(predictions: Any, references: Any) -> float:
    return float(((predictions - references) ** 2).mean())


def classes(right: int, rows: int, first: int = 0) -> Answers:
    """Answers of which `right` are right, beginning at row `first`."""
    predictions = [1.0] * rows
    for row in range(first, first + right):
        predictions[row % rows] = 0.0
    return Answers(predictions, [0.0] * rows)


def evidence(challenger: Answers, champion: Answers | None, **other: Any) -> Evidence:
    return Evidence(challenger, champion, **({"metric": "accuracy", "mode": "max", "score": accuracy} | other))


def gate(**other: Any) -> PromotionConfig:
    return PromotionConfig(model="m", **other)


def numbers(noise: float, seed: int, rows: int = 300) -> Answers:
    truth = np.random.default_rng(1).normal(size=rows)
    return Answers((truth + noise * np.random.default_rng(seed).normal(size=rows)).tolist(), truth.tolist())


def test_the_first_model_of_a_name_is_promoted() -> None:
    decision = decide(evidence(classes(80, 100), None), gate(confidence=0.95))
    assert decision.verdict == "promote"
    assert decision.reasons == ("accuracy is 0.8000 on 100 test rows, and there was no champion yet",)
    assert (decision.challenger_score, decision.champion_score, decision.p_value) == (0.8, None, None)


def test_a_better_one_is_promoted_with_figures() -> None:
    decision = decide(evidence(classes(90, 100), classes(80, 100)), gate(confidence=None))
    assert decision.verdict == "promote"
    assert decision.improvement == pytest.approx(0.1)
    assert decision.reasons == (
        "accuracy is 0.9000 on 100 test rows, against 0.8000 of the champion",
        "it is better by 0.1; more than 0 is needed",
    )


def test_an_equal_one_is_not_promoted() -> None:
    decision = decide(evidence(classes(80, 100), classes(80, 100, first=10)), gate(confidence=None))
    assert decision.verdict == "keep"
    assert decision.improvement == 0.0
    assert "it is no better (+0); more than 0 is needed" in decision.reasons


def test_a_worse_one_is_not_promoted() -> None:
    decision = decide(evidence(classes(70, 100), classes(80, 100)), gate())
    assert decision.verdict == "keep"
    assert "it is no better (-0.1); more than 0 is needed" in decision.reasons


def test_rows_that_the_champion_was_trained_on_say_nothing() -> None:
    """It has the 50 rows that it knows all right, and half of the others; the challenger has 80 of 100."""
    champion, challenger = classes(75, 100), classes(80, 100, first=20)
    pair = evidence(challenger, champion)
    assert decide(pair, gate(confidence=None)).improvement == pytest.approx(0.05)
    decision = decide(replace(pair, known=np.arange(100) < 50), gate(confidence=None))
    assert (decision.rows, decision.left_out) == (50, 50)
    assert (decision.challenger_score, decision.champion_score) == (1.0, 0.5)
    assert decision.reasons[0] == (
        "accuracy is 1.0000 on 50 test rows (50 more are left out, since only one of the two was trained on them), "
        "against 0.5000 of the champion"
    )


def test_the_improvement_must_exceed_what_the_gate_asks() -> None:
    pair = evidence(classes(85, 100), classes(80, 100))
    assert decide(pair, gate(min_improvement=0.04)).verdict == "promote"
    assert decide(pair, gate(min_improvement=0.06)).verdict == "keep"


def test_less_is_better_where_the_mode_is_min() -> None:
    pair = evidence(numbers(0.1, 2), numbers(0.5, 3), metric="mse", mode="min", score=squared_error)
    decision = decide(pair, gate())
    assert decision.verdict == "promote"
    assert decision.improvement is not None
    assert decision.improvement > 0


def test_two_that_answer_alike_are_said_to_and_no_test_is_quoted() -> None:
    decision = decide(evidence(classes(80, 100), classes(80, 100)), gate())
    assert decision.verdict == "keep"
    assert decision.reasons == (
        "accuracy is 0.8000 on 100 test rows, against 0.8000 of the champion",
        "both score alike on every test row, so neither is better",
    )
    otherwise = Answers([0.0] * 50 + [2.0] * 50, [0.0] * 50 + [1.0] * 50)
    decision = decide(evidence(otherwise, Answers([0.0] * 50 + [3.0] * 50, otherwise.references)), gate())
    assert decision.reasons[-1].startswith("both have the same rows right: p = 1 (McNemar, exact)")


def test_mcnemar_keeps_what_chance_explains() -> None:
    # wins 6, losses 4: the sum of C(10, k) / 2^10 for k of 6 to 10 is 0.377
    challenger = Answers([0.0] * 6 + [1.0] * 4 + [0.0] * 90, [0.0] * 100)
    champion = Answers([1.0] * 6 + [0.0] * 4 + [0.0] * 90, [0.0] * 100)
    decision = decide(evidence(challenger, champion), gate(confidence=0.95))
    assert decision.verdict == "keep"
    assert decision.p_value == pytest.approx(386 / 1024)
    assert "of 10 rows that only one has right, 6 are the challenger's" in decision.reasons[-1]


def test_mcnemar_promotes_what_it_does_not_explain() -> None:
    challenger = Answers([0.0] * 12 + [1.0] * 2, [0.0] * 14)
    champion = Answers([1.0] * 12 + [0.0] * 2, [0.0] * 14)
    decision = decide(evidence(challenger, champion), gate(confidence=0.95))
    assert decision.verdict == "promote"
    assert decision.p_value == pytest.approx((91 + 14 + 1) / 2**14)


def test_models_that_agree_everywhere_prove_nothing() -> None:
    decision = decide(evidence(classes(80, 100), classes(80, 100)), gate(confidence=0.5))
    assert (decision.verdict, decision.p_value) == ("keep", 1.0)


def test_other_metrics_are_tested_by_a_bootstrap_that_repeats() -> None:
    pair = evidence(numbers(0.1, 2), numbers(0.5, 3), metric="pearson", score=pearson)
    decision = decide(pair, gate(confidence=0.99))
    assert decision.verdict == "promote"
    assert decision.p_value == pytest.approx(1 / 2001)
    assert decide(pair, gate(confidence=0.99)) == decision


def test_the_bootstrap_keeps_what_chance_explains() -> None:
    one, other = numbers(0.5, 2, rows=40), numbers(0.5, 3, rows=40)
    pair = evidence(one, other, metric="pearson", score=pearson)
    if pearson(*map(np.asarray, (one.predictions, one.references))) < pearson(
        *map(np.asarray, (other.predictions, other.references))
    ):
        pair = evidence(other, one, metric="pearson", score=pearson)
    decision = decide(pair, gate(confidence=0.999))
    assert decision.verdict == "keep"
    assert decision.improvement is not None
    assert decision.improvement > 0


def test_a_resample_without_a_metric_counts_against_the_challenger() -> None:
    constant = Answers([1.0] * 20, [0.0] * 19 + [1.0])
    decision = decide(evidence(numbers(0.1, 2, rows=20), None, metric="pearson", score=pearson), gate(confidence=0.9))
    assert decision.verdict == "promote"
    with np.errstate(all="ignore"):
        assert decide(evidence(constant, None, metric="pearson", score=pearson), gate()).verdict == "keep"


def test_a_champion_that_cannot_be_asked_stays() -> None:
    said = "version 3, the present champion, has the labels ham and spam, not neg and pos"
    decision = decide(evidence(classes(99, 100), None, obstacle=said), gate())
    assert decision.verdict == "keep"
    assert said in decision.reasons


def test_a_challenger_without_a_finite_score_is_never_promoted() -> None:
    decision = decide(evidence(classes(1, 2), None, score=lambda predictions, references: math.nan), gate())
    assert decision.verdict == "keep"


def test_answers_on_different_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="different rows"):
        decide(evidence(classes(1, 2), classes(1, 3)), gate())


def test_a_decision_turns_into_json_and_back() -> None:
    decision = decide(evidence(classes(90, 100), classes(80, 100)), gate(confidence=0.9))
    assert type(decision).model_validate_json(decision.model_dump_json()) == decision


@pytest.mark.parametrize(
    "wrong",
    [{"min_improvement": -0.1}, {"confidence": 1.0}, {"confidence": 0.0}, {"min_improvement": math.nan}, {"alpha": 1}],
)
def test_a_gate_that_means_nothing_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        gate(**wrong)


def test_the_config_comes_without_numpy_and_scipy() -> None:
    code = "import sys, hpo.promotion; assert not {'numpy', 'scipy', 'mlflow', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_gate_asks_for_confidence_unless_told_otherwise() -> None:
    assert gate().confidence == 0.95


def test_the_test_is_against_zero_and_the_margin_is_asked_of_what_was_seen() -> None:
    pair = evidence(classes(90, 100), classes(80, 100))
    with_margin = decide(pair, gate(min_improvement=0.05))
    assert with_margin.p_value == decide(pair, gate()).p_value
    assert decide(pair, gate(min_improvement=0.2)).verdict == "keep"


def test_the_evidence_is_complete() -> None:
    pair = evidence(classes(90, 100), classes(80, 100), digest="d1", against=3, seen=7)
    decision = decide(pair, gate())
    assert (decision.test, decision.wins, decision.losses, decision.rows) == ("mcnemar", 10, 0, 100)
    assert (decision.digest, decision.against, decision.seen, decision.metric) == ("d1", 3, 7, "accuracy")
    assert decision.low is not None
    assert decision.high is not None
    assert 0.0 < decision.low < 0.1 < decision.high


def test_a_few_rows_do_not_convince_the_bootstrap() -> None:
    """Three rows that only the challenger has right are a coin thrown three times."""
    pair = evidence(classes(83, 100), classes(80, 100), metric="f1", score=accuracy)
    decision = decide(pair, gate())
    assert (decision.verdict, decision.test) == ("keep", "bootstrap")


def test_a_comparison_says_how_sure_its_difference_is() -> None:
    found = compare(evidence(classes(80, 100), classes(60, 100)))
    assert found is not None
    assert found.gain == pytest.approx(0.2)
    assert 0.0 < found.low < 0.2 < found.high
    worse = compare(evidence(numbers(0.9, 3), numbers(0.1, 4), metric="mse", mode="min", score=squared_error))
    assert worse is not None
    assert worse.low < worse.gain < worse.high < 0.0
    assert compare(evidence(classes(80, 100), None)) is None
