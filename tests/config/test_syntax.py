"""What YAML means here, where readers of YAML disagree."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo.config.syntax import dump, parse


def value_of(text: str):
    source = parse(f"key: {text}\n", Path("x.yaml"))
    assert source.problems == []
    return source.values["key"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5),
        ("1E-5", 1e-5),
        ("1.e-5", 1e-5),
        ("-.5", -0.5),
        ("+3", 3),
        ("017", 17),
        ("0o17", 15),
        ("0x1F", 31),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("null", None),
        ("on", "on"),
        ("no", "no"),
        ("yes", "yes"),
        ("2026-01-01", "2026-01-01"),
        ("12:30:45", "12:30:45"),
        ("1_000", "1_000"),
        ("'1e-5'", "1e-5"),
        ('"true"', "true"),
        ("1e", "1e"),
        ("[1, 1.0, '1']", [1, 1.0, "1"]),
        ("{a: {b: [c]}}", {"a": {"b": ["c"]}}),
    ],
)
def test_plain_values_are_those_of_yaml_1_2(text, value):
    read = value_of(text)
    assert read == value
    assert type(read) is type(value)


def test_an_alias_stands_for_a_copy():
    source = parse("one: &a [1, 2]\ntwo: *a\n", None)
    assert source.values == {"one": [1, 2], "two": [1, 2]}
    source.values["one"].append(3)
    assert source.values["two"] == [1, 2]


def test_aliases_cannot_hide_depth():
    text = "a: &a " + "[" * 15 + "]" * 15 + "\nb: " + "[" * 10 + "*a" + "]" * 10 + "\n"
    with pytest.raises(Exception, match="deeper than 20"):
        parse(text, None)


def test_every_key_and_item_knows_its_line():
    source = parse("a:\n  b: 1\n  c:\n    - x\n    - y\nd: {e: 1,\n  f: 2}\n", None)
    assert source.lines == {
        ("a",): 1,
        ("a", "b"): 2,
        ("a", "c"): 3,
        ("a", "c", 0): 4,
        ("a", "c", 1): 5,
        ("d",): 6,
        ("d", "e"): 6,
        ("d", "f"): 7,
    }


texts = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=12) | st.sampled_from(
    ["1e5", "12345e6", "on", "no", "~", "", "true", "<<", "0x1", ".nan", "- a", "a: b", "#", "*a", "!t", " x "]
)
finite = st.floats(allow_nan=False, allow_infinity=False)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | finite | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=10,
)  # fmt: skip


@given(st.dictionaries(texts, plain, min_size=1, max_size=4))
def test_what_is_dumped_is_read_back(values):
    source = parse(dump(values), None)
    assert source.problems == []
    assert source.values == values
