"""The section `constraints`: bound to the space, refused with a line, and kept by the first points."""

from typing import Any

import pytest

from hpo.config import StudyConfig, load
from hpo.errors import ConfigError


def refusal(good: str, write_space: Any, *rules: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(write_space(good + "constraints:\n" + "".join(f"  - {rule}\n" for rule in rules)))
    return str(caught.value)


def test_rules_bind_the_space_through_numbers_of_the_task(good: str, write_space: Any) -> None:
    text = good + "constraints: [per_device_train_batch_size * max_length <= 1024]\n"
    config = load(write_space(text))
    assert {point["per_device_train_batch_size"] for _, point in config.first_points()} == {16}
    longer = load(write_space(text), ["task.max_length=32"])
    assert {point["per_device_train_batch_size"] for _, point in longer.first_points()} == {16, 32}


def test_a_configuration_with_rules_survives_its_copies(good: str, write_space: Any) -> None:
    config = load(write_space(good + "constraints: [num_train_epochs * per_device_train_batch_size < 50]\n"))
    again = StudyConfig.from_json(config.to_json())
    assert again == config
    assert again.space.constraints
    assert load(write_space(config.document())).space == config.space


def test_every_mistake_is_reported_at_its_line(good: str, write_space: Any) -> None:
    lines = good.count("\n") + 1
    said = refusal(good, write_space, "learning_rat <= 1", "warmup_ratio <= 0.1", "weight_decay > 0", "3 <", "loss < 3")
    first, second, third, fourth, fifth = said.splitlines()
    assert "did you mean learning_rate?" in first
    assert f"space.yaml:{lines + 1}" in first
    assert "warmup_ratio is not in the space, so trials take its default" in second
    assert "weight_decay does not vary; remove it" in third
    assert "is no comparison" in fourth
    assert "loss is a text" in fifth
    assert f"space.yaml:{lines + 5}" in fifth


def test_mistakes_elsewhere_do_not_hide_those_of_the_rules(good: str, write_space: Any) -> None:
    said = refusal(good.replace("trials: 8", "trials: 0"), write_space, "learning_rat <= 1")
    assert "budget.trials" in said
    assert "constraints[0]" in said


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("learning_rate == 3e-5", r"constraints\[0\]: the rules leave next to nothing"),
        ("learning_rate <= 1.00001e-5", r"constraints\[0\]: the rules leave"),
        ("num_train_epochs > 4", r"constraints\[0\]: the rules leave"),
    ],
)
def test_rules_that_leave_nothing_to_search_are_refused(good: str, write_space: Any, rule: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(write_space(good + f"constraints: ['{rule}']\n"))


def test_rules_that_leave_one_assignment_of_a_finite_space_are_refused(good: str, write_space: Any) -> None:
    text = good + "constraints: [num_train_epochs * per_device_train_batch_size <= 16]\n"
    space = "space={num_train_epochs: [1, 2], per_device_train_batch_size: [16, 32]}"
    with pytest.raises(ConfigError, match="leave one assignment"):
        load(write_space(text), [space, "search.first=[default]"])


def test_the_default_moves_points_of_the_grid_stay_away_and_the_user_s_values_stay(good: str, write_space: Any) -> None:
    rule = "constraints: [num_train_epochs * per_device_train_batch_size < 50]\n"
    config = load(
        write_space(good + rule),
        ["search.first=[default, bert-paper-grid, {learning_rate: 9e-5, num_train_epochs: 3}]"],
    )
    points = config.first_points()
    assert all(config.space.contains(point) for _, point in points)
    assert [origin for origin, _ in points] == ["default", *["bert-paper-grid"] * 6, "first"]
    assert (points[-1][1]["num_train_epochs"], points[-1][1]["per_device_train_batch_size"]) == (3, 16)
    assert config.left_out_points() == ("12 of 18 points of bert-paper-grid break a constraint and are left out",)


def test_a_point_whose_own_values_break_a_rule_is_refused(good: str, write_space: Any) -> None:
    rule = "constraints: [num_train_epochs * per_device_train_batch_size < 50]\n"
    with pytest.raises(ConfigError, match=r"search.first\[0\]: no point with these values keeps the constraints"):
        load(
            write_space(good + rule),
            ["search.first=[{num_train_epochs: 4, per_device_train_batch_size: 32}]"],
        )
