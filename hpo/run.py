"""`python -m hpo.run --space PATH`: the arguments, then the study. Nothing heavy is imported before they are right."""

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hpo.errors import ConfigError, exit_code_of
from hpo.options import EXIT_CODES, add_options

if TYPE_CHECKING:
    from hpo.config import StudyConfig

EPILOG = """examples:
  python -m hpo.run --space spaces/quickstart.yaml
  python -m hpo.run --space glue_sst2 --dry-run
  python -m hpo.run --space mine.yaml --set budget.trials=40 --set space.learning_rate.high=1e-4 --resume

"""


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code. A mistake is told on stderr, one line a problem, without a traceback."""
    arguments = _parser().parse_args(argv)
    # later than that the driver has its own handler of signals
    return exit_code_of(lambda: _run(arguments), file=arguments.space, stopped="stopped before the first trial")


def _run(arguments: argparse.Namespace) -> int:
    from hpo import config

    path = config.find(arguments.space)
    loaded = config.load(path, arguments.set, arguments.storage)
    try:
        if arguments.dry_run:
            return _dry_run(loaded, timed=arguments.probe, address=arguments.address)

        from hpo.study import driver

        return driver.run(loaded, resume=arguments.resume, address=arguments.address)
    except ConfigError as error:
        raise config.located(error, path, arguments.set) from None


def _dry_run(config: "StudyConfig", *, timed: bool, address: str | None) -> int:
    """The plan on stdout; what is read on the way is told on stderr."""
    from hpo.report.plan import plan_text
    from hpo.report.screen import open_screen
    from hpo.study.plan import make_plan

    with open_screen(sys.stderr) as screen:
        plan = make_plan(config, screen, timed=timed, address=address)
    print(plan_text(plan))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m hpo.run",
        description="Search the hyperparameters of a BERT fine-tuning, and promote the best checkpoint.",
        epilog=EPILOG + EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_options(parser)
    parser.add_argument("--resume", action="store_true", help="go on with a study that exists, or extend it")
    parser.add_argument(
        "--address",
        metavar="RAY",
        help="a Ray cluster to run on, instead of this machine: HOST:PORT, or `auto` on one of its nodes",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
