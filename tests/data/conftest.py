"""Rows in files, and `load` with the arguments that most tests share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpo.columns import Column, Layout
from hpo.data.config import DataConfig
from hpo.data.loading import Splits, load


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    def write_file(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write_file


@pytest.fixture
def load_splits(tmp_path: Path) -> Callable[..., Splits]:
    def load_them(data: dict[str, Any], *, base: Path = tmp_path, **changes: Any) -> Splits:
        wanted: dict[str, Any] = {"texts": ("sentence",), "label": "label", "label_kind": "class", **changes}
        kind, inputs = wanted["label_kind"], tuple(Column(name, "text") for name in wanted["texts"])
        names = (lambda value: (value,)) if kind == "class" else (lambda value: ())
        layout = wanted.get("layout") or Layout(inputs, Column(wanted["label"], kind), names=names)
        config = DataConfig.model_validate(data)
        return load(config, base=base, cache=tmp_path / "cache", announce=lambda words: None, layout=layout)

    return load_them
