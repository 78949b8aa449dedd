import pytest
from hypothesis import given
from hypothesis import strategies as st

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
