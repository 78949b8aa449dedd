"""`python -m hpo.export --model models:/NAME@champion --input FILE --output FOLDER`: a model as ONNX files, of 32 and
of 8 bits, with what that costs and buys on the rows of FILE.

The arguments first; nothing heavy is imported before they are right.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeAlias

from hpo import asking
from hpo.errors import ConfigError, DataError, ModelError, Problem, ServiceError, exit_code_of, install_command

if TYPE_CHECKING:
    from hpo.answering import Model
    from hpo.encoded import Array, Encoded
    from hpo.registry import Registry, Version

Network: TypeAlias = Any
"""torch's, which this room does not know."""

NEEDED = {"onnx": "onnx>=1.20,<2", "onnxruntime": "onnxruntime>=1.24,<2", "onnxscript": "onnxscript>=0.6,<1"}
WHOLE, SMALL, FIGURES = "model.onnx", "model-int8.onnx", "export.json"
MOST = 1_000
"""Rows that are asked."""

ALONE = 40
"""Rows that are asked one at a time, for the time of one."""

EPILOG = """examples:
  python -m hpo.export --model models:/quickstart@champion --input test.tsv --output onnx
  python -m hpo.export --model studies/x/checkpoints/trial-0003 --input test.tsv --output onnx --text sentence

FOLDER gets model.onnx, model-int8.onnx, the tokenizer, what the model is for, and export.json with the figures. The
files of a registered model go to the run of its version, too, and the figures to its tags.

exit codes: 0 done; 2 your mistake; 4 a service is not there; 130 stopped"""


