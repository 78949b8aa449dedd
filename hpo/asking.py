"""What commands that ask a finished model have in common: the options that name it and the columns of its rows.

Must import nothing heavy, and open neither the model nor the rows.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hpo.errors import ConfigError, Problem
from hpo.mlflow_client import default_store

if TYPE_CHECKING:
    from hpo.columns import Column

REGISTERED = "models:/"


def add_options(parser: argparse.ArgumentParser) -> None:
    """--model, --text, --tracking-uri."""
    parser.add_argument(
        "--model", required=True, help="models:/NAME@ALIAS, models:/NAME/NUMBER, or a checkpoint folder"
    )
    parser.add_argument(
        "--text", nargs="+", metavar="COLUMN", help="the columns that the model asks for, as FILE calls them"
    )
    add_store(parser)


def add_store(parser: argparse.ArgumentParser) -> None:
    """--tracking-uri."""
    parser.add_argument(
        "--tracking-uri",
        default=default_store(),
        metavar="URI",
        help="where the registry is: by default MLFLOW_TRACKING_URI, else sqlite:///mlflow.db",
    )


def problems(arguments: argparse.Namespace) -> list[Problem]:
    """What is wrong with --text, with --model, or with the store that it is in."""
    text: Sequence[str] = arguments.text or ()
    if len({*text}) < len(text):
        return [Problem("--text", f"{' '.join(text)} has one column twice; name different ones")]
    if arguments.model.startswith(REGISTERED):
        from hpo.tracking import store_problems

        return [*store_problems(arguments.tracking_uri)]
    if (Path(arguments.model) / "config.json").is_file():
        return []
    return [
        Problem("--model", f"{arguments.model} is no folder with a config.json; name one, or models:/NAME@champion")
    ]


def names(asked: "tuple[Column, ...]", given: Sequence[str] | None) -> tuple[str, ...]:
    """Of the columns in the file, which --text may call otherwise than in training. ConfigError."""
    own = tuple(column.name for column in asked)
    if given is None:
        return own
    if len(given) != len(own):
        told = f"{len(given)} columns; this model asks for {len(own)} ({', '.join(own)})"
        raise ConfigError([Problem("--text", told)])
    return tuple(given)
