"""`python -m hpo.run --space PATH`: the arguments, then the study. Nothing heavy is imported before they are right."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hpo.errors import exit_code_of

if TYPE_CHECKING:
    from hpo.config import StudyConfig

EPILOG = """examples:
  python -m hpo.run --space spaces/quickstart.yaml
  python -m hpo.run --space glue_sst2 --dry-run
  python -m hpo.run --space mine.yaml --set budget.trials=40 --set space.learning_rate.high=1e-4 --resume

exit codes: 0 done; 2 your mistake; 3 no trial finished; 4 a service is not there; 75 another driver holds the
study; 130, 143 stopped by a signal, to be continued with --resume"""


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code. A mistake is told on stderr, one line a problem, without a traceback."""
    arguments = _parser().parse_args(argv)
    # later than that the driver has its own handler of signals
    return exit_code_of(lambda: _run(arguments), file=arguments.space, stopped="stopped before the first trial")


def _run(arguments: argparse.Namespace) -> int:
    from hpo import config

    loaded = config.load(config.find(arguments.space), arguments.set, arguments.storage)
    if arguments.dry_run:
        return _dry_run(loaded, timed=arguments.probe)

    from hpo.study import driver

    return driver.run(loaded, resume=arguments.resume, address=arguments.address)


def _dry_run(config: "StudyConfig", *, timed: bool) -> int:
    """The plan on stdout; what is read on the way is told on stderr."""
    from hpo.report.plan import plan_text
    from hpo.report.screen import open_screen
    from hpo.study.plan import make_plan

    with open_screen(sys.stderr) as screen:
        plan = make_plan(config, screen, timed=timed)
    print(plan_text(plan))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m hpo.run",
        description="Search the hyperparameters of a BERT fine-tuning, and promote the best checkpoint.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--space", required=True, metavar="PATH", help="the search-space file, or a shipped one's name")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and start nothing")
    parser.add_argument(
        "--no-probe", dest="probe", action="store_false", help="with --dry-run: predict no times, train no probe steps"
    )
    parser.add_argument("--resume", action="store_true", help="go on with a study that exists, or extend it")
    parser.add_argument(
        "--set", action="append", default=[], metavar="a.b=value", help="set a key of the file; may be given often"
    )
    parser.add_argument("--storage", type=Path, metavar="DIR", help="the folder of all studies, instead of the file's")
    parser.add_argument("--address", metavar="RAY", help="a Ray cluster to run on, instead of this machine")
    return parser


if __name__ == "__main__":
    sys.exit(main())
