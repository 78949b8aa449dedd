import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

pytestmark = [pytest.mark.service, pytest.mark.real_data]

PROGRAM = """if True:
    import json, sys
    from pathlib import Path
    from hpo.data.config import DataConfig
    from hpo.data.loading import load
    from hpo.errors import HpoError
    from hpo.tasks import Task
    from pydantic import TypeAdapter
    answers = []
    for data, task in json.loads(sys.argv[1]):
        task = TypeAdapter(Task).validate_python({"type": "sequence-classification", **task})
        try:
            splits = load(
                DataConfig.model_validate(data), layout=task.layout,
                base=Path(), cache=Path(), announce=lambda words: None,
            )
        except HpoError as error:
            answers.append([type(error).__name__, str(error)])
        else:
            rows = {name: len(table) for name, table in splits.tables.items()}
            names = task.label_names(splits.train)
            answers.append([rows, names, splits.notes, [own.model_dump() for own in splits.records]])
    print(json.dumps(answers))
"""
SENTENCE = {"text": "sentence", "label": "label"}
PAIR = {"text": ["sentence1", "sentence2"], "label": "label"}
GLUE = {"hub": "nyu-mll/glue"}
SST2 = {**GLUE, "config": "sst2", "test": {"from": "train", "rows": 2_000}}
DEAD = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def hub_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hf_home")


def ask(endpoint: str, home: Path, *questions: tuple[dict[str, Any], dict[str, Any]], **more: str) -> list[Any]:
    """`load` in a process of its own: the Hub's libraries read their environment when they are imported."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), **more}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(questions)], env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    answers: list[Any] = json.loads(done.stdout)
    return answers


def test_glue_comes_from_the_hub_once_and_from_the_cache_offline(hub_mirror: str, hub_cache: Path) -> None:
    [online] = ask(hub_mirror, hub_cache, (SST2, SENTENCE))
    rows, names, notes, records = online
    assert (rows["validation"], rows["test"], names) == (872, 2_000, ["negative", "positive"])
    assert 65_200 < rows["train"] < 65_349
    assert any("rows dropped from train" in note for note in notes)
    assert records[0]["name"] == "nyu-mll/glue/sst2"
    assert "Hub nyu-mll/glue sst2, revision " in records[0]["source"]
    [offline] = ask(DEAD, hub_cache, (SST2, SENTENCE), HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1")
    assert offline == online


def test_a_published_split_that_is_used_for_another_one_is_not_told_as_unused(hub_mirror: str, hub_cache: Path) -> None:
    cut = {"splits": {"test": "validation"}, "validation": {"from": "train", "rows": 1_000}}
    [(rows, _, notes, records)] = ask(hub_mirror, hub_cache, ({**GLUE, "config": "sst2", **cut}, SENTENCE))
    assert (rows["validation"], rows["test"]) == (1_000, 872)
    assert records[2]["source"].endswith("split validation")
    assert not any("not used" in note for note in notes)


def test_names_of_classes_keep_the_order_of_the_hub_and_hidden_test_labels_are_told(
    hub_mirror: str, hub_cache: Path
) -> None:
    number = {**PAIR, "problem_type": "regression"}
    rte, stsb, other = ask(
        hub_mirror,
        hub_cache,
        ({**GLUE, "config": "rte"}, PAIR),
        ({**GLUE, "config": "stsb"}, number),
        ({**GLUE, "config": "rte", "splits": {"train": "validation", "validation": "train"}}, PAIR),
    )
    assert rte[1] == ["entailment", "not_entailment"]
    assert any("there is no test split" in note for note in rte[2])
    assert stsb[0] == {"train": 5_749, "validation": 1_500}
    assert any("the labels of the test split are hidden" in note for note in stsb[2])
    assert other[0] == {"train": 277, "validation": 2_490}


def test_what_the_hub_does_not_have_is_the_users_mistake(hub_mirror: str, hub_cache: Path) -> None:
    answers = ask(
        hub_mirror,
        hub_cache,
        ({"hub": "no/such"}, SENTENCE),
        ({**GLUE, "config": "sst3"}, SENTENCE),
        (GLUE, SENTENCE),
        ({**SST2, "revision": "abc"}, SENTENCE),
        ({**SST2, "splits": {"validation": "dev"}}, SENTENCE),
        (SST2, {"text": "sentense", "label": "label"}),
    )
    assert [kind for kind, _ in answers] == [*["DataError"] * 5, "MissingColumnError"]
    expected = [
        "no/such: Dataset 'no/such' doesn't exist",
        "Available: ['rte', 'sst2', 'stsb']; name one in data.config",
        "among the available configs: ['rte', 'sst2', 'stsb']; name one in data.config",
        "correct data.revision",
        "there is no split 'dev'; there are train, validation; correct data.splits.validation",
        "did you mean sentence?",
    ]
    for (_, words), part in zip(answers, expected, strict=True):
        assert part in words


def write_features(path: Path, columns: dict[str, Any], features: dict[str, Any]) -> None:
    """A parquet file as `datasets` writes it, which says there what its columns are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {"huggingface": json.dumps({"info": {"features": features}})}
    parquet.write_table(pa.table(columns).replace_schema_metadata(about), path)


