"""`uv run --group fuzz python tests/fuzzing.py space|rows [-max_total_time=600]`: bytes that coverage chooses.

The long form of `test_fuzzed_spaces` and `test_fuzzed_files`, by atheris (libFuzzer). A crash is a file that made the
program raise anything but its own refusal; atheris writes it down.
"""

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["hpo"]):
    from hpo import config
    from hpo.data.config import DataConfig
    from hpo.data.loading import load
    from hpo.errors import ConfigError, DataError
    from hpo.tasks import SequenceClassification

FOLDER = Path(tempfile.mkdtemp(prefix="fuzzing-"))
SUFFIXES = (".tsv", ".csv", ".jsonl", ".parquet")


def space(content: bytes) -> None:
    """A space file of these bytes: a StudyConfig that survives being saved, or a ConfigError."""
    (FOLDER / "space.yaml").write_bytes(content)
    try:
        loaded = config.load(FOLDER / "space.yaml")
    except ConfigError:
        return
    assert config.StudyConfig.from_json(loaded.to_json()) == loaded


def rows(content: bytes) -> None:
    """A data file of these bytes, its format by the first of them: rows, or a DataError."""
    suffix = SUFFIXES[content[0] % len(SUFFIXES)] if content else ".tsv"
    (FOLDER / f"rows{suffix}").write_bytes(content[1:])
    asked = DataConfig.model_validate({"files": {"train": f"rows{suffix}"}, "validation": {"from": "train", "rows": 2}})
    try:
        load(
            asked,
            layout=SequenceClassification(text="sentence", label="label").layout,
            base=FOLDER,
            cache=FOLDER / "cache",
            announce=lambda words: None,
        )
    except DataError:
        return


if __name__ == "__main__":
    which = {"space": space, "rows": rows}[sys.argv.pop(1)]
    atheris.Setup(sys.argv, which)
    atheris.Fuzz()
