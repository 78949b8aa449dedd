"""The one exception tree. A message says the value, the rule and the remedy.

HpoError
├── ConfigError          the space file or the command line            exit 2
├── DataError            the user's rows                               exit 2
│   └── MissingColumnError  a column that the task reads is not there
├── ModelError           the pretrained model                          exit 2
├── StudyExistsError     a study of that name is there already         exit 2
├── NoTrialFinishedError nothing to choose a winner from               exit 3
├── ServiceError         the Hub, MLflow, Ray, a database or a disk    exit 4
├── StudyLockedError     another driver holds the study                exit 75
└── TrialError           one trial went wrong; the search goes on
    ├── DivergedError    loss or metric is not finite
    ├── DeadParameterError  a sampled value is not live in the training
    ├── OutOfMemoryError a batch does not fit into memory
    └── DamagedBookmarkError  what a trial had written down can't be gone on from
"""

import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar


class HpoError(Exception):
    """Base of everything that this program raises on purpose."""

    exit_code: ClassVar[int] = 1


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a space file. `where` is the path of the key, `line` counts from 1."""

    where: str
    message: str
    file: Path | None = None
    line: int | None = None

    def __str__(self) -> str:
        place = f" ({self.file}:{self.line})" if self.file and self.line else f" ({self.file})" if self.file else ""
        return f"{self.where}: {self.message}{place}" if self.where else f"{self.message}{place}"


class ConfigError(HpoError):
    """Every problem of a space file or a command line, reported together."""

    exit_code = 2

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class DataError(HpoError):
    exit_code = 2


class MissingColumnError(DataError):
    """`column` is not there; whoever knows the space file says which key names it."""

    def __init__(self, message: str, column: str) -> None:
        self.column = column
        super().__init__(message)


class ModelError(HpoError):
    exit_code = 2


class StudyExistsError(HpoError):
    exit_code = 2


class NoTrialFinishedError(HpoError):
    exit_code = 3


class ServiceError(HpoError):
    exit_code = 4


class StudyLockedError(HpoError):
    exit_code = 75


class TrialError(HpoError):
    """One trial went wrong. It is told FAIL; the search goes on."""


class DivergedError(TrialError):
    """A loss or a metric is not finite."""


class DeadParameterError(TrialError):
    """A sampled value is not what the model, optimiser or schedule holds."""


class OutOfMemoryError(TrialError):
    """A batch does not fit into the memory of the device or the machine. is_of_stage: one of the stage before the
    trial's own task."""

    is_of_stage = False


class DamagedBookmarkError(TrialError):
    """What a trial had written down of itself is not what was meant to be; it begins again."""


def install_command(*distributions: str) -> str:
    """The remedy for what is not installed: for this Python, which need not be the shell's. An environment that uv has
    made has no pip of its own."""
    python, here = Path(sys.executable), Path.cwd()
    shown = shlex.quote(str(python.relative_to(here) if python.is_relative_to(here) else python))
    names = shlex.join(distributions)
    if find_spec("pip") is None:
        return f"uv pip install --python {shown} {names}"
    return f"{shown} -m pip install {names}"


def exit_code_of(command: Callable[[], int], *, file: str | None = None, stopped: str = "stopped") -> int:
    """What a command returns; what it raises on purpose, told on stderr without a traceback, becomes an exit code.

    file: whose problems a ConfigError lists, one a line; None: those of the arguments. stopped: said at Ctrl-C.
    """
    try:
        return command()
    except HpoError as error:
        if isinstance(error, ConfigError) and file is not None:
            count = len(error.problems)
            print(f"{count} problem{'s' if count > 1 else ''} in {file}:", file=sys.stderr)
            for problem in error.problems:
                print(f"  {' '.join(str(problem).split())}", file=sys.stderr)
        else:
            print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except ModuleNotFoundError as error:
        print(f"error: this Python has no {error.name}; first: . .venv/bin/activate", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(stopped, file=sys.stderr)
        return 130
