"""`builtin: docstrings`: real text that lies on every machine with this program.

One sentence a row: the first of the docstring of a module, class or function of six installed libraries. The label is
the library; what it describes has a name, in words (`RandomForestClassifier` is `random forest classifier`), for models
that write one. The libraries are found and parsed (`ast`), never imported. Their names are masked, so that the words
around have to tell. The rows follow from the installed versions alone, not from the study's seed.
"""

import ast
import hashlib
import importlib.metadata
import importlib.util
import os
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hpo.data.source import SPLITS, RawSplit, Source, SplitName, check_columns
from hpo.durable import replacing
from hpo.errors import DataError, ServiceError

if TYPE_CHECKING:
    import pyarrow as pa

LIBRARIES = {
    "mlflow": "mlflow",
    "pandas": "pandas",
    "scikit-learn": "sklearn",
    "scipy": "scipy",
    "sqlalchemy": "sqlalchemy",
    "torch": "torch",
}
"""Distribution -> the package that it installs. The distribution is the label."""

SIZES: Mapping[SplitName, int] = {"train": 300, "validation": 100, "test": 150}
"""Rows of each library."""

FORMAT = "2"
"""Part of the cache's name; another number where the code below makes other rows of the same libraries."""

MASK = "this library"
WORDS = range(4, 41)
LARGEST_FILE = 150_000
"""Bytes; parsing larger ones takes long, and they are few."""
SPARE = 1.15
"""Collected beyond what is needed, as sentences that two libraries share are dropped."""

_FOREIGN_FOLDERS = {"tests", "test", "testing", "_vendor", "_vendored", "vendored", "externals", "_external", "protos"}

_MASKED = re.compile(
    r"(?<![\w])[\w.\-]*(?:pandas|scikit|sklearn|sci-?kit|sqlalchemy|torch|scipy|mlflow)[\w\-]*(?:\.\w+)*"
    r"|\b(?:pd|sa|sp|sk|skl)\b(?:\.\w+)*",
    re.IGNORECASE,
)
_MARKUP = (
    (re.compile(r"`{3}.*?`{3}|<[^<>]{1,80}>", re.DOTALL), " "),  # fenced code, HTML
    (re.compile(r":[\w:+.-]+:(?=`)"), ""),  # the role in :class:`Name`
    (re.compile(r"`+~?([^`]*?)(?:\s*<[^`>]*>)?`+_{0,2}"), r"\1"),  # `Name`, ``Name``, `text <link>`_
    (re.compile(r"\[([^\]]+)\]\([^)]*\)"), r"\1"),  # [text](link)
    (re.compile(r"\*{1,2}(\w[^*]*)\*{1,2}"), r"\1"),  # *emphasis*
    (re.compile(r"https?://\S+"), " "),
    (re.compile(r"\.\. \w+::.*", re.DOTALL), " "),  # a directive and what follows
    (re.compile(r"\s+"), " "),
)
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z(\[])")


def read_docstrings(*, columns: Sequence[str], cache: Path, announce: Callable[[str], None]) -> Source:
    """Columns `sentence`, `library`, `name`; balanced train, validation and test. A few seconds at first, then cached.

    Errors: DataError where a library is not installed, ServiceError where the cache cannot be written.
    """
    check_columns(["sentence", "library", "name"], columns, "builtin docstrings")
    versions = {name: _version(name) for name in LIBRARIES}
    words = ", ".join(f"{name} {version}" for name, version in versions.items())
    key = hashlib.sha256(f"{FORMAT}\n{words}\n{sorted(SIZES.items())}".encode()).hexdigest()
    path = cache / f"docstrings-{key[:16]}.arrow"
    if not path.is_file():
        announce(f"reading docstrings of {words}")
        _save(_make(), path)
    table = _open(path)
    splits = {
        name: RawSplit(table.filter(_is_split(table, name)).select(list(columns)), f"docstrings {name}")
        for name in SPLITS
    }
    return Source("docstrings", splits, dict.fromkeys(SPLITS, f"docstrings of {words}"))


def sentence_of(docstring: str) -> str | None:
    """Its first sentence without markup and names of libraries; None where it is too short, too long, or no prose."""
    text = re.split(r"\n\s*\n", docstring.strip(), maxsplit=1)[0]
    for pattern, replacement in _MARKUP:
        text = pattern.sub(replacement, text)
    sentence = _MASKED.sub(MASK, _END.split(text.strip(), maxsplit=1)[0]).strip()
    letters = sum(character.isalpha() or character == " " for character in sentence)
    is_prose = sentence[:1].isalpha() and letters >= 0.85 * len(sentence) and ">>>" not in sentence
    return sentence if is_prose and len(sentence.split()) in WORDS else None


