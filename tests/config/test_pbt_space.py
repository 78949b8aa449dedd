"""A population in a space file: what loads, and what is refused with advice."""

from pathlib import Path
from typing import Any

import pytest

from hpo.config import StudyConfig, load
from hpo.errors import ConfigError
from hpo.schedulers import PbtConfig

BLIND = "search.sampler=random"


def pbt(write_space: Any, good: str, *options: str) -> StudyConfig:
    path: Path = write_space(good)
    return load(path, [BLIND, "search.scheduler={type: pbt}", *options])


def test_short_and_long_forms_load(write_space: Any, good: str) -> None:
    assert pbt(write_space, good, "search.scheduler=pbt").search.scheduler == PbtConfig()
    long = "search.scheduler={type: pbt, intervals: 8, quantile: 0.2, factors: [0.5, 2], perturb: [learning_rate]}"
    config = pbt(write_space, good, long)
    assert config.search.scheduler == PbtConfig(
        intervals=8, quantile=0.2, factors=(0.5, 2.0), perturb=("learning_rate",)
    )
    assert StudyConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("options", "place", "message"),
    [
        (
            ["search.scheduler.perturb=[hidden_dropout]"],
            "search.scheduler.perturb[0]",
            "'hidden_dropout' is not one of learning_rate, weight_decay, hidden_dropout_prob, "
            "attention_probs_dropout_prob, classifier_dropout; did you mean hidden_dropout_prob?",
        ),
        (
            ["search.scheduler.perturb=[learning_rate, per_device_train_batch_size]"],
            "search.scheduler.perturb[1]",
            "'per_device_train_batch_size' is not one of learning_rate",
        ),
        (
            ["search.scheduler.perturb=[learning_rate, hidden_dropout_prob]"],
            "search.scheduler.perturb[1]",
            "hidden_dropout_prob is not in the space; add it there, or remove it here",
        ),
        (
            ["search.scheduler.perturb=[weight_decay]"],
            "search.scheduler.perturb[0]",
            "weight_decay is always 0.01 here; give it a range, or remove it here",
        ),
        (["space.learning_rate=3e-5"], "search.scheduler.type", "pbt has nothing to perturb"),
        (["search.scheduler.quantile=0.7"], "search.scheduler.quantile", "0.7 is above 0.5; write 0.5 or less"),
        (["search.scheduler.intervals=1"], "search.scheduler.intervals", "1 is below 2; write 2 or more"),
        (["search.scheduler.factors=[]"], "search.scheduler.factors", "fewer items than 1; add some"),
        (["search.sampler=tpe"], "search.sampler.type", "pbt changes values while a trial trains"),
    ],
)
def test_what_cannot_work_is_refused(write_space: Any, good: str, options: list[str], place: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        pbt(write_space, good, *options)
    found = {problem.where: problem.message for problem in caught.value.problems}
    assert message in found[place]
