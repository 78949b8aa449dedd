"""report.html and report.md as files: what they say, that they need no network, and that no text becomes markup."""

import base64
import gzip
import json
import math
import time
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from scipy import stats

from hpo.records import (
    Confirmed,
    DatasetRecord,
    Explained,
    Piece,
    Review,
    Seeds,
    TrialRecord,
    TrialState,
)
from hpo.report.answers import answers, chance
from hpo.report.findings import Background
from hpo.report.pages import write_report
from hpo.space import Choice, FloatRange

EVIL = "<script>alert(1)</script>"


class Page(HTMLParser):
    """Elements with their attributes, and the text of each script by its id."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.scripts, self.text, self._script = [], {}, [], None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self._script = dict(attrs).get("id", "")

    def handle_endtag(self, tag):
        self._script = None if tag == "script" else self._script

    def handle_data(self, data):
        if self._script is None:
            self.text.append(data)
        else:
            self.scripts[self._script] = self.scripts.get(self._script, "") + data

    @property
    def figures(self):
        return json.loads(self.scripts["figures"])

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


@pytest.fixture
def background(space):
    return Background(
        space.varying,
        document="study: docstrings\n",
        rungs=(0.25, 0.5, 1.0),
        params={"model": "tiny", "seed": 1},
        tags={"hpo.data_sha256": "ab" * 32},
        datasets=(DatasetRecord(name="d", split="train", rows=1200, digest="cd" * 32, source="local files"),),
    )


@pytest.fixture
def confirmed():
    return (
        Confirmed(
            number=10, origin="tpe", first=0.7751, values=(0.76, 0.77, 0.765), mean=0.765, low=0.7526, high=0.7774
        ),
        Confirmed(number=0, origin="default", first=0.73, values=(0.72, 0.73), mean=0.725, is_out=True),
    )


def page_of(folder, summary, trials, background):
    path = write_report(folder, summary, trials, background)[0]
    return Page(path.read_text("utf-8"))


def test_the_report_is_a_page_a_text_and_its_pictures(tmp_path, summary, trials, background):
    files = write_report(tmp_path, summary, trials, background)
    assert [path.name for path in files] == [
        "report.html",
        "report.md",
        "report-trials.png",
        "report-params.png",
        "report-curves.png",
    ]
    assert sorted(tmp_path.iterdir()) == sorted(files)
    for picture in files[2:]:
        assert f"({picture.name})" in files[1].read_text()
    assert files[0].stat().st_size < 3_000_000


def test_the_same_trials_give_the_same_bytes(tmp_path, summary, trials, background):
    first = [path.read_bytes() for path in write_report(tmp_path, summary, trials, background)]
    assert first == [path.read_bytes() for path in write_report(tmp_path, summary, trials, background)]


def test_the_page_fetches_nothing(tmp_path, summary, trials, background):
    page = page_of(tmp_path, summary, trials, background)
    loads = {name: value for _, attrs in page.elements for name, value in attrs.items() if name in ("src", "href")}
    assert all(value.startswith("#") for value in loads.values())
    assert {"link", "img", "iframe", "object"}.isdisjoint(tag for tag, _ in page.elements)
    policy = next(attrs["content"] for tag, attrs in page.elements if "http-equiv" in attrs)
    assert policy.startswith("default-src 'none';")
    assert "http" not in policy


def test_the_library_is_there_once_and_whole(tmp_path, summary, trials, background):
    from plotly.offline import get_plotlyjs

    page = page_of(tmp_path, summary, trials, background)
    assert gzip.decompress(base64.b64decode(page.scripts["library"])).decode() == get_plotlyjs()


def test_the_first_screen_answers_what_one_would_ask(tmp_path, summary, trials, background, confirmed):
    page = page_of(tmp_path, summary.model_copy(update={"confirmed": confirmed}), trials, background)
    assert "Trial 10 wins with accuracy 0.7640 on the test rows, 3.2 points better than the default." in page.words
    sure = "95% interval of the validation mean over 3 fresh seeds, on the same rows"
    assert f"How sure 0.753 to 0.777 {sure}" in page.words
    assert "the first score was 1.0 points too good" in page.words
    assert "What it bought +3.2 pts over the default on the test split (500 rows) (95 %: -1.0 to +7.4)" in page.words
    assert "lies within what chance alone makes" in page.words
    assert "What it cost 3 min 12 s 12 trials" in page.words
    assert "Yes: it is the champion now, models:/docstrings@champion." in page.words
    assert "python -m hpo.predict --model models:/docstrings@champion" in page.words


def test_without_fresh_seeds_and_test_rows_the_page_warns(tmp_path, summary, trials, background):
    bare = summary.model_copy(update={"test_best": None, "test_baseline": None, "model_uri": None, "reasons": ()})
    page = page_of(tmp_path, bare, trials, background)
    assert "How sure one seed" in page.words
    assert "chosen on the rows it is scored on, by one seed" in page.words
    assert "This study promotes nothing" in page.words
    assert "seeds" not in page.figures


def test_every_figure_has_a_place_and_words_for_who_cannot_see_it(tmp_path, summary, trials, background, confirmed):
    page = page_of(tmp_path, summary.model_copy(update={"confirmed": confirmed}), trials, background)
    places = {attrs["id"]: attrs["aria-label"] for _, attrs in page.elements if attrs.get("class") == "chart"}
    assert {f"figure-{name}" for name in page.figures} == set(places)
    assert all(places.values())
    shown = {"seeds", "history", "slices", "parallel", "curves", "survivors", "cost", "expected"}
    assert shown <= set(page.figures)
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert [tag for tag, _ in page.elements].count("h1") == 1


def test_of_a_dozen_trials_it_is_said_that_nobody_knows_what_mattered_and_of_two_dozen_what_did(
    tmp_path, summary, trials, background
):
    few = page_of(tmp_path, summary, trials, background)
    assert "importance" not in few.figures
    assert "12 trials with a value cannot say which params mattered: below 20" in few.words
    twice = [*trials, *(trial.model_copy(update={"number": trial.number + 12}) for trial in trials)]
    many = page_of(tmp_path, summary, twice, background)
    assert "importance" in many.figures
    assert "Of so few trials it is a rough guess" in many.words


def test_few_rows_are_said_to_be_few_with_what_chance_does_on_them(tmp_path, summary, trials, background):
    few = summary.model_copy(update={"test_rows": 60, "validation_rows": 299})
    said = page_of(tmp_path, few, trials, background).words
    assert "60 test rows are few: by the choice of rows alone, a share of 0.76 of them is uncertain by 11" in said
    assert "299 validation rows are few" in said
    assert "rows are few" not in page_of(tmp_path, summary, trials, background).words
    loss = few.model_copy(update={"metric": "loss", "test_best": {"loss": 0.5}, "test_baseline": None})
    assert "60 test rows are few: others would give another loss." in answers(loss, trials).caution
    f1 = few.model_copy(update={"metric": "f1_macro", "test_best": {"f1_macro": 0.76}, "test_baseline": None})
    assert "60 test rows are few: others would give another f1_macro." in answers(f1, trials).caution


def test_chance_on_few_rows_is_wilson_s_interval():
    wilson = stats.binomtest(45, 60).proportion_ci(method="wilson")
    assert chance(0.75, 60) == pytest.approx((wilson.high - wilson.low) / 2, rel=1e-4)
    assert chance(1.0, 60) > 0.0


def test_both_pages_hold_the_same_numbers(tmp_path, summary, trials, background, confirmed):
    write_report(tmp_path, summary.model_copy(update={"confirmed": confirmed}), trials, background)
    page, text = Page((tmp_path / "report.html").read_text()), (tmp_path / "report.md").read_text()
    for said in ("0.7526 to 0.7774", "loss is nan at step 63", "stopping early spared", "## All trials", "cd" * 32):
        assert said in text
        assert said.removeprefix("## ") in page.words


def test_the_text_reads_by_itself_from_the_answer_down(tmp_path, summary, trials, background, confirmed):
    pieces = (Piece(text="good", weight=1.2), Piece(text="but", weight=-0.3))
    own = Explained(row=3, truth="b", said="a", is_right=False, output="a", logit=1.0, baseline=0.1, pieces=pieces)
    explained = summary.model_copy(update={"confirmed": confirmed, "review": Review(explained=(own,))})
    write_report(tmp_path, explained, trials, background)
    text = (tmp_path / "report.md").read_text()
    assert text.startswith("# docstrings\n\n**Trial 10 wins with accuracy 0.7640 on the test rows, 3.2 points better")
    for word in ("colour", "Blue", "hover", "click", "the band", "(dots)", "as lines"):
        assert word not in text
    assert "for it good +1.20; against it but -0.30" in text
    assert "\n12 trials (8 complete, 3 pruned, 1 failed); the best value is" in text
    assert "\n**Over fresh seeds**\n\n| trial |" in text
    assert "Blue speaks for the answer" in Page((tmp_path / "report.html").read_text()).words


def test_whatever_a_study_is_called_stays_text(tmp_path, summary, trials, background):
    evil = [
        trials[0],
        trials[1].model_copy(update={"params": {**trials[1].params, "loss": EVIL}, "origin": EVIL}),
        trials[9].model_copy(update={"reason": f"broken {EVIL} | `x`"}),
        *(trial for trial in trials[2:] if trial.number != 9),
    ]
    named = summary.model_copy(
        update={"study": EVIL, "metric": EVIL, "reasons": (EVIL,), "history": (EVIL,), "test_best": {EVIL: 0.5}}
    )
    there = replace(
        background,
        varying={**background.varying, "loss": Choice(("cross_entropy", "focal", EVIL))},
        document=EVIL,
        params={"model": EVIL},
        tags={EVIL: EVIL},
    )
    page = page_of(tmp_path, named, evil, there)
    assert [attrs.get("id") for tag, attrs in page.elements if tag == "script"] == ["figures", "library", None]
    assert page.words.count(EVIL) >= 8
    assert EVIL not in json.dumps(page.figures)  # plotly reads markup in labels
    lines = (tmp_path / "report.md").read_text().splitlines()
    assert not [line for line in lines if EVIL in line and not line.startswith("    ")]


def test_a_thousand_trials_make_a_page_that_opens(tmp_path, summary, background):
    trials = []
    for number in range(1000):
        rate = 10 ** (-5 + 2 * (number * 0.618 % 1))
        value = 0.9 - 0.05 * (math.log10(rate) + 4) ** 2
        stopped = number % 5 != 0
        trials.append(
            TrialRecord(
                number=number,
                state=TrialState.PRUNED if stopped else TrialState.COMPLETE,
                origin="tpe",
                params={"learning_rate": rate, "loss": "cross_entropy", "per_device_train_batch_size": 16},
                value=None if stopped else value,
                curve={part / 4: value * part / 4 for part in range(1, 2 if stopped else 5)},
                metrics={"epochs": 1.0 if stopped else 4.0},
                seeds=Seeds(0, 0),
                seconds=10.0,
            )
        )
    best = max(trials, key=lambda trial: trial.value or 0.0)
    began = time.process_time()
    page = page_of(tmp_path, summary.model_copy(update={"best": best, "baseline": trials[0]}), trials, background)
    assert time.process_time() - began < 40
    assert (tmp_path / "report.html").stat().st_size < 5_000_000
    assert "Drawn are the 400 best of 1,000 trials that have a curve, complete ones first." in page.words
    drawn = {row for curve in page.figures["curves"]["data"] for row in curve.get("customdata", ())}
    assert {trial.number for trial in trials if trial.value is not None} - {best.number} <= drawn
    assert max(len(figure["data"]) for figure in page.figures.values()) < 20
    rows = [attrs for tag, attrs in page.elements if tag == "tr"]
    assert len(rows) > 1000


def failed(trial):
    return trial.model_copy(update={"state": TrialState.FAILED, "value": None, "curve": {}, "reason": "out of memory"})


def one_param(trial):
    return trial.model_copy(update={"params": {"learning_rate": trial.params["learning_rate"]}})


def lossy(trial):
    return trial.model_copy(
        update={
            "value": None if trial.value is None else -3.0 - trial.value,
            "curve": {part: -3.0 - value for part, value in trial.curve.items()},
        }
    )


def bare(trial):
    return trial.model_copy(update={"curve": {}, "metrics": {}, "params": {}, "seconds": None})


@pytest.mark.parametrize(
    ("change", "varying"),
    [
        pytest.param(lambda trials: trials[:1], None, id="one trial"),
        pytest.param(lambda trials: [trials[0], *map(failed, trials[1:])], None, id="all failed but one"),
        pytest.param(lambda trials: [*map(one_param, trials)], ("learning_rate",), id="one parameter"),
        pytest.param(lambda trials: trials, ("loss", "per_device_train_batch_size"), id="only choices"),
        pytest.param(lambda trials: trials[:3], None, id="three trials"),
        pytest.param(lambda trials: [*map(lossy, trials)], None, id="negative values, the lowest best"),
        pytest.param(lambda trials: [*map(bare, trials)], (), id="nothing varies and nothing is known"),
        pytest.param(
            lambda trials: [trial.model_copy(update={"value": trial.value and 0.5}) for trial in trials],
            None,
            id="all the same value",
        ),
    ],
)
def test_a_poor_study_has_a_page_too(tmp_path, summary, trials, background, change, varying):
    changed = change(trials)
    complete = [trial for trial in changed if trial.value is not None]
    mode = "min" if complete[0].value < 0 else "max"
    best = (min if mode == "min" else max)(complete, key=lambda trial: trial.value)
    poor = summary.model_copy(update={"best": best, "baseline": None, "mode": mode})
    if varying is not None:
        background = replace(background, varying={name: background.varying[name] for name in varying})
    page = page_of(tmp_path, poor, changed, background)
    assert f"Trial {best.number}" in page.words or "The default configuration" in page.words
    assert "history" in page.figures
    stars = [trace for trace in page.figures["history"]["data"] if trace.get("name") == "winner"]
    assert len(stars) == 1


def test_a_winner_from_beyond_the_space_is_drawn_where_it_lies(tmp_path, summary, trials, background):
    narrow = replace(background, varying={**background.varying, "learning_rate": FloatRange(1e-4, 2e-4, log=True)})
    assert "slices" in page_of(tmp_path, summary, trials, narrow).figures


def test_several_metrics_show_the_front_that_the_study_found(tmp_path, summary, trials, background):
    weighed = [
        trial.model_copy(
            update={"metrics": {**trial.metrics, "best_accuracy": trial.value or 0.0, "latency": trial.number}}
        )
        for trial in trials
    ]
    found = summary.model_copy(update={"objectives": {"accuracy": "max", "latency": "min"}, "pareto": (0, 10)})
    page = page_of(tmp_path, found, weighed, background)
    front = next(trace for trace in page.figures["pareto"]["data"] if trace["name"] == "Pareto front")
    assert (front["x"], front["customdata"]) == ([0.0, 10.0], [0, 10])
    assert "pareto" not in page_of(tmp_path, summary, trials, background).figures


def test_a_trial_that_a_changed_space_dropped_is_listed_and_not_drawn(tmp_path, summary, trials, background):
    dropped = trials[1].model_copy(update={"dropped": True, "value": None})
    page = page_of(tmp_path, summary, [trials[0], dropped, *trials[2:]], background)
    drawn = [row[0] for trace in page.figures["history"]["data"] for row in trace.get("customdata", [])]
    assert 1 not in drawn
    assert len(drawn) == len(trials) - 1
    assert "dropped: the space was changed" in page.words


def test_the_line_of_the_winner_is_that_of_the_winner(tmp_path, summary, trials, background):
    lines = page_of(tmp_path, summary, trials, background).figures["parallel"]["data"]
    winner = next(trace for trace in lines if trace["name"] == "winner")
    assert winner["y"][0] == 1.0
    assert [row[2] for row in winner["customdata"][:-1]] == [10] * (len(winner["customdata"]) - 1)
    assert sum(trace["y"].count(None) for trace in lines) == len([trial for trial in trials if trial.curve])