def name_in_words(name: str) -> str:
    """An identifier's words, lower-cased; the name itself where it has none."""
    return " ".join(_WORDS.findall(name)).lower() or name


def _make() -> "pa.Table":
    import pyarrow as pa

    wanted = sum(SIZES.values())
    found = {name: _sentences(package, round(wanted * SPARE)) for name, package in LIBRARIES.items()}
    seen = Counter(key for own in found.values() for key in own)
    alone = {name: [pair for key, pair in own.items() if seen[key] == 1] for name, own in found.items()}
    fewest = min(len(own) for own in alone.values())
    scale = min(1.0, fewest / wanted)
    rows: list[tuple[str, str, str, str]] = []
    start = 0
    for split, size in SIZES.items():
        stop = start + int(size * scale)
        of_split = [(text, name, said, split) for name, own in alone.items() for text, said in own[start:stop]]
        random.Random(f"{FORMAT}/{split}").shuffle(of_split)
        rows += of_split
        start = stop
    columns = dict(zip(("sentence", "library", "name", "split"), zip(*rows, strict=True), strict=True))
    return pa.table({name: pa.array(values, pa.large_string()) for name, values in columns.items()})


def _sentences(package: str, wanted: int) -> dict[str, tuple[str, str]]:
    """Lower-cased sentence -> the sentence, and the name of what it describes, from files in an order that follows from
    their names; at least `wanted`, if there are so many, and shuffled, so that the rows of one file are spread over the
    splits."""
    found: dict[str, tuple[str, str]] = {}
    for path in _files(package):
        if len(found) >= wanted:
            break
        for name, docstring in _docstrings(path):
            sentence = sentence_of(docstring)
            if sentence is not None:
                found.setdefault(sentence.lower(), (sentence, name_in_words(name)))
    order = sorted(found)
    random.Random(f"{FORMAT}/{package}").shuffle(order)
    return {key: found[key] for key in order}


def _files(package: str) -> list[Path]:
    root = _home(package)
    files = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in _FOREIGN_FOLDERS)
        files += [Path(folder, name) for name in names if name.endswith(".py") and not name.startswith("test")]
    files.sort(key=lambda path: hashlib.sha256(path.relative_to(root).as_posix().encode()).digest())
    return files


def _docstrings(path: Path) -> Iterator[tuple[str, str]]:
    """Names and docstrings."""
    if path.stat().st_size > LARGEST_FILE:
        return
    text = path.read_text("utf-8", errors="replace")
    if '"""' not in text:
        return
    try:
        tree = ast.parse(text)
    except SyntaxError:  # a template, or written for another Python
        return
    level: list[ast.AST] = [tree]
    while level:  # not ast.walk: docstrings stand in bodies, and expressions are most of a tree
        node = level.pop()
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node)
            if docstring:
                yield getattr(node, "name", path.parent.name if path.stem == "__init__" else path.stem), docstring
            level += node.body


def _home(package: str) -> Path:
    spec = importlib.util.find_spec(package)  # of a top-level package: nothing is imported
    if spec is None or not spec.submodule_search_locations:
        raise DataError(f"builtin docstrings: the library {package!r} is not installed; install this program's lock")
    return Path(spec.submodule_search_locations[0])


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError as error:
        raise DataError(
            f"builtin docstrings: the library {distribution!r} is not installed; install this program's lock"
        ) from error


def _is_split(table: "pa.Table", name: str) -> "pa.Array":
    import pyarrow as pa

    return pa.array([own == name for own in table["split"].to_pylist()])


def _save(table: "pa.Table", path: Path) -> None:
    import pyarrow as pa

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as stream, pa.ipc.new_file(stream, table.schema) as writer:
            writer.write_table(table)
    except OSError as error:
        raise ServiceError(
            f"{path.parent}: cannot write there ({error.strerror or error}); free or change it"
        ) from error


def _open(path: Path) -> "pa.Table":
    import pyarrow as pa

    with pa.OSFile(str(path)) as stream:
        return pa.ipc.open_file(stream).read_all()
