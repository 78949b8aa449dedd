import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from hpo.columns import Column
from hpo.data.files import read_file
from hpo.data.tables import read_rows
from hpo.errors import DataError

Write = Callable[[str, str | bytes], Path]
COLUMNS = ("sentence", "label")
UGLY = ['an "unbalanced quote', "null", "NA", "", "trailing blank ", 'a "quoted" word', "x" * 100_000, "naïve 東京"]


def rows_of(path: Path, columns: tuple[str, ...] = COLUMNS) -> list[tuple[str, ...]]:
    table = read_file(path, columns).table
    return list(zip(*(table[name].to_pylist() for name in columns), strict=True))


def test_tsv_takes_every_character_as_it_is(write: Write) -> None:
    body = "".join(f"{text}\t{number}\n" for number, text in enumerate(UGLY))
    assert rows_of(write("a.tsv", "sentence\tlabel\n" + body)) == [(text, str(i)) for i, text in enumerate(UGLY)]


def test_tsv_picks_columns_by_name_and_knows_windows_line_ends(write: Write) -> None:
    assert rows_of(write("a.tsv", "\ufefflabel\tid\tsentence\r\n1\t7\tgood\r\n")) == [("good", "1")]


def test_csv_unquotes_as_the_rfc_says(write: Write) -> None:
    body = 'sentence,label\n"a, b",0\n"he said ""no""",1\n"two\nlines",0\nnull,NA\n,x\n' + "y" * 100_000 + ",1\n"
    assert rows_of(write("a.csv", body)) == [
        ("a, b", "0"),
        ('he said "no"', "1"),
        ("two\nlines", "0"),
        ("null", "NA"),
        ("", "x"),
        ("y" * 100_000, "1"),
    ]


def test_jsonl_keeps_texts_and_types(write: Write) -> None:
    body = "".join(json.dumps({"sentence": text, "label": i, "more": [i]}) + "\n" for i, text in enumerate(UGLY))
    assert rows_of(write("a.jsonl", body)) == [(text, i) for i, text in enumerate(UGLY)]


def test_parquet_keeps_texts(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"sentence": UGLY, "label": list(range(len(UGLY)))}), tmp_path / "a.parquet")
    assert rows_of(tmp_path / "a.parquet") == [(text, i) for i, text in enumerate(UGLY)]


def test_the_published_files_read_completely(real_data: Path) -> None:
    sst2 = read_file(real_data / "sst2" / "train.tsv", COLUMNS).table
    assert (len(sst2), sst2["label"].to_pylist().count("1")) == (67_349, 37_569)
    rte = read_file(real_data / "rte" / "train.tsv", ("sentence1", "sentence2", "label")).table
    assert (len(rte), set(rte["label"].to_pylist())) == (2_490, {"entailment", "not_entailment"})
    assert len(read_file(real_data / "stsb" / "test.tsv", ("sentence1", "sentence2", "label")).table) == 1_379
    assert len(read_file(real_data / "imdb" / "train.jsonl", ("text", "label")).table) == 2_000


def test_quotes_of_the_published_files_survive(real_data: Path) -> None:
    path = real_data / "stsb" / "train.tsv"
    table = read_file(path, ("sentence1", "sentence2")).table
    body = path.read_text("utf-8").split("\n", 1)[1]
    together = "".join(table["sentence1"].to_pylist() + table["sentence2"].to_pylist())
    assert together.count('"') == body.count('"') > 0


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.tsv", "", "the file is empty"),
        ("a.csv", "\n\n", "the file is empty"),
        ("a.jsonl", "", "the file is empty"),
        ("a.tsv", "text\tlabel\na\t1\n", "no column 'sentence'; there are text, label"),
        ("a.tsv", "sentense\tlabel\na\t1\n", "did you mean sentense"),
        ("a.csv", "text,label\na,1\n", "no column 'sentence'; there are text, label"),
        ("a.jsonl", '{"text": "a", "label": 1}\n', "no column 'sentence'; there are text, label"),
        ("a.tsv", "sentence\tsentence\tlabel\na\tb\t1\n", "'sentence' is there twice"),
        ("a.csv", "sentence,sentence,label\na,b,1\n", "'sentence' is there twice"),
        ("a.tsv", "sentence\tlabel\na\t1\nb\t1\t2\n", "line 3: 3 columns where the header has 2"),
        ("a.tsv", "sentence\tlabel\na\t1\n\nb\t1\n", "line 3: 1 columns where the header has 2"),
        ("a.csv", "sentence,label\na,1\nb,1,2\n", "row 2: 3 columns where the header has 2"),
        ("a.csv", 'sentence,label\na,1\n"b,1\nc,2\n', "row 2: 1 columns where the header has 2"),
        ("a.csv", "sentence,label", "not a csv with a header line"),
        ("a.jsonl", '{"sentence": "a", "label": 1}\n["b", 1]\n', "line 2: a JSON list"),
        ("a.jsonl", '{"sentence": "a", "label": 1}\n{"sentence": \n', "line 2: not JSON"),
        ("a.jsonl", '{"sentence": "a", "label": 1}\n\n{}\n', "line 2: not JSON"),
        ("a.jsonl", "[" * 100_000 + "\n", "line 1: not JSON"),
        ("a.jsonl", '{"sentence": "a", "label": 1' + "0" * 5_000 + "}\n", "line 1: not JSON .Exceeds the limit"),
        ("a.jsonl", '{"sentence": "a", "label": 1}\n{"sentence": "b", "label": "x"}\n', "line 2: 'label' is 'x'"),
        ("a.jsonl", '{"sentence": "\\ud800", "label": 1}\n', "'sentence' cannot be read"),
        ("a.tsv", b"sentence\tlabel\ncaf\xe9\t1\n", r"byte 18 \(line 2\) is 0xe9, which is not UTF-8"),
        ("a.csv", b"sentence,label\ncaf\xe9,1\n", r"byte 18 \(line 2\) is 0xe9"),
        ("a.parquet", b"PAR1 not really", "not a readable parquet file"),
    ],
)
def test_a_bad_file_is_named_with_the_place_and_the_rule(
    write: Write, name: str, content: str | bytes, words: str
) -> None:
    path = write(name, content)
    with pytest.raises(DataError, match=words) as caught:
        read_file(path, COLUMNS)
    assert str(caught.value).startswith(str(path))


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no such file .*correct data\.files"):
        read_file(tmp_path / "none.tsv", COLUMNS)
    (tmp_path / "folder.tsv").mkdir()
    with pytest.raises(DataError, match="not a folder"):
        read_file(tmp_path / "folder.tsv", COLUMNS)


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="this system has no file that can't be read")
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.symlink_to("/proc/self/mem")  # it opens, and reading it fails
    with pytest.raises(DataError, match=r"a\.jsonl: not readable .*check its rights and its disk"):
        read_file(path, COLUMNS)
    with pytest.raises(DataError, match=r"a\.jsonl: not readable"):
        read_rows(path, [Column("sentence", "text")], ["sentence"], lambda table: None)


def test_deep_json_is_told_by_its_line(write: Write) -> None:
    path = write("a.jsonl", '{"sentence": ' + "[" * 100_000 + "\n")
    with pytest.raises(DataError, match="line 1: not JSON"):
        read_rows(path, [Column("sentence", "text")], ["sentence"], lambda table: None)


def test_a_parquet_without_the_column_names_those_that_it_has(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"text": ["a"], "label": [1]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="there are text, label"):
        read_file(tmp_path / "a.parquet", COLUMNS)
