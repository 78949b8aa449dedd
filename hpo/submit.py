"""`python -m hpo.submit --address URL --space PATH`: a search as a job of a Ray cluster, followed from here.

The arguments and the space file first: what is wrong with them is told before the cluster is asked. Must not run
anything itself; the job is `hpo.run` on the cluster's head.
"""

import argparse
import hashlib
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from hpo.errors import ConfigError, Problem, exit_code_of
from hpo.options import EXIT_CODES, add_options

if TYPE_CHECKING:
    from hpo.config import StudyConfig
    from hpo.runners.jobs import Jobs

SENT = "space.yaml"
"""The name under which the resolved space file travels."""

EPILOG = """examples:
  python -m hpo.submit --address http://head:8265 --space spaces/glue_sst2.yaml --storage /studies
  python -m hpo.submit --address http://head:8265 --token-file ray-token --space mine.yaml --set budget.trials=40
  python -m hpo.submit --address http://head:8265 --space mine.yaml --detach

The same command again goes on with the study: it follows the job that is still at it, or starts one with --resume.
Paths in the space file are made absolute here; the nodes must see them, and the storage, under the same names.

exit codes: that of the search
  """


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code: of the job's driver, where it was followed to its end."""
    arguments = _parser().parse_args(argv)
    return exit_code_of(lambda: _submit(arguments), file=arguments.space, stopped="stopped before the job began")


def _submit(arguments: argparse.Namespace) -> int:
    from hpo import config

    loaded = config.load(config.find(arguments.space), arguments.set, arguments.storage)
    problems = [*_wrong_options(arguments), *_not_for_elsewhere(loaded)]
    if problems:
        raise ConfigError(problems)
    from hpo.runners.jobs import Jobs

    jobs = Jobs.at(arguments.address, arguments.token_file)
    document = loaded.document()
    command = ["hpo.run", "--space", SENT, *_as_asked(arguments)]
    mark = hashlib.sha256("\0".join([document, *command]).encode()).hexdigest()
    job = jobs.running(mark)
    if job is not None:
        _say(f"{job} is at it already\n")
    else:
        with TemporaryDirectory(prefix="hpo-submit-") as folder:
            Path(folder, SENT).write_text(document, encoding="utf-8")
            job = jobs.submit(loaded.study, mark, Path(folder), command)
        _say(f"{job} goes to {arguments.address}\n")
    if arguments.detach:
        _say("the same command without --detach follows it\n")
        return 0
    return _follow(jobs, job, stops=arguments.on_interrupt == "stop")


def _follow(jobs: "Jobs", job: str, *, stops: bool) -> int:
    """Until the job has ended, or a signal ends the following."""
    received = signal.SIGINT

    def interrupt(number: int, frame: object) -> None:
        nonlocal received
        received = signal.Signals(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        return jobs.follow(job, _write)
    except KeyboardInterrupt:
        if stops:
            _say(f"stopping {job}; the same command goes on with it\n")
            return jobs.stop(job)
        _say(f"{job} goes on without you; the same command follows it again\n")
        return 128 + received
    finally:
        signal.signal(signal.SIGTERM, before)


def _as_asked(arguments: argparse.Namespace) -> list[str]:
    if arguments.dry_run:
        return ["--dry-run", *([] if arguments.probe else ["--no-probe"]), "--address", "auto"]
    return ["--resume", "--address", "auto"]


def _wrong_options(arguments: argparse.Namespace) -> Iterator[Problem]:
    address = urlsplit(arguments.address)
    if address.scheme not in ("http", "https") or not address.hostname:
        yield Problem(
            "--address", f"{arguments.address!r} is no address of a dashboard; write http://HOST:8265, or https://..."
        )
    file: Path | None = arguments.token_file
    if file is not None and not file.is_file():
        yield Problem("--token-file", f"there is no {file}; name the file with the token of the cluster's head")


def _not_for_elsewhere(config: "StudyConfig") -> Iterator[Problem]:
    """What means something else on a node than it means here."""
    from hpo.mlflow_client import without_password

    if not config.storage.is_absolute():
        yield Problem(
            "storage",
            f"{config.storage} is a folder of whatever machine the job runs on; name one that all nodes see, "
            "such as --storage /studies",
        )
    uri = config.tracking.uri
    if uri.startswith("sqlite:///") and not uri.startswith("sqlite:////"):
        yield Problem(
            "tracking.uri",
            f"{uri} is a file of whatever machine the job runs on; name a server, "
            "such as --set tracking.uri=http://mlflow:5000",
        )
    if without_password(uri) != uri:
        yield Problem(
            "tracking.uri",
            "it holds a password, which all who see the cluster's jobs could read; keep it on the head, in "
            "~/.mlflow/credentials, MLFLOW_TRACKING_PASSWORD or PGPASSFILE",
        )
    for index, name in enumerate(config.search.warm_start):
        if "/" in name and "://" not in name and not Path(name).is_absolute():
            yield Problem(
                f"search.warm_start[{index}]", f"{name} starts at a folder of this machine; write its absolute path"
            )


def _write(text: str) -> None:
    print(text, end="", flush=True)


def _say(text: str) -> None:
    print(text, end="", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m hpo.submit",
        description="Run a search as a job of a Ray cluster, and follow it from here.",
        epilog=EPILOG + EXIT_CODES.removeprefix("exit codes: ").replace("\n", "\n  "),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--address", required=True, metavar="URL", help="of the head's dashboard: http://head:8265")
    parser.add_argument(
        "--token-file", type=Path, metavar="FILE", help="with the cluster's token; otherwise RAY_AUTH_TOKEN(_PATH)"
    )
    add_options(parser)
    parser.add_argument("--resume", action="store_true", help="as for hpo.run; here it is always so")
    parser.add_argument("--detach", action="store_true", help="leave as soon as the cluster has the job")
    parser.add_argument(
        "--on-interrupt",
        choices=("detach", "stop"),
        default="detach",
        help="what Ctrl-C and SIGTERM do: leave the job running (the default), or stop it so that it can go on later",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