@dataclass(frozen=True)
class Measured:
    """One form of a model. alone_ms: of one row at a time, the median. rows_a_second: many at a time. difference: the
    largest one of any output to PyTorch's; same: the share of rows with the same answer."""

    name: str
    megabytes: float
    alone_ms: float
    rows_a_second: float
    difference: float = 0.0
    same: float = 1.0


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code. A mistake is told on stderr, without a traceback."""
    arguments = _parser().parse_args(argv)
    return exit_code_of(lambda: _export(arguments))


def _export(arguments: argparse.Namespace) -> int:
    _check(arguments)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # all that is needed is in the folder
    from hpo.answering import Model

    registry, version = _registered(arguments)
    with TemporaryDirectory(prefix="hpo-export-") as temporary:
        source = registry.fetch(version, Path(temporary)) if registry and version else Path(arguments.model)
        model = Model.open(source)
        rows = _rows(model, arguments)
        target = Path(temporary) / "onnx"
        figures = write(model, rows, target)
        said = {"rows": rows.rows, "threads": _threads(), "forms": [asdict(own) for own in figures]}
        (target / FIGURES).write_text(json.dumps(said, indent=2), encoding="utf-8")
        _move(target, arguments.output.absolute())
        print(table(figures))
        print(f"written: {arguments.output}", file=sys.stderr)
        if registry is not None and version is not None:
            try:
                place = registry.attach(version, target, f"onnx-version-{version.number}", _tags(figures))
            except ServiceError as error:
                raise ServiceError(
                    f"{error}; the files are there, to log them export again to another folder"
                ) from error
            print(f"logged with {version.uri}: {place}", file=sys.stderr)
    return 0


def write(model: "Model", rows: "Encoded", target: Path) -> list[Measured]:
    """The files in the new folder `target`, and their figures on these rows. Raises ModelError."""
    import shutil

    import numpy as np

    from hpo.training import exported, inference
    from hpo.training.checkpoint import ABOUT
    from hpo.training.device import cap_threads
    from hpo.training.pretrained import TOKENIZER_FILES

    if model.task.learns == "masked":
        raise ModelError(f"{model.task.noun} fills in masked words for training; export what is fine-tuned from it")
    if model.task.learns == "text":
        raise ModelError(f"{model.task.noun} writes word by word, not in one pass; serve it by MLflow")
    cap_threads(_threads())
    target.mkdir(parents=True)
    for pattern in (*TOKENIZER_FILES, "config.json", ABOUT):
        for file in model.folder.glob(pattern):
            shutil.copyfile(file, target / file.name)
    network = inference.load(model.folder, model.task.head, _cpu())
    example = dict(model.task.collate(rows, np.arange(2) % len(rows), model.tokenizer.pad_id))
    example.pop("labels", None)
    exported.export(network, example, target / WHOLE)
    exported.quantise(target / WHOLE, target / SMALL)
    weights = model.folder / "model.safetensors"
    forms = {
        "PyTorch": (network, weights),
        "ONNX": (exported.Session(target / WHOLE, _threads()), target / WHOLE),
        "ONNX int8": (exported.Session(target / SMALL, _threads()), target / SMALL),
    }
    return measured(model, rows, forms)


def measured(model: "Model", rows: "Encoded", forms: "dict[str, tuple[Network, Path]]") -> list[Measured]:
    """The first form is what the others are held against. forms: a network and its file, by name."""
    import numpy as np

    found: list[Measured] = []
    reference: Array | None = None
    answers: list[Any] = []
    single = [rows.take(np.array([feature])) for feature in range(min(ALONE, len(rows)))]
    for name, (network, file) in forms.items():
        outputs, seconds = _timed(partial(_outputs, model, network, rows))
        said = model.task.predict(outputs, rows, model.labels, all_scores=False)["prediction"]
        if reference is None:
            reference, answers = outputs, said
        alone = [_timed(partial(_outputs, model, network, one))[1] for one in single]
        found.append(
            Measured(
                name=name,
                megabytes=file.stat().st_size / 1e6,
                alone_ms=1e3 * float(np.median(alone)),
                rows_a_second=rows.rows / seconds,
                difference=float(np.abs(outputs - reference).max()),
                same=float(np.mean([_alike(own, other) for own, other in zip(said, answers, strict=True)])),
            )
        )
    return found


def table(figures: Sequence[Measured]) -> str:
    """For a terminal."""
    heads = ("", "MB", "ms a row alone", "rows/s together", "largest difference", "same answers")
    lines = [heads]
    for place, own in enumerate(figures):
        held = (f"{own.difference:.2g}", f"{own.same:.1%}") if place else ("", "")
        lines.append((own.name, f"{own.megabytes:.1f}", f"{own.alone_ms:.1f}", f"{own.rows_a_second:,.0f}", *held))
    widths = [max(len(line[place]) for line in lines) for place in range(len(heads))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _outputs(model: "Model", network: Network, rows: "Encoded") -> "Array":
    from hpo.training import inference

    def collate(some: "Encoded", features: "Array") -> "dict[str, Array]":
        return model.task.collate(some, features, model.tokenizer.pad_id)

    return inference.logits(network, rows, collate, _cpu(), bf16=False)


def _timed(ask: "Callable[[], Array]") -> "tuple[Array, float]":
    """The better of two, so that the first one warms up."""
    best, outputs = float("inf"), None
    for _ in range(2):
        began = time.perf_counter()
        outputs = ask()
        best = min(best, time.perf_counter() - began)
    assert outputs is not None
    return outputs, best


def _alike(said: Any, other: Any) -> bool:
    """Numbers to three digits; of entities type and place, without their probabilities."""
    if isinstance(said, float):
        return bool(abs(said - other) <= 1e-3 * max(1.0, abs(other)))
    if isinstance(said, list):
        return [_bare(one) for one in said] == [_bare(one) for one in other]
    return bool(said == other)


def _bare(one: Any) -> Any:
    return {name: value for name, value in one.items() if name != "score"} if isinstance(one, dict) else one


def _rows(model: "Model", arguments: argparse.Namespace) -> "Encoded":
    from hpo.data import tables

    if not os.path.exists(arguments.input):
        raise DataError(f"{arguments.input}: there is no such file; correct --input")
    task = model.task
    names = asking.names(task.asked, arguments.text)
    _, found = tables.read_rows(arguments.input, task.asked, names, task.layout.asked_fault)
    return model.encode(found.slice(0, MOST))


def _registered(arguments: argparse.Namespace) -> "tuple[Registry | None, Version | None]":
    if not arguments.model.startswith(asking.REGISTERED):
        return None, None
    from hpo.registry import Registry

    registry = Registry(arguments.tracking_uri)
    return registry, registry.resolve(arguments.model)


def _tags(figures: Sequence[Measured]) -> dict[str, str]:
    torch, whole, small = figures
    return {
        "hpo.onnx_difference": f"{whole.difference:.3g}",
        "hpo.onnx_int8_same_answers": f"{small.same:.4f}",
        "hpo.onnx_int8_difference": f"{small.difference:.3g}",
        "hpo.onnx_speedup": f"{torch.alone_ms / whole.alone_ms:.2f}",
        "hpo.onnx_int8_speedup": f"{torch.alone_ms / small.alone_ms:.2f}",
    }


def _move(source: Path, target: Path) -> None:
    """Whole or not at all, as far as the file systems allow."""
    import shutil

    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.copytree(source, temporary)
    if target.is_dir():
        target.rmdir()  # empty: it was checked
    temporary.rename(target)


def _threads() -> int:
    from hpo.runners.machine import cores

    return cores()


def _cpu() -> Any:
    from hpo.training.device import pick_device

    return pick_device(0.0)


def _check(arguments: argparse.Namespace) -> None:
    problems: list[Problem] = []
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        first = install_command(*(NEEDED[name] for name in missing))
        problems.append(Problem("", f"{', '.join(missing)} not installed; first: {first}"))
    if arguments.output.is_file() or (arguments.output.is_dir() and any(arguments.output.iterdir())):
        problems.append(Problem("--output", f"{arguments.output} is there already; name a new folder"))
    problems += asking.problems(arguments)
    if problems:
        raise ConfigError(problems)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m hpo.export",
        description="Write a model as ONNX files of 32 and of 8 bits, and measure them against PyTorch.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    asking.add_options(parser)
    parser.add_argument(
        "--input", required=True, type=Path, metavar="FILE", help=f"rows to measure on, at most {MOST:,} of them"
    )
    parser.add_argument("--output", required=True, type=Path, metavar="FOLDER", help="a new one, for the files")
    return parser


if __name__ == "__main__":
    sys.exit(main())
