"""Whatever a file holds: a StudyConfig or a ConfigError, never anything else."""

import random
import string
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpo.config import StudyConfig, load
from hpo.config.syntax import dump, parse
from hpo.errors import ConfigError

SPACES = sorted((Path(__file__).resolve().parents[2] / "search_spaces").rglob("*.yaml"))
WORDS = [
    "study", "model", "name", "space", "low", "high", "log", "step", "when", "value", "values", "type", "first",
    "from", "default", "tpe", "asha", "focal", "loss", "learning_rate", "num_train_epochs", "bf16", "{date}",
    "package:", "~", "/", "true", "1e-5", "-1", "0", ".inf", "null", "", "files", "train", "x.tsv", "sqlite:///x.db",
    "2GB", "\u00e9\u2028", "../x",
]  # fmt: skip
fuzz = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.sampled_from(WORDS)
    | st.text(max_size=6)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=4),
    max_leaves=12,
)


def outcome(path: Path, overrides: tuple[str, ...] = ()) -> StudyConfig | ConfigError:
    """The configuration or the refusal; anything else fails the test."""
    try:
        loaded = load(path, overrides)
    except ConfigError as error:
        return (
            error if error.problems and all(problem.message for problem in error.problems) else pytest.fail("wordless")
        )
    assert StudyConfig.from_json(loaded.to_json()) == loaded
    assert all(loaded.space.contains(params) for _, params in loaded.first_points())
    return loaded


def paths_in(node, path=()):
    yield path
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield from paths_in(value, (*path, key))


@fuzz
@given(space=st.sampled_from(SPACES), data=st.data())
def test_a_value_of_another_kind_anywhere(space, data, tmp_path):
    document = parse(space.read_text(), None).values
    for _ in range(data.draw(st.integers(1, 3))):
        *parents, last = data.draw(st.sampled_from([path for path in paths_in(document) if path]))
        node = document
        for key in parents:
            node = node[key]
        if data.draw(st.booleans()):
            node[last] = data.draw(values)
        elif isinstance(node, dict):
            node[data.draw(st.sampled_from(WORDS))] = data.draw(values)
        else:
            del node[last]
    (tmp_path / "space.yaml").write_text(dump(document), encoding="utf-8", newline="")
    outcome(tmp_path / "space.yaml")


@fuzz
@given(space=st.sampled_from(SPACES), seed=st.integers(0, 10**6))
def test_characters_lost_doubled_and_changed(space, seed, tmp_path):
    chance = random.Random(seed)
    text = list(space.read_text())
    for _ in range(chance.randint(1, 8)):
        place = chance.randrange(len(text))
        match chance.randrange(3):
            case 0:
                del text[place]
            case 1:
                text.insert(place, chance.choice(string.printable + "&*!é"))
            case _:
                text[place : place + chance.randrange(40)] = []
    (tmp_path / "space.yaml").write_text("".join(text), encoding="utf-8", newline="")
    outcome(tmp_path / "space.yaml")


@fuzz
@given(content=st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_at_all(content, tmp_path):
    (tmp_path / "space.yaml").write_bytes(content)
    outcome(tmp_path / "space.yaml")


@fuzz
@given(
    space=st.sampled_from(SPACES),
    overrides=st.lists(
        st.builds("{}.{}={}".format, st.sampled_from(WORDS), st.sampled_from(WORDS), st.sampled_from(WORDS))
        | st.builds("{}={}".format, st.sampled_from(WORDS), values)
        | st.text(max_size=20),
        max_size=3,
    ),
)
def test_any_override(space, overrides):
    outcome(space, tuple(overrides))
