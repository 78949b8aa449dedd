import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from hpo.data.docstrings import LIBRARIES, name_in_words, read_docstrings, sentence_of
from hpo.data.source import Source
from hpo.errors import DataError

COLUMNS = ("sentence", "library")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def source(cache: Path) -> Source:
    return read_docstrings(columns=COLUMNS, cache=cache, announce=lambda words: None)


def test_the_splits_are_balanced_and_share_no_sentence(source: Source) -> None:
    sizes = {name: Counter(split.table["library"].to_pylist()) for name, split in source.splits.items()}
    assert sizes == {
        "train": dict.fromkeys(LIBRARIES, 300),
        "validation": dict.fromkeys(LIBRARIES, 100),
        "test": dict.fromkeys(LIBRARIES, 150),
    }
    sentences = [text.lower() for split in source.splits.values() for text in split.table["sentence"].to_pylist()]
    assert len(sentences) == len(set(sentences)) == 3_300


def test_the_cache_may_be_read_by_whom_the_umask_lets(cache: Path, source: Source) -> None:
    before = os.umask(0)
    os.umask(before)
    (made,) = cache.iterdir()
    assert made.stat().st_mode & 0o777 == 0o666 & ~before


def test_no_sentence_names_a_library(source: Source) -> None:
    names = re.compile(r"pandas|sklearn|scikit|sqlalchemy|torch|scipy|mlflow|\bpd\b|\bsa\.", re.IGNORECASE)
    for split in source.splits.values():
        assert [text for text in split.table["sentence"].to_pylist() if names.search(text)] == []


def test_sentences_are_prose(source: Source) -> None:
    for text in source.splits["train"].table["sentence"].to_pylist():
        assert 4 <= len(text.split()) <= 40
        assert "`" not in text
        assert "\n" not in text


def test_the_source_names_the_versions(source: Source) -> None:
    assert re.search(r"mlflow \d+\.\d+.*torch \d+\.\d+", source.origins["train"])


@pytest.mark.parametrize(
    ("docstring", "sentence"),
    [
        ("Fit the linear model. Then more follows here.", "Fit the linear model."),
        ("Fit\n    the whole model\n\n    Parameters", "Fit the whole model"),
        ("Convert a :class:`~pandas.DataFrame` to ``dict`` form.", "Convert a this library to dict form."),
        ("Wrap a pd.Series or torch.Tensor in one.", "Wrap a this library or this library in one."),
        ("Use scikit-learn's or PyTorch's own way.", "Use this library's or this library's own way."),
        ("See `the guide <https://x.org>`_ for more.", "See the guide for more."),
        ("Sapling and update keep their letters.", "Sapling and update keep their letters."),
        ("Too short.", None),
        (">>> x = 3; y = f(x); print(x + y)", None),
        ("word " * 41, None),
    ],
)
def test_a_sentence_loses_its_markup_and_names(docstring: str, sentence: str | None) -> None:
    assert sentence_of(docstring) == sentence


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("RandomForestClassifier", "random forest classifier"),
        ("_fit_transform", "fit transform"),
        ("read_JSON2", "read json 2"),
        ("HTTPError", "http error"),
        ("_", "_"),
    ],
)
def test_a_name_is_told_in_words(name: str, words: str) -> None:
    assert name_in_words(name) == words


def test_every_sentence_has_the_name_of_what_it_describes(cache: Path, source: Source) -> None:
    found = read_docstrings(columns=("sentence", "name"), cache=cache, announce=pytest.fail)
    assert found.splits["test"].table["sentence"] == source.splits["test"].table["sentence"]
    names = found.splits["test"].table["name"].to_pylist()
    assert all(name.strip() for name in names)
    assert len({*names}) > len(names) / 2


def test_an_unknown_column_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no column 'label'; there are sentence, library, name"):
        read_docstrings(columns=("sentence", "label"), cache=tmp_path, announce=pytest.fail)


def test_another_process_reads_the_same_rows_in_seconds_and_imports_no_library(source: Source, tmp_path: Path) -> None:
    code = """if True:
        import hashlib, json, sys, time
        from pathlib import Path
        from hpo.data.docstrings import LIBRARIES, read_docstrings
        said, start = [], time.process_time()
        found = read_docstrings(columns=("sentence", "library"), cache=Path(sys.argv[1]), announce=said.append)
        seconds, start = time.process_time() - start, time.process_time()
        read_docstrings(columns=("sentence", "library"), cache=Path(sys.argv[1]), announce=said.append)
        again = time.process_time() - start
        rows = {name: split.table.to_pylist() for name, split in found.splits.items()}
        imported = [name for name in LIBRARIES.values() if name in sys.modules and name != 'pandas']  # pyarrow's own
        print(json.dumps([seconds, again, len(said), imported, rows]))
    """
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    seconds, again, said, imported, rows = json.loads(done.stdout)
    assert rows == {name: split.table.to_pylist() for name, split in source.splits.items()}
    assert (imported, said) == ([], 1)
    assert seconds < 15
    assert again < 1
