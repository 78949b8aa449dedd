"""The section `confirm`: what it says, and what it refuses."""

import pytest

from hpo.config import StudyConfig, load
from hpo.config.sections import ConfirmConfig
from hpo.errors import ConfigError


def test_without_the_section_nothing_is_confirmed(good, write_space):
    assert load(write_space(good)).confirm is None


def test_the_section_alone_confirms_three_leaders_over_three_seeds(good, write_space):
    assert load(write_space(good + "confirm: {}\n")).confirm == ConfirmConfig(top=3, seeds=3, confidence=0.95)


def test_what_is_written_comes_back_from_the_saved_configuration(good, write_space):
    loaded = load(write_space(good), ["confirm.top=2", "confirm.seeds=5"])
    assert loaded.confirm == ConfirmConfig(top=2, seeds=5)
    assert StudyConfig.from_json(loaded.to_json()).confirm == loaded.confirm
    assert "confirm" in loaded.document()


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("{top: 0}", "confirm.top"),
        ("{seeds: 0}", "confirm.seeds"),
        ("{seeds: 2.5}", "confirm.seeds"),
        ("{confidence: 0.4}", "confirm.confidence"),
        ("{confidence: 1}", "confirm.confidence"),
        ("{leaders: 3}", "confirm.leaders"),
    ],
)
def test_what_makes_no_sense_is_refused_at_its_place(text, place, good, write_space):
    with pytest.raises(ConfigError, match=rf"^.*{place}"):
        load(write_space(f"{good}confirm: {text}\n"))