def test_tags_that_are_hidden_are_no_tags_of_the_last_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tag = {"names": ["O", "B-PER", "I-PER"], "_type": "ClassLabel"}
    features = {
        "tokens": {"feature": {"dtype": "string", "_type": "Value"}, "_type": "List"},
        "tags": {"feature": tag, "_type": "List"},
    }
    tokens, tags = [["Ann", "ran"], ["he", "sat"]], [[1, 0], [0, 0]]
    for split, own in (("train", tags), ("validation", [*tags[:1], [None, 0]]), ("test", [[-1, -1]] * 2)):
        write_features(tmp_path / "own" / "tags" / f"{split}.parquet", {"tokens": tokens, "tags": own}, features)
    monkeypatch.chdir(tmp_path)
    task = {"type": "token-classification", "tokens": "tokens", "tags": "tags"}
    [(rows, _, notes, _)] = ask(DEAD, tmp_path / "home", ({"hub": "own/tags"}, task))
    assert rows == {"train": 2, "validation": 1}
    assert "1 rows of validation dropped: they have no label" in notes
    assert any("the labels of the test split are hidden" in note for note in notes)


def test_files_that_do_not_fit_together_are_no_matter_of_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "own" / "rows"
    folder.mkdir(parents=True)
    (folder / "train-1.csv").write_text("sentence,label\na,0\nb,1\n")
    (folder / "train-2.csv").write_text("text,stars\na,0\nb,1\n")
    monkeypatch.chdir(tmp_path)
    [(kind, words)] = ask(DEAD, tmp_path / "home", ({"hub": "own/rows"}, SENTENCE))
    assert kind == "DataError"
    assert words.startswith("own/rows: datasets makes no rows of its files (")
    assert "All the data files must have the same columns" in words


def test_a_disk_that_is_full_is_no_matter_of_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "own" / "rows"
    folder.mkdir(parents=True)
    (folder / "train.csv").write_text("sentence,label\n" + "a long sentence of many words,1\n" * 20_000)
    monkeypatch.chdir(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))  # the program's, too, which begins from here
    try:
        [(kind, words)] = ask(DEAD, tmp_path / "home", ({"hub": "own/rows"}, SENTENCE))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert kind == "ServiceError"
    assert words.startswith("own/rows: cannot be kept on this disk (")


EIGHT = """if True:
    import os, sys
    from pathlib import Path
    import datasets, huggingface_hub, numpy, pyarrow.parquet
    from hpo.data.config import DataConfig
    from hpo.data.loading import load
    from hpo.tasks.sequence_classification import SequenceClassification
    from hpo.training.pretrained import fetch
    children = []
    for _ in range(8):
        if (child := os.fork()) == 0:
            task = SequenceClassification(text=("sentence1", "sentence2"), label="label")
            data = DataConfig.model_validate({"hub": "nyu-mll/glue", "config": "rte"})
            splits = load(data, layout=task.layout, base=Path(), cache=Path(), announce=lambda words: None)
            model = fetch("google-bert/bert-base-uncased")
            os.write(1, f"{splits.digest} {model.digest}\\n".encode())
            os._exit(0)
        children.append(child)
    sys.exit(sum(os.waitpid(child, 0)[1] for child in children))
"""


def test_eight_processes_fill_one_cold_cache_and_have_the_same(hub_mirror: str, tmp_path: Path) -> None:
    """Forked, so that they come to the cache in the same moment."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {"HF_ENDPOINT": hub_mirror, "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", EIGHT], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answers = done.stdout.splitlines()
    assert len(answers) == 8
    assert len(set(answers)) == 1
    assert not list(tmp_path.rglob("*.incomplete"))


def test_offline_without_a_cache_is_a_service_error(tmp_path: Path) -> None:
    [(kind, words)] = ask(DEAD, tmp_path, (SST2, SENTENCE), HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1")
    assert kind == "ServiceError"
    assert "offline mode is on; unset HF_HUB_OFFLINE" in words


def test_a_hub_that_fails_is_a_service_error(
    serve_hub: Callable[..., AbstractContextManager[str]], tmp_path: Path
) -> None:
    with serve_hub("--fail-after", "3") as url:
        [(kind, words)] = ask(url, tmp_path, (SST2, SENTENCE))
    assert kind == "ServiceError"
    assert words.startswith(f"nyu-mll/glue sst2: the Hub at {url} did not deliver it (")


def test_a_gated_data_set_says_how_to_get_access(
    serve_hub: Callable[..., AbstractContextManager[str]], tmp_path: Path
) -> None:
    with serve_hub("--gated", "nyu-mll/glue") as url:
        [(kind, words)] = ask(url, tmp_path, (SST2, SENTENCE))
        [(kind_with_token, words_with_token)] = ask(url, tmp_path, (SST2, SENTENCE), HF_TOKEN="hf_" + "x" * 34)
    assert kind == kind_with_token == "DataError"
    assert "then set HF_TOKEN" in words
    assert "ask for it on the Hub" in words_with_token
