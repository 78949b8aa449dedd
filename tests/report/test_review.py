"""Where the winner is wrong, and why it answers so, as pages and files say it."""

import csv
import json
import re

import pytest
from test_pages import EVIL, Page

from hpo.records import Bin, Confusion, Explained, Mistake, Mistakes, Piece, Reliability, Review
from hpo.report.findings import Background
from hpo.report.pages import write_report
from hpo.report.review import ERRORS, MATRIX, SHOWN, errors_section, on_test, why_section
from hpo.report.summary import summary_text


@pytest.fixture
def review() -> Review:
    rows = tuple(
        Mistake(row=row, text=f"{EVIL} {'long ' * 100}", truth="neg", said=EVIL, score=0.99) for row in range(20)
    )
    one = Bin(low=0.6, high=0.67, rows=40, sure=0.65, right=0.5)
    return Review(
        mistakes=Mistakes(score="probability of the answer", wrong=63, rows=rows),
        confusion=Confusion(labels=("neg", EVIL, "a|b"), cells=((0, 0, 200), (0, 1, 50), (1, 1, 237), (2, 0, 13))),
        reliability=Reliability(
            temperature=1.7, fitted_on=400, error=0.083, error_after=0.021, bins=(one,), bins_after=(one,)
        ),
    )


@pytest.fixture
def explained() -> Explained:
    """The weights add up to 1.9, where the logit differs by 2."""
    pieces = (
        Piece(text="[CLS]", weight=0.0),
        Piece(text="good", weight=2.0),
        Piece(text="ish", weight=0.1, begins=False),
        Piece(text=EVIL, weight=-0.2),
    )
    return Explained(
        row=7, truth="neg", said="pos", is_right=False, output="pos", logit=2.5, baseline=0.5, pieces=pieces
    )


@pytest.fixture
def page(tmp_path, summary, trials, space, review) -> Page:
    told = summary.model_copy(update={"review": review})
    return Page(write_report(tmp_path, told, trials, Background(space.varying))[0].read_text("utf-8"))


def test_the_page_shows_the_worst_answers_and_whether_probabilities_hold(page):
    assert "Of 500 test rows the winner answers 63 wrong. The worst 20 are in report-errors.jsonl." in page.words
    assert "Its probabilities are off by 8.3 points on average" in page.words
    assert "on the whole it is 15.0 points too sure." in page.words
    assert "divided by 1.70, the temperature that fits 400 validation rows best" in page.words
    assert "they are off by 2.1 points" in page.words
    assert {"confusion", "reliability"} <= set(page.figures)


def test_texts_of_rows_and_classes_stay_text(page, tmp_path):
    assert [attrs.get("id") for tag, attrs in page.elements if tag == "script"] == ["figures", "library", None]
    assert EVIL not in json.dumps(page.figures)
    assert EVIL in page.words
    assert EVIL not in (tmp_path / "report.md").read_text()


def test_the_matrix_shows_each_class_once_with_its_share(page):
    [drawn] = page.figures["confusion"]["data"]
    assert drawn["z"] == [[0.8, 0.2, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
    assert drawn["text"][0] == ["200", "50", ""]


def test_files_hold_the_whole(page, tmp_path, review):
    rows = [json.loads(line) for line in (tmp_path / ERRORS).read_text().splitlines()]
    assert rows == [row.model_dump() for row in review.mistakes.rows]
    with (tmp_path / MATRIX).open(newline="") as file:
        table = list(csv.reader(file))
    assert table == [
        ["true class", "neg", EVIL, "a|b"],
        ["neg", "200", "50", "0"],
        [EVIL, "0", "237", "0"],
        ["a|b", "13", "0", "0"],
    ]


def test_of_many_classes_the_commonest_confusions_are_listed(summary, review):
    labels = tuple(f"class {number}" for number in range(40))
    cells = tuple((number, 0, 40 - number) for number in range(40))
    many = review.model_copy(update={"confusion": Confusion(labels=labels, cells=cells)})
    section = errors_section(summary.model_copy(update={"review": many}))
    assert [chart.name for chart in section.charts] == ["reliability"]
    assert len(section.tables[0].rows) == SHOWN
    assert [cell.text for cell in section.tables[0].rows[0].cells] == ["class 1", "class 0", "39", "100.0%"]


def test_a_winner_without_a_wrong_row_has_a_section_too(summary):
    none = Review(mistakes=Mistakes(score="", wrong=0, rows=()))
    section = errors_section(summary.model_copy(update={"review": none}))
    assert section.paragraphs == ("Of 500 test rows the winner answers none wrong.",)
    assert errors_section(summary) is None
    assert errors_section(summary.model_copy(update={"review": Review()})) is None


def test_rows_that_were_opened_more_than_once_are_said_to_be(tmp_path, summary, trials, space):
    assert on_test(summary).title == "On the test split (500 rows), opened once"
    again = summary.model_copy(update={"test_opened": ("trial 3", "trial 7 seed 2")})
    assert on_test(again).title == "On the test split (500 rows), opened 2 times"
    said = "The test rows were opened 2 times, for trial 3, trial 7 seed 2: who goes on after a look at them chooses by"
    assert said in summary_text(again)
    assert said in write_report(tmp_path, again, trials, Background(space.varying))[1].read_text()
    assert "were opened" not in summary_text(summary.model_copy(update={"test_opened": ("trial 3",)}))


def test_before_and_after_stand_side_by_side(tmp_path, summary, trials, space):
    told = summary.model_copy(update={"test_untrained": {"accuracy": 0.031}})
    assert on_test(told).heads == ("metric", "winner", "default", "untrained")
    assert [cell.text for cell in on_test(told).rows[0].cells] == ["accuracy", "0.7640", "0.7320", "0.0310"]
    assert on_test(summary).heads == ("metric", "winner", "default")
    _, text, *_ = write_report(tmp_path, told, trials, Background(space.varying))
    assert "before any training here, its model has accuracy 0.0310 on the test rows" in text.read_text()


def test_tokens_are_shaded_by_what_they_gave_to_the_answer(tmp_path, summary, trials, space, explained):
    told = summary.model_copy(update={"review": Review(explained=(explained,))})
    page, text, *_ = write_report(tmp_path, told, trials, Background(space.varying))
    shown = Page(page.read_text())
    spans = [attrs for tag, attrs in shown.elements if tag == "span"]
    assert [own["class"] for own in spans] == ["for", "for", "for", "against"]
    assert [own["style"] for own in spans] == ["--w: 0%", "--w: 100%", "--w: 5%", "--w: 10%"]
    assert "Row 7: pos (wrong, it is neg) logit of pos 2.50, without any words 0.50" in shown.words
    assert re.search(r">good</span><span [^>]*>ish</span> <span", page.read_text())
    assert EVIL in shown.words
    assert "they miss it by 0.1 at most, and the smallest of these differences is 2" in shown.words
    assert "for it good +2.00, ish +0.10; against it &lt;script>alert(1)&lt;/script> -0.20" in text.read_text()


def test_why_nothing_is_explained_is_said(summary):
    silent = summary.model_copy(update={"review": Review(unexplained="a toy model can't be explained")})
    assert why_section(silent).paragraphs == ("Not explained: a toy model can't be explained.",)
    assert why_section(summary) is None
    assert why_section(summary.model_copy(update={"review": Review()})) is None
