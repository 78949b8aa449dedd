import subprocess
import sys

import pytest
from pydantic import TypeAdapter, ValidationError

from hpo.data import DataConfig
from hpo.tasks import Task

FILES = {"train": "a.tsv", "validation": "b.tsv"}


def test_one_source_is_enough() -> None:
    for data in ({"hub": "nyu-mll/glue"}, {"files": FILES}, {"builtin": "docstrings"}):
        assert DataConfig.model_validate(data)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({}, "exactly one of hub, files, builtin"),
        ({"hub": "nyu-mll/glue", "files": FILES}, "exactly one of hub, files, builtin"),
        ({"hub": "glue"}, "owner/name"),
        ({"builtin": "docstrings", "config": "sst2"}, "belong to hub"),
        ({"files": FILES, "splits": {"test": "dev"}}, "belong to hub"),
        ({"files": {"train": "a.txt"}}, "is not one of .tsv, .csv, .jsonl, .parquet"),
        ({"files": {"train": "a.tsv"}}, "no validation rows"),
        ({"files": FILES, "validation": {"from": "train", "rows": 9}}, "both a file and a cut"),
        ({"files": {**FILES, "test": "c.tsv"}, "test": {"from": "train", "rows": 9}}, "both a file and a cut"),
        ({"hub": "a/b", "validation": {"from": "validation", "rows": 9}}, "cut from itself"),
        (
            {
                "hub": "a/b",
                "validation": {"from": "train", "rows": 9},
                "test": {"from": "validation", "rows": 9},
            },
            "cut both from train",
        ),
        ({"hub": "a/b", "limit": {"train": 90, "per_class": 9}}, "both limit train; remove one"),
        ({"hub": "a/b", "test": {"from": "test", "rows": 9}}, "'train' or 'validation'"),
        ({"hub": "a/b", "test": {"from": "train", "rows": 0}}, "greater than or equal to 1"),
        ({"hub": "a/b", "limits": {}}, "Extra inputs"),
        ({"hub": "a/b", "splits": {"test": "validation"}}, "'validation' is named for validation and test; cut one of"),
        ({"files": {**FILES, "test": "c.conll"}, "group": "id"}, "a conll file has words and tags only"),
    ],
)
def test_what_cannot_work_is_refused_with_advice(data: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        DataConfig.model_validate(data)


def test_a_resolved_config_reads_back_as_itself() -> None:
    for data in ({"hub": "a/b", "test": {"from": "train", "rows": 9}}, {"files": FILES}, {"builtin": "docstrings"}):
        config = DataConfig.model_validate(data)
        assert DataConfig.model_validate(config.model_dump(by_alias=True, mode="json")) == config


def test_a_task_reads_from_its_type() -> None:
    task = TypeAdapter(Task).validate_python(
        {"type": "sequence-classification", "text": ["sentence1", "sentence2"], "label": "label"}
    )
    assert task.columns == ("sentence1", "sentence2", "label")
    assert TypeAdapter(Task).validate_json(task.model_dump_json()) == task


def test_config_classes_load_nothing_heavy() -> None:
    heavy = "numpy pandas pyarrow datasets evaluate sklearn scipy torch transformers huggingface_hub"
    code = f"import sys, hpo.data, hpo.tasks; print([m for m in '{heavy}'.split() if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
