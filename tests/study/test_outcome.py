"""Which question a saved outcome answers: the same winner under another gate, or beside another default, is another."""

from typing import Any

import pytest

from hpo.promotion import PromotionConfig
from hpo.study.finish import Outcome


def asked(baseline: int = 0, replicate: int = 0, **gate: Any) -> Outcome:
    return Outcome(trial=3, gate=PromotionConfig(model="m", **gate), baseline=baseline, baseline_replicate=replicate)


def test_an_answer_is_about_its_question() -> None:
    answer = asked().model_copy(update={"test_best": {"accuracy": 0.9}, "model_uri": "models:/m@champion"})
    assert Outcome.model_validate_json(answer.model_dump_json()).is_about(asked())


@pytest.mark.parametrize(
    "changed",
    [{"confidence": None}, {"min_improvement": 0.01}, {"limits": {"latency": 3.0}}, {"baseline": 7}, {"replicate": 2}],
)
def test_another_gate_or_default_asks_anew(changed: dict[str, Any]) -> None:
    assert not asked().is_about(asked(**changed))


def test_an_outcome_of_before_openings_were_counted_is_one() -> None:
    answer = asked().model_copy(update={"replicate": 2, "test_best": {"accuracy": 0.9}})
    assert (asked().openings, answer.openings) == ((), ("trial 3 seed 2",))
    assert answer.model_copy(update={"opened": ("trial 1", "trial 3")}).openings == ("trial 1", "trial 3")


def test_an_outcome_of_before_gates_were_saved_is_asked_anew() -> None:
    assert not Outcome.model_validate_json('{"trial": 3, "model": "m"}').is_about(asked())
