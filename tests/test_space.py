import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo.constraints import parse
from hpo.space import Choice, Condition, Fixed, FloatRange, IntRange, SearchSpace

FOCAL = SearchSpace(
    {
        "focal_gamma": FloatRange(1.0, 4.0, when=(Condition("loss", ("focal",)),)),
        "loss": Choice(("cross_entropy", "focal")),
        "weight_decay": Fixed(0.01),
    }
)


def test_a_range_contains_its_ends_and_nothing_beyond():
    assert IntRange(2, 4).contains(2)
    assert IntRange(2, 4).contains(4)
    assert not IntRange(2, 4).contains(5)
    assert FloatRange(0.0, 0.3).contains(0.3)
    assert not FloatRange(0.0, 0.3).contains(0.31)


def test_whole_numbers_count_as_whole_however_they_are_written():
    assert IntRange(2, 4).contains(3.0)
    assert not IntRange(2, 4).contains(3.5)
    assert Choice((16, 32)).contains(16.0)


def test_true_is_not_one():
    assert not IntRange(0, 4).contains(True)
    assert not FloatRange(0.0, 4.0).contains(True)
    assert not Choice((0, 1)).contains(True)
    assert not Fixed(True).contains(1)


def test_a_step_leaves_gaps():
    assert IntRange(8, 64, step=8).contains(24)
    assert not IntRange(8, 64, step=8).contains(20)
    assert FloatRange(0.0, 0.3, step=0.1).contains(0.1 + 0.2)
    assert not FloatRange(0.0, 0.3, step=0.1).contains(0.15)


def test_a_step_that_does_not_divide_the_range_never_passes_its_end():
    assert IntRange(1, 6, step=2).grid() == (1, 3, 5)
    assert IntRange(1, 6, step=2).nearest(100) == 5
    assert FloatRange(0.0, 1.0, step=0.4).grid() == (0.0, 0.4, 0.8)
    assert FloatRange(0.0, 1.0, step=0.4).nearest(1.0) == 0.8


@pytest.mark.parametrize(
    ("parameter", "value", "nearest"),
    [
        (Fixed(3), 7, 3),
        (Choice((16, 32)), 25, 32),
        (Choice((16, 32)), 16.0, 16),
        (Choice(("linear", "cosine")), "constant", "linear"),
        (Choice(("a", 5)), 4, 5),
        (IntRange(2, 10), 3.4, 3),
        (IntRange(2, 10), -5, 2),
        (IntRange(2, 10), "many", 2),
        (FloatRange(1e-5, 1e-4, log=True), 1.0, 1e-4),
        (FloatRange(1e-5, 1e-4, log=True), "many", 1e-5),
        (FloatRange(0.0, 1.0, step=0.25), 0.6, 0.5),
    ],
)
def test_the_nearest_value_is_inside(parameter, value, nearest):
    assert parameter.nearest(value) == nearest
    assert parameter.contains(parameter.nearest(value))


def test_a_conditional_parameter_exists_only_while_its_condition_holds():
    assert FOCAL.project({"loss": "focal", "focal_gamma": 9.0}) == {
        "loss": "focal",
        "focal_gamma": 4.0,
        "weight_decay": 0.01,
    }
    assert FOCAL.project({"loss": "cross_entropy", "focal_gamma": 2.0}) == {
        "loss": "cross_entropy",
        "weight_decay": 0.01,
    }


def test_parents_come_before_those_that_depend_on_them():
    assert list(FOCAL.parameters) == ["loss", "focal_gamma", "weight_decay"]
    assert FOCAL.is_conditional


def test_conditions_in_a_circle_are_refused():
    circle = {
        "a": Choice((1, 2), when=(Condition("b", (1,)),)),
        "b": Choice((1, 2), when=(Condition("a", (1,)),)),
    }
    with pytest.raises(ValueError, match="a, b depend on each other"):
        SearchSpace(circle)


def test_the_space_contains_whole_assignments_only():
    assert FOCAL.contains({"loss": "focal", "focal_gamma": 2.0, "weight_decay": 0.01})
    assert FOCAL.contains({"weight_decay": 0.01, "loss": "cross_entropy"})
    assert not FOCAL.contains({"loss": "focal", "weight_decay": 0.01})
    assert not FOCAL.contains({"loss": "cross_entropy", "focal_gamma": 2.0, "weight_decay": 0.01})
    assert not FOCAL.contains({"loss": "hinge", "weight_decay": 0.01})
    assert not FOCAL.contains({"loss": "cross_entropy", "weight_decay": 0.01, "seed": 1})


def test_what_varies_is_what_is_not_fixed():
    assert set(FOCAL.varying) == {"loss", "focal_gamma"}


def test_the_grid_names_every_assignment_once():
    space = SearchSpace(
        {
            "loss": Choice(("cross_entropy", "focal")),
            "focal_gamma": IntRange(1, 3, when=(Condition("loss", ("focal",)),)),
            "weight_decay": Fixed(0.01),
        }
    )
    assert [tuple(params.values()) for params in space.grid()] == [
        ("cross_entropy", 0.01),
        ("focal", 1, 0.01),
        ("focal", 2, 0.01),
        ("focal", 3, 0.01),
    ]


def test_a_range_without_a_step_has_no_grid():
    with pytest.raises(ValueError, match="without a step"):
        list(SearchSpace({"learning_rate": FloatRange(1e-5, 1e-4)}).grid())


