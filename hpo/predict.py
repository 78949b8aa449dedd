"""`python -m hpo.predict --model models:/NAME@champion --input FILE --output FILE`: a model's answers, row by row.

The arguments first; nothing heavy is imported before they are right.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from hpo.errors import ConfigError, DataError, HpoError, ModelError, Problem

if TYPE_CHECKING:
    import pyarrow as pa

    from hpo.encoded import Array
    from hpo.tasks import Task

REGISTERED = "models:/"
EPILOG = """examples:
  python -m hpo.predict --model models:/quickstart@champion --input new.csv --output answers.csv
  python -m hpo.predict --model studies/x/checkpoints/trial-0003 --text sentence --input new.tsv --output answers.jsonl

The output has the columns of the input, then `prediction` and, for classes, `score`: the probability of that class.

exit codes: 0 done; 2 your mistake; 4 a service is not there; 130 stopped"""


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code. A mistake is told on stderr, without a traceback."""
    arguments = _parser().parse_args(argv)
    try:
        started = time.monotonic()
        rows = _predict(arguments)
        seconds = time.monotonic() - started
        print(f"{rows:,} rows answered in {seconds:.1f} s: {arguments.output}", file=sys.stderr)
        return 0
    except HpoError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except ModuleNotFoundError as error:
        print(f"error: this Python has no {error.name}; first: . .venv/bin/activate", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; nothing was written", file=sys.stderr)
        return 130


@dataclass(frozen=True)
class Model:
    """A checkpoint folder, and what its task and classes are."""

    folder: Path
    task: "Task"
    labels: tuple[str, ...]


def _predict(arguments: argparse.Namespace) -> int:
    """The number of rows."""
    _check(arguments)
    from hpo.data import tables

    tables.check_output(arguments.output)
    if not arguments.input.exists():
        raise DataError(f"{arguments.input}: there is no such file; correct --input")
    with TemporaryDirectory(prefix="hpo-predict-") as temporary:
        model = _model(arguments, Path(temporary))
        task = model.task
        placeholder = 0.0 if task.label_kind == "number" else model.labels[0]
        rows, table = tables.read_rows(arguments.input, task.texts, task.label, placeholder)
        answers = _answers(model, _logits(model, table, arguments.batch_size), arguments.all_scores)
    for name in answers:
        if name in rows:
            raise DataError(f"{arguments.input}: it has a column {name!r} already; rename that one")
    tables.write_rows(arguments.output, {**rows, **answers})
    return len(table)


def _check(arguments: argparse.Namespace) -> None:
    from hpo.mlflow_client import sqlite_file

    problems: list[Problem] = []
    if arguments.batch_size is not None and arguments.batch_size < 1:
        problems.append(Problem("--batch-size", f"{arguments.batch_size} rows are none; give at least 1"))
    if arguments.text and len(arguments.text) > 2:
        problems.append(Problem("--text", f"{len(arguments.text)} columns; give one, or two for pairs"))
    if arguments.model.startswith(REGISTERED):
        from pydantic import ValidationError

        from hpo.tracking import TrackingConfig

        try:
            TrackingConfig(uri=arguments.tracking_uri)
        except ValidationError as error:
            problems += [Problem("--tracking-uri", str(own["msg"])) for own in error.errors()]
        database = sqlite_file(arguments.tracking_uri)
        if database is not None and not database.is_file():
            problems.append(Problem("--tracking-uri", f"there is no {database}; name the store that has the model"))
    elif not (Path(arguments.model) / "config.json").is_file():
        problems.append(
            Problem("--model", f"{arguments.model} is no folder with a config.json; name one, or models:/NAME@champion")
        )
    if problems:
        raise ConfigError(problems)


def _model(arguments: argparse.Namespace, temporary: Path) -> Model:
    """From the registry, or from a folder. Raises ModelError."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # all that is needed is in the folder
    if arguments.model.startswith(REGISTERED):
        from hpo.registry import Registry

        registry = Registry(arguments.tracking_uri)
        folder = registry.fetch(registry.resolve(arguments.model), temporary)
    else:
        folder = Path(arguments.model)
    return Model(folder, _task(arguments, folder), _labels(folder))


def _task(arguments: argparse.Namespace, folder: Path) -> "Task":
    """As the registry keeps it beside the model; for a bare checkpoint, as the arguments and its config tell."""
    from pydantic import TypeAdapter, ValidationError

    from hpo.tasks import Task

    config = _config(folder)
    limit = int(config.get("max_position_embeddings") or 512)
    kept = folder / "task.json"
    values: dict[str, Any] = {
        "type": "sequence-classification",
        "label": "prediction",
        "max_length": min(128, limit),
        "problem_type": config.get("problem_type") or "single_label_classification",
    }
    if kept.is_file():
        values = json.loads(kept.read_text("utf-8"))["task"]
    if arguments.text:
        values["text"] = arguments.text[0] if len(arguments.text) == 1 else tuple(arguments.text)
    if arguments.max_length is not None:
        values["max_length"] = arguments.max_length
    if "text" not in values:
        raise ConfigError([Problem("--text", f"{folder} does not say which column holds the text; name it")])
    try:
        task: Task = TypeAdapter(Task).validate_python(values)
    except ValidationError as error:
        raise ModelError(f"{folder}: its task is not one of this program's ({error.errors()[0]['msg']})") from error
    if task.max_length > limit:
        raise ConfigError([Problem("--max-length", f"{task.max_length} tokens; the model takes {limit} at most")])
    suffix = task.head.removeprefix("AutoModel")
    if not any(str(name).endswith(suffix) for name in config.get("architectures") or ()):
        raise ModelError(
            f"{folder}: a model of {config.get('architectures')}, which has no head for {task.type}; "
            "name a checkpoint that was fine-tuned"
        )
    return task


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder / 'config.json'}: not readable as JSON ({error})") from error
    if not isinstance(config, dict):
        raise ModelError(f"{folder / 'config.json'}: not an object; name a folder made by save_pretrained")
    return config


def _labels(folder: Path) -> tuple[str, ...]:
    """Names in the order of their ids. A regression has one, which is not used."""
    names = _config(folder).get("id2label") or {}
    return tuple(str(names[number]) for number in sorted(names, key=int))


def _logits(model: Model, table: "pa.Table", batch_size: int | None) -> "Array":
    """(rows, outputs) float32, in the order of the rows; in fp32 whatever the hardware has."""
    import numpy as np

    from hpo.encoded import Encoded, Ragged
    from hpo.training import device, inference, pretrained

    tokenizer = pretrained.load_tokenizer(model.folder)
    encoded = model.task.encode(table, model.labels, tokenizer)
    where = device.pick_device(1.0)
    network = inference.load(model.folder, model.task.head, where)

    def part(rows: "Array") -> Encoded:
        ragged = {name: Ragged.of([column[row].tolist() for row in rows]) for name, column in encoded.ragged.items()}
        return Encoded(ragged, {name: column[rows] for name, column in encoded.flat.items()})

    def collate(some: Encoded, rows: "Array") -> "dict[str, Array]":
        return model.task.collate(some, rows, tokenizer.pad_id)

    order = np.argsort(-encoded.ragged["input_ids"].lengths, kind="stable")
    size = batch_size or len(order)
    blocks = [order[start : start + size] for start in range(0, len(order), size)]
    answers = [inference.logits(network, part(rows), collate, where, bf16=False) for rows in blocks]
    result = np.empty((len(order), answers[0].shape[-1]), np.float32)
    result[order] = np.concatenate(answers)
    return result


def _answers(model: Model, logits: "Array", all_scores: bool) -> dict[str, list[Any]]:
    """The columns to add: prediction; for classes also score, and with `all_scores` one for each class."""
    import numpy as np

    predictions = model.task.predict(logits)
    if model.task.label_kind == "number":
        return {"prediction": [float(value) for value in predictions]}
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    shares = powers / powers.sum(axis=-1, keepdims=True)
    names = [model.labels[number] for number in predictions]
    answers: dict[str, list[Any]] = {"prediction": names, "score": _rounded(shares.max(axis=-1))}
    if all_scores:
        answers |= {f"score_{name}": _rounded(shares[:, number]) for number, name in enumerate(model.labels)}
    return answers


def _rounded(shares: "Array") -> list[float]:
    """Six digits: what is beyond them differs from one machine to the next."""
    return [round(float(share), 6) for share in shares]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m hpo.predict",
        description="Let a champion, any registered model or a checkpoint answer the rows of a file.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--model", required=True, help="models:/NAME@ALIAS, models:/NAME/NUMBER, or a checkpoint folder"
    )
    parser.add_argument("--input", required=True, type=Path, metavar="FILE", help="tsv, csv, jsonl or parquet")
    parser.add_argument("--output", required=True, type=Path, metavar="FILE", help="tsv, csv, jsonl or parquet")
    parser.add_argument("--text", nargs="+", metavar="COLUMN", help="the column of text, or two for pairs")
    parser.add_argument("--max-length", type=int, metavar="TOKENS", help="cut longer texts, instead of as in training")
    parser.add_argument("--batch-size", type=int, metavar="ROWS", help="at most so many rows at a time")
    parser.add_argument(
        "--all-scores", action="store_true", help="the probability of every class, not of the best only"
    )
    parser.add_argument(
        "--tracking-uri",
        default=os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db",
        metavar="URI",
        help="where the registry is: by default MLFLOW_TRACKING_URI, else sqlite:///mlflow.db",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
