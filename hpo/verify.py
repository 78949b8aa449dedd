"""`python -m hpo.verify --study NAME`: whether everything that must hold of a study holds, and `--repair`.

The arguments first; nothing heavy is imported before they are right. Must not judge or mend itself.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo.errors import ConfigError, Problem, ServiceError, exit_code_of
from hpo.mlflow_client import default_store, kept_store

if TYPE_CHECKING:
    from hpo.invariants import Facts, Finding
    from hpo.study.examine import Study

EPILOG = """examples:
  python -m hpo.verify --study quickstart
  python -m hpo.verify --study /data/studies/reviews --tracking-uri http://127.0.0.1:5000
  python -m hpo.verify --study quickstart --repair

It looks at a study that no driver holds, and changes nothing unless it is told to. One line a check: the ledger
against its events, the events against MLflow, the checkpoints against their manifests, the best one asked again on
the validation rows, the champion. --repair tells MLflow what it was not told, and removes what nobody points to.

exit codes: 0 all of it holds; 1 something is broken; 2 your mistake; 4 a service is not there; 75 a driver holds the
study; 130 stopped"""


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code. A mistake is told on stderr, without a traceback."""
    arguments = _parser().parse_args(argv)
    return exit_code_of(lambda: _verify(arguments, *_asked(arguments)))


def _asked(arguments: argparse.Namespace) -> tuple[Path, str]:
    """The study's folder, and where MLflow is: by default where the study was told to. ConfigError where there is no
    such study, or MLflow's address is no address."""
    from hpo.tracking import address_problems
    from hpo.tracking.link import read_link

    problems: list[Problem] = []
    asked = Path(arguments.study)
    folder = asked if (asked / "study.json").is_file() else arguments.storage / arguments.study
    if not (folder / "study.json").is_file():
        there = sorted(saved.parent.name for saved in arguments.storage.glob("*/study.json"))
        listed = f"{arguments.storage} has {', '.join(there)}" if there else f"{arguments.storage} has no studies"
        problems.append(Problem("--study", f"{arguments.study} is no study ({listed}); name one, or its folder"))
    uri = arguments.tracking_uri or default_store()
    if not arguments.tracking_uri and (link := read_link(folder)) and link.uri and link.uri != kept_store(uri):
        uri = link.uri
    problems += address_problems(uri)
    if problems:
        raise ConfigError(problems)
    return folder, uri


def _verify(arguments: argparse.Namespace, folder: Path, uri: str) -> int:
    from hpo.study.lease import driver_lock

    with driver_lock(folder):
        study, saved = _study(folder, uri)
        from hpo.invariants import Verdict, findings
        from hpo.study.examine import examine
        from hpo.study.mend import mend

        facts = examine(study, reevaluate=arguments.reevaluate)
        found = findings(facts)
        asked = {own.mend for own in found if own.verdict is Verdict.BROKEN and own.mend is not None}
        trouble = None
        if arguments.repair and asked:
            trouble = mend(study, facts, asked, saved, time.time())
            found = _after(found, findings(_looked_at_again(study, facts)))
    print(json.dumps([_as_json(own) for own in found], indent=2) if arguments.json else "\n".join(_words(found)))
    if trouble:
        print(f"error: {trouble}", file=sys.stderr)
    return 1 if any(own.verdict is Verdict.BROKEN for own in found) else 0


def _looked_at_again(study: "Study", before: "Facts") -> "Facts":
    """No mending changes weights: what was asked of them before holds."""
    from hpo.study.examine import examine

    return replace(examine(study, reevaluate=False), again=before.again, not_again=before.not_again)


def _after(before: "Sequence[Finding]", now: "Sequence[Finding]") -> "tuple[Finding, ...]":
    """What was broken and holds now is mended."""
    from hpo.invariants import Verdict

    return tuple(
        replace(after, verdict=Verdict.MENDED, said=f"{after.said} (it was: {first.said})")
        if first.verdict is Verdict.BROKEN and after.verdict is Verdict.OK
        else after
        for first, after in zip(before, now, strict=True)
    )


def _study(folder: Path, uri: str) -> "tuple[Study, dict[str, str]]":
    """As it was saved, with MLflow where it is now. ServiceError where the file is damaged."""
    from hpo.config import StudyConfig
    from hpo.study.examine import Study
    from hpo.tracking import TrackingConfig
    from hpo.tracking.link import read_link
    from hpo.tracking.reading import experiment_name

    file = folder / "study.json"
    try:
        values = json.loads(file.read_text("utf-8"))
        config = StudyConfig.from_json(json.dumps(values["config"] | {"tracking": {"uri": uri}}))
        saved = {str(name): str(value) for name, value in values["facts"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ConfigError) as error:
        said = str(error).partition("\n")[0]
        raise ServiceError(f"storage: {file} can't be read ({said}); restore it from a backup") from None
    tracking = TrackingConfig(uri=uri, experiment=experiment_name(uri, read_link(folder)) or config.study)
    config = config.model_copy(update={"tracking": tracking})
    return Study(folder.resolve(), config, saved.get("data_sha256", "")), saved


def _words(found: "Sequence[Finding]") -> list[str]:
    width = max(len(own.check) for own in found)
    lines = []
    for own in found:
        lines.append(f"{own.check.ljust(width)}  {own.verdict.value.ljust(8)}  {own.said}")
        if own.verdict.value == "broken" and own.remedy:
            lines.append(f"{' ' * width}            -> {own.remedy}")
    return lines


def _as_json(own: "Finding") -> dict[str, Any]:
    return {"check": own.check, "verdict": own.verdict.value, "said": own.said, "remedy": own.remedy}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m hpo.verify",
        description="Check that everything that must hold of a study holds, and mend what can be mended.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--study", required=True, metavar="NAME|FOLDER", help="its name below --storage, or its folder")
    parser.add_argument(
        "--storage", type=Path, default=Path("studies"), metavar="DIR", help="the folder of all studies (studies)"
    )
    parser.add_argument(
        "--tracking-uri",
        metavar="URI",
        help="where MLflow is: by default where the study was told to",
    )
    parser.add_argument("--repair", action="store_true", help="mend what can be mended")
    parser.add_argument(
        "--reevaluate",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="ask the best checkpoint again, where the encoded rows are still in the cache",
    )
    parser.add_argument("--json", action="store_true", help="for scripts")
    return parser


if __name__ == "__main__":
    sys.exit(main())
