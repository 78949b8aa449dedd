"""`python -m hpo.predict --model models:/NAME@champion --input FILE --output FILE`: a model's answers, row by row.

The arguments first; nothing heavy is imported before they are right.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from hpo import asking
from hpo.errors import ConfigError, DataError, ModelError, Problem, exit_code_of

if TYPE_CHECKING:
    from hpo.answering import Model
    from hpo.tasks import Task

MANY = 1_000
"""Rows from which on it takes long enough to say how far it is."""
EPILOG = """examples:
  python -m hpo.predict --model models:/quickstart@champion --input new.csv --output answers.csv
  python -m hpo.predict --model studies/x/checkpoints/trial-0003 --text sentence --input new.tsv --output answers.jsonl

The output has the columns of the input, then `prediction` and what belongs to it: for classes `score`, the probability
of that class; for labels `scores`; for entities `predicted_tags`; for answers in a text `score` and `start`.

exit codes: 0 done; 2 your mistake; 4 a service is not there; 130 stopped"""


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code. A mistake is told on stderr, without a traceback."""
    arguments = _parser().parse_args(argv)
    return exit_code_of(lambda: _predict(arguments), stopped="stopped; nothing was written")


def _predict(arguments: argparse.Namespace) -> int:
    started = time.monotonic()
    _check(arguments)
    from hpo.data import tables
    from hpo.report.screen import open_screen

    tables.check_output(arguments.output)
    if not os.path.exists(arguments.input):  # Path's own raises where a folder on the way is closed
        raise DataError(f"{arguments.input}: there is no such file; correct --input")
    with TemporaryDirectory(prefix="hpo-predict-") as temporary:
        model = _model(arguments, Path(temporary))
        names = asking.names(model.task.asked, arguments.text)
        rows, table = tables.read_rows(arguments.input, model.task.asked, names, model.task.layout.asked_fault)
        tables.check_rows(arguments.output, rows)
        for name in model.answers(table.slice(0, 1), all_scores=arguments.all_scores):  # before it takes long
            if name in rows:
                raise DataError(f"{arguments.input}: it has a column {name!r} already; rename that one")
        answer = partial(model.answers, table, all_scores=arguments.all_scores, at_most=arguments.batch_size)
        if len(table) < MANY:
            answers = answer()
        else:
            with open_screen(sys.stderr) as screen, screen.progress("answering", len(table)) as advance:
                answers = answer(advance=advance)
    tables.write_rows(arguments.output, {**rows, **answers})
    seconds = time.monotonic() - started
    print(f"{len(table):,} rows answered in {seconds:.1f} s: {arguments.output}", file=sys.stderr)
    return 0


def _check(arguments: argparse.Namespace) -> None:
    problems: list[Problem] = []
    if arguments.batch_size is not None and arguments.batch_size < 1:
        problems.append(Problem("--batch-size", f"{arguments.batch_size} rows are none; give at least 1"))
    problems += asking.problems(arguments)
    if problems:
        raise ConfigError(problems)


def _model(arguments: argparse.Namespace, temporary: Path) -> "Model":
    """From the registry, or from a folder. Raises ModelError."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # all that is needed is in the folder
    from hpo.answering import Model, read_about, task_of
    from hpo.runners.machine import cores
    from hpo.training.families import positions_of

    if arguments.model.startswith(asking.REGISTERED):
        from hpo.registry import Registry

        registry = Registry(arguments.tracking_uri)
        folder = registry.fetch(registry.resolve(arguments.model), temporary)
    else:
        folder = Path(arguments.model)
    config = _config(folder)
    limit = positions_of(config) or 512
    about = read_about(folder) or _guess(arguments, config, limit)
    if about["task"].get("text") == ():
        raise ConfigError([Problem("--text", f"{folder} does not say which column holds the text; name it")])
    task = task_of(about["task"], folder)
    if arguments.max_length is not None:
        task = _cut(task, arguments.max_length)
    if task.max_length > limit:
        raise ConfigError([Problem("--max-length", f"{task.max_length} tokens; the model takes {limit} at most")])
    suffix = task.head.removeprefix("AutoModel")
    if not any(str(name).endswith(suffix) for name in config.get("architectures") or ()):
        raise ModelError(
            f"{folder}: a model of {config.get('architectures')}, which has no head for {task.type}; "
            "name a checkpoint that was fine-tuned"
        )
    return Model(folder, task, tuple(about["labels"]), gpus=1.0, abreast=cores())


def _cut(task: "Task", most: int) -> "Task":
    """The task with another max_length. Raises ConfigError where its other settings leave no room for so few."""
    from pydantic import ValidationError

    try:
        return type(task).model_validate({**task.model_dump(), "max_length": most})
    except ValidationError as error:
        said = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ConfigError([Problem("--max-length", f"{most} tokens do not suit this model ({said})")]) from error


def _guess(arguments: argparse.Namespace, config: Mapping[str, Any], limit: int) -> dict[str, Any]:
    """What a classifier is for that says nothing of itself, as the arguments and its configuration tell."""
    text: Sequence[str] = arguments.text or ()
    if len(text) > 2:
        raise ConfigError([Problem("--text", f"{len(text)} columns; give one, or two for pairs")])
    names = config.get("id2label") or {}
    task = {
        "type": "sequence-classification",
        "text": text[0] if len(text) == 1 else tuple(text),
        "label": "prediction",
        "max_length": min(128, limit),
        "problem_type": config.get("problem_type") or "single_label_classification",
    }
    return {"task": task, "labels": [str(names[number]) for number in sorted(names, key=int)]}


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder / 'config.json'}: not readable as JSON ({error}); bring the file back") from error
    if not isinstance(config, dict):
        raise ModelError(f"{folder / 'config.json'}: not an object; name a folder made by save_pretrained")
    return config


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m hpo.predict",
        description="Let a champion, any registered model or a checkpoint answer the rows of a file.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    asking.add_options(parser)
    parser.add_argument("--input", required=True, type=Path, metavar="FILE", help="tsv, csv, jsonl, parquet or conll")
    parser.add_argument("--output", required=True, type=Path, metavar="FILE", help="tsv, csv, jsonl or parquet")
    parser.add_argument("--max-length", type=int, metavar="TOKENS", help="cut longer texts, instead of as in training")
    parser.add_argument("--batch-size", type=int, metavar="ROWS", help="at most so many rows at a time")
    parser.add_argument(
        "--all-scores", action="store_true", help="the probability of every class, not of the best only"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
