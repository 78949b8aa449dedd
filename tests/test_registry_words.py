"""What a model version says of itself."""

from hpo.records import Confirmed, Decision, Origin
from hpo.registry.words import of_version

DECISION = Decision(verdict="promote", reasons=("accuracy is 0.8 on 9 test rows",), challenger_score=0.8)
SEEDS = Confirmed(number=8, origin="tpe", first=0.81, values=(0.79, 0.8, 0.78), mean=0.79, low=0.76, high=0.82)


def test_a_version_says_which_seed_its_weights_are_of() -> None:
    text = of_version(DECISION, Origin(study="s", trial=8, replicate=2, params={}, confirmed=SEEDS))
    assert "From trial 8, seed 2, of the study `s`." in text
    assert "0.7900 (0.7600 to 0.8200) over 3 fresh seeds, 0.8100 in the search. Its weights are those of seed 2" in text


def test_a_version_of_the_search_itself_speaks_of_no_seed() -> None:
    text = of_version(DECISION, Origin(study="s", trial=8, params={}))
    assert "From trial 8 of the study `s`." in text
    assert "seed" not in text
