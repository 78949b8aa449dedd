"""Every space that ships: it loads, it is for the task it names, and it reads like a page."""

import re
from pathlib import Path

import pytest

from hpo.config import load, shipped
from hpo.errors import ConfigError
from hpo.training.hyperparameters import BERT_PAPER_GRID

FOLDER = Path(__file__).resolve().parents[2] / "search_spaces"
SPACES = sorted(FOLDER.rglob("*.yaml"))
GLUE = {
    "cola": (["sentence"], "matthews_correlation", 850),
    "mnli": (["premise", "hypothesis"], "accuracy", 5000),
    "mrpc": (["sentence1", "sentence2"], "f1", 400),
    "qnli": (["question", "sentence"], "accuracy", 3000),
    "qqp": (["question1", "question2"], "f1", 5000),
    "rte": (["sentence1", "sentence2"], "accuracy", 250),
    "sst2": (["sentence"], "accuracy", None),
    "stsb": (["sentence1", "sentence2"], "pearson", 500),
    "wnli": (["sentence1", "sentence2"], "accuracy", 70),
}


OTHER_TASKS = {
    "ner_wnut17": ("token-classification", "f1"),
    "multilabel_go_emotions": ("multi-label-classification", "f1_macro"),
    "qa_squad": ("question-answering", "f1"),
    "multiple_choice_swag": ("multiple-choice", "accuracy"),
}


NIGHTLY = "nightly_sst2"


def test_all_of_glue_all_tasks_and_the_first_steps_ship():
    assert SPACES
    first_steps = {"quickstart", "files_sst2", NIGHTLY, "mlm_texts", "adapt_then_classify", "names"}
    wanted = {f"glue_{name}" for name in GLUE} | {*first_steps, *OTHER_TASKS}
    assert {path.stem for path in SPACES} >= wanted
    assert set(shipped()) == {path.stem for path in SPACES}


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_a_shipped_space_loads_and_names_itself(path):
    loaded = load(path)
    assert loaded.study == path.stem.replace("_", "-") or path.stem == NIGHTLY
    assert loaded.promotion is not None
    assert path.read_text().startswith(f"# python -m hpo.run --space spaces/{path.name}\n")
    assert max(len(line) for line in path.read_text().splitlines()) <= 120


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_the_default_configuration_is_a_point_of_the_space(path):
    loaded = load(path)
    assert loaded.first_points()[0] == ("default", loaded.space.project(loaded.default_point()))
    assert all(loaded.space.parameters[name].contains(value) for name, value in loaded.default_point().items())


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_first_points_leave_the_sampler_a_quarter_of_the_budget(path):
    loaded = load(path)
    assert loaded.budget.trials is not None
    assert len(loaded.first_points()) <= 0.75 * loaded.budget.trials


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_no_trial_is_judged_inside_its_warm_up(path):
    loaded = load(path)
    lowest, warm_up = loaded.search.scheduler.fractions()[0], loaded.space.parameters.get("warmup_ratio")
    assert warm_up is None or lowest >= warm_up.nearest(1.0)
    assert lowest >= 0.25, "docs/search.md: below a quarter of its schedule a trial shows little of its end"


@pytest.mark.parametrize("name", GLUE)
def test_glue_has_its_columns_metric_and_a_labelled_test(name):
    columns, metric, rows = GLUE[name]
    loaded = load(FOLDER / f"glue_{name}.yaml")
    assert loaded.model.name == "google-bert/bert-base-uncased"
    assert (loaded.data.hub, loaded.data.config) == ("nyu-mll/glue", name)
    assert list(loaded.task.texts) == columns
    assert (loaded.metric, loaded.mode) == (metric, "max")
    if rows is None:
        assert (loaded.data.test, loaded.data.splits.test, loaded.data.validation.rows) == (None, "validation", 2000)
    else:
        assert (loaded.data.test.from_, loaded.data.test.rows) == ("train", rows)
    assert loaded.data.splits.validation == ("validation_matched" if name == "mnli" else "validation")
    for parameter, values in BERT_PAPER_GRID.items():
        assert all(loaded.space.parameters[parameter].contains(value) for value in values)


@pytest.mark.parametrize(
    "path",
    [path for path in SPACES if re.search(r"config: sst2|data/sst2", path.read_text())],
    ids=lambda path: path.stem,
)
def test_no_space_judges_a_winner_on_phrases_that_stand_in_its_training_rows(path):
    data = load(path).data
    assert data.test is None
    assert (data.splits.test if data.files is None else data.files.test.stem) == "validation"


@pytest.mark.parametrize(
    ("name", "group"), [("glue_mnli", "premise"), ("glue_qnli", "question"), ("qa_squad", "context")]
)
def test_rows_with_one_text_in_common_are_cut_together(name, group):
    loaded = load(FOLDER / f"{name}.yaml")
    assert loaded.data.group == group
    assert group in loaded.task.layout.columns


def test_a_night_is_a_study_of_its_own_that_knows_the_others(monkeypatch):
    monkeypatch.setenv("HPO_DATE", "2026-03-01")
    nightly, daily = load(FOLDER / f"{NIGHTLY}.yaml"), load(FOLDER / "glue_sst2.yaml")
    assert nightly.study == "glue-sst2-2026-03-01"
    assert nightly.search.warm_start == ("glue-sst2-*",)
    assert (nightly.data, nightly.seed, nightly.promotion) == (daily.data, daily.seed, daily.promotion)


def test_whole_models_and_small_parts_of_them_have_rates_of_their_own():
    space = load(FOLDER / "lora_sst2.yaml").space
    kept = {
        (way, rate)
        for way in ("none", "lora", "bitfit")
        for rate in (3e-5, 3e-4)
        if all(rule.holds({"peft": way, "learning_rate": rate}) for rule in space.constraints)
    }
    assert kept == {("lora", 3e-4), ("bitfit", 3e-4), ("none", 3e-5)}


@pytest.mark.parametrize("name", OTHER_TASKS)
def test_the_other_tasks_have_a_space_each_with_the_metric_of_the_field(name):
    loaded = load(FOLDER / f"{name}.yaml")
    assert (loaded.task.type, loaded.metric) == OTHER_TASKS[name]
    assert loaded.model.name == "google-bert/bert-base-uncased"
    assert loaded.data.hub is not None


@pytest.mark.parametrize(
    ("name", "option", "noun"),
    [
        ("qa_squad", "space.label_smoothing_factor=0.1", "question answering"),
        ("qa_squad", "space.classifier_dropout=0.1", "question answering"),
        ("multilabel_go_emotions", "space.label_smoothing_factor=0.1", "a multi-label classification"),
        ("glue_stsb", "space.loss=focal", "a regression"),
    ],
)
def test_a_hyperparameter_that_does_nothing_in_a_task_is_refused(name, option, noun):
    with pytest.raises(ConfigError, match=f"has no meaning for {noun}; remove it"):
        load(FOLDER / f"{name}.yaml", [option])


def test_files_of_ones_own_are_named_on_the_command_line(real_data):
    sst2 = real_data / "sst2"
    named = [f"data.files.train={sst2}/train.tsv", f"data.files.test={sst2}/validation.tsv"]
    loaded = load(FOLDER / "files_sst2.yaml", named)
    assert loaded.data.files.train.is_file()
    assert loaded.data.files.test.is_file()
