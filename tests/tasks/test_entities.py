"""Entities by the rules of conlleval and seqeval; the example of the latter is that of its documentation."""

import numpy as np
import pytest

from hpo.tasks import entities as own
from hpo.tasks.entities import Counts, Entity, as_iob2, by_type, entities, figures

SCHEMES = {
    "IOB1": ["I-PER", "I-PER", "O", "I-LOC", "B-LOC", "O", "I-ORG", "I-PER"],
    "IOB2": ["B-PER", "I-PER", "O", "B-LOC", "B-LOC", "O", "B-ORG", "B-PER"],
    "IOBES": ["B-PER", "E-PER", "O", "S-LOC", "S-LOC", "O", "S-ORG", "S-PER"],
    "BILOU": ["B-PER", "L-PER", "O", "U-LOC", "U-LOC", "O", "U-ORG", "U-PER"],
}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_reads_as_the_same_entities_and_is_written_as_iob2(scheme: str) -> None:
    found = entities(SCHEMES[scheme])
    places = [(0, 2, "PER"), (3, 4, "LOC"), (4, 5, "LOC"), (6, 7, "ORG"), (7, 8, "PER")]
    assert found == [Entity(*place) for place in places]
    assert as_iob2(SCHEMES[scheme]) == SCHEMES["IOB2"]


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ([], []),
        (["O", "O"], []),
        (["I-PER"], [Entity(0, 1, "PER")]),
        (["B-PER", "I-LOC"], [Entity(0, 1, "PER"), Entity(1, 2, "LOC")]),
        (["O", "I-PER", "I-PER", "O"], [Entity(1, 3, "PER")]),
        (["B-creative-work", "I-creative-work"], [Entity(0, 2, "creative-work")]),
        (["B-A", "E-A", "I-A"], [Entity(0, 2, "A"), Entity(2, 3, "A")]),
        (["PER", "PER", "O", "LOC", "PER"], [Entity(0, 2, "PER"), Entity(3, 4, "LOC"), Entity(4, 5, "PER")]),
        (["B-PER", "I-PER", "O", "B-LOC"], [Entity(0, 2, "PER"), Entity(3, 4, "LOC")]),
    ],
)
def test_entities_begin_and_end_where_conlleval_has_them(tags: list[str], expected: list[Entity]) -> None:
    assert entities(tags) == expected


def test_tags_without_prefixes_stay_as_they_are() -> None:
    assert as_iob2(["NOUN", "VERB", "O"]) == ["NOUN", "VERB", "O"]


def test_the_example_of_seqeval_scores_as_published() -> None:
    true = [["O", "O", "O", "B-MISC", "I-MISC", "I-MISC", "O"], ["B-PER", "I-PER", "O"]]
    said = [["O", "O", "B-MISC", "I-MISC", "I-MISC", "I-MISC", "O"], ["B-PER", "I-PER", "O"]]
    found = figures(said, true)
    assert found == pytest.approx({"f1": 0.5, "precision": 0.5, "recall": 0.5, "accuracy": 0.8})
    assert by_type(said, true) == {"MISC": Counts(0, 1, 1), "PER": Counts(1, 1, 1)}


def test_a_sentence_in_the_columns_of_conlleval_scores_as_counted_by_hand() -> None:
    """Word class, true tag, predicted tag; the last phrase is cut in two."""
    rows = """NNP B-NP B-NP|NNP I-NP I-NP|, O O|NN B-NP B-NP|IN B-PP B-PP|DT B-NP B-NP|NN I-NP I-NP|VBZ B-VP B-VP
        VBN I-VP I-VP|TO B-PP B-PP|DT B-NP B-NP|JJ I-NP I-NP|NN I-NP B-NP|. O O"""
    pairs = [row.split()[1:] for line in rows.splitlines() for row in line.strip().split("|")]
    true, said = [[one for one, _ in pairs]], [[other for _, other in pairs]]
    counts = by_type(said, true)
    assert counts["NP"] == Counts(hits=3, said=5, there=4)
    assert counts["VP"] == Counts(hits=1, said=1, there=1)
    assert counts["PP"] == Counts(hits=2, said=2, there=2)
    assert figures(said, true)["f1"] == pytest.approx(2 * 6 / (8 + 7))


def test_nothing_found_and_nothing_there_is_no_reason_to_fail() -> None:
    assert figures([["O"]], [["O"]]) == {"f1": 0.0, "precision": 0.0, "recall": 0.0, "accuracy": 1.0}
    assert figures([["O"]], [["B-A"]])["recall"] == 0.0


def test_iob2_reads_back_as_the_same_entities_whatever_was_written() -> None:
    draw = np.random.default_rng(5)
    tags = ["O", *(f"{prefix}-{kind}" for prefix in "BIESLU" for kind in ("x", "y"))]
    for _ in range(300):
        sentence = [str(tag) for tag in draw.choice(tags, draw.integers(1, 12))]
        assert entities(as_iob2(sentence)) == entities(sentence)
        assert not any(tag[0] in "ESLU" for tag in as_iob2(sentence))
    assert own.type_of("B-creative-work") == "creative-work"
