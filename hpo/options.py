"""The options that say what is searched, for every command that starts a search. Must import nothing heavy."""

import argparse
from pathlib import Path

EXIT_CODES = """\
exit codes: 0 done; 2 your mistake; 3 no trial finished; 4 a service is not there; 75 another driver holds the
study; 130, 143 stopped by a signal, to be continued with --resume"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """--space, --dry-run, --no-probe, --set, --storage."""
    parser.add_argument("--space", required=True, metavar="PATH", help="the search-space file, or a shipped one's name")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and start nothing")
    parser.add_argument(
        "--no-probe", dest="probe", action="store_false", help="with --dry-run: predict no times, train no probe steps"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="a.b=value", help="set a key of the file; may be given often"
    )
    parser.add_argument("--storage", type=Path, metavar="DIR", help="the folder of all studies, instead of the file's")