numbers = st.floats(-1e6, 1e6) | st.integers(-(10**6), 10**6)
scalars = numbers | st.booleans() | st.text(max_size=5)


@st.composite
def int_ranges(draw: st.DrawFn) -> IntRange:
    low = draw(st.integers(-1000, 1000))
    return IntRange(low, low + draw(st.integers(1, 1000)), step=draw(st.integers(1, 10)))


@st.composite
def float_ranges(draw: st.DrawFn) -> FloatRange:
    low = draw(st.floats(-1000, 1000))
    width = draw(st.floats(0.01, 1000))
    step = draw(st.none() | st.floats(0.01, 1.0).map(lambda share: share * width))
    return FloatRange(low, low + width, step=step)


parameters = st.builds(Fixed, scalars) | st.builds(
    Choice, st.lists(scalars, min_size=1, max_size=5).map(tuple)
) | int_ranges() | float_ranges()  # fmt: skip


@given(parameters, scalars)
def test_the_nearest_value_always_lies_inside(parameter, value):
    assert parameter.contains(parameter.nearest(value))


@given(st.dictionaries(st.sampled_from("abcdef"), parameters, min_size=1), st.data())
def test_a_projected_point_always_lies_in_the_space(own, data):
    names = sorted(own)
    for child, parent in zip(names[1:], names, strict=False):  # chains of conditions
        if isinstance(own[parent], Choice | IntRange) and data.draw(st.booleans()):
            kept = {name: getattr(own[child], name) for name in own[child].__slots__ if name != "when"}
            wanted = tuple(data.draw(st.lists(st.sampled_from(own[parent].grid()), min_size=1, max_size=3)))
            own[child] = type(own[child])(**kept, when=(Condition(parent, wanted),))
    space = SearchSpace(own)
    point = {name: data.draw(scalars) for name in names}
    assert space.contains(space.project(point))


def ruled(*texts: str, **parameters: object) -> SearchSpace:
    kinds = dict.fromkeys(parameters, "number")
    return SearchSpace(parameters, tuple(parse(text, kinds, {}) for text in texts))


def test_a_rule_leaves_assignments_out_of_the_space_and_of_its_grid():
    space = ruled("a * b <= 6", a=IntRange(1, 4), b=Choice((2, 3)))
    assert not space.contains({"a": 4, "b": 2})
    assert space.contains({"a": 3, "b": 2})
    assert [tuple(point.values()) for point in space.grid()] == [(1, 2), (1, 3), (2, 2), (2, 3), (3, 2)]
    assert (space.size, ruled("a > 3", a=FloatRange(1.0, 4.0)).size) == (8, None)


def test_a_point_that_breaks_a_rule_is_moved_as_little_as_it_takes():
    space = ruled("a <= 0.1 or b >= 3e-5", a=FloatRange(0.0, 0.2), b=FloatRange(1e-5, 1e-3, log=True))
    moved = space.project({"a": 0.12, "b": 1e-5})
    assert moved["b"] == 1e-5
    assert moved["a"] == pytest.approx(0.1, abs=1e-9)
    moved = space.project({"a": 0.2, "b": 2.9e-5})
    assert moved["a"] == 0.2
    assert moved["b"] == pytest.approx(3e-5)
    assert space.project({"a": 0.05, "b": 1e-5}) == {"a": 0.05, "b": 1e-5}


def test_a_point_that_two_rules_forbid_changes_in_both():
    space = ruled("a <= 3", "b == 5", a=IntRange(1, 9), b=IntRange(1, 9), c=IntRange(1, 9))
    assert space.project({"a": 9, "b": 1, "c": 7}) == {"a": 3, "b": 5, "c": 7}


def test_three_changes_are_found_by_drawing():
    space = ruled("a + b + c >= 25", a=IntRange(1, 9), b=IntRange(1, 9), c=IntRange(1, 9), d=IntRange(1, 9))
    found = space.project({"a": 1, "b": 1, "c": 1, "d": 4})
    assert space.contains(found)
    assert found["d"] == 4


def test_a_space_without_room_says_so():
    space = ruled("a >= 5", a=IntRange(1, 4), b=FloatRange(0.0, 1.0))
    with pytest.raises(ValueError, match="no assignment of the space keeps the constraints"):
        space.project({"a": 1, "b": 0.5})
    assert space.share_allowed(100) == 0.0


def test_draws_keep_the_rules_and_reach_every_corner():
    space = ruled("a * b <= 6", a=IntRange(1, 4), b=Choice((2, 3)))
    source = random.Random(0)
    drawn = [space.draw(source) for _ in range(200)]
    assert {tuple(one.items()) for one in drawn} == {tuple(one.items()) for one in space.grid()}


@given(parameters.filter(lambda own: not isinstance(own, Fixed)), st.floats(0.0, 1.0))
def test_the_value_at_any_share_of_a_parameter_lies_inside(parameter, share):
    assert parameter.contains(parameter.at(share))
    assert parameter.distance(parameter.at(share), parameter.at(share)) == 0.0


def test_the_size_of_a_space_is_counted_without_listing_its_values():
    space = SearchSpace({"a": IntRange(0, 10**15), "b": FloatRange(0.0, 1.0, step=1e-12), "c": Choice(("x", "y"))})
    assert space.size == 2 * (10**15 + 1) * (10**12 + 1)
