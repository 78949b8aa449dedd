"""`python -m hpo.champion show|history|rollback|promote --model NAME`: who is champion and why, and what people change.

The arguments first; nothing heavy is imported before they are right. Must not decide who wins: the registry does.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from hpo.asking import add_store
from hpo.errors import ConfigError, ModelError, Problem, exit_code_of
from hpo.mlflow_client import store_option, store_variable

if TYPE_CHECKING:
    from hpo.registry import Past, Registry, Version

EPILOG = """examples:
  python -m hpo.champion show --model reviews
  python -m hpo.champion history --model reviews --tracking-uri http://mlflow:5000 --json
  python -m hpo.champion rollback --model reviews --reason "wrong on short texts"
  python -m hpo.champion promote --model reviews --version 7 --reason "smaller, and as good"

exit codes: 0 done; 2 your mistake; 4 a service is not there; 130 stopped"""


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code. A mistake is told on stderr, without a traceback."""
    arguments = _parser().parse_args(argv)
    return exit_code_of(lambda: _act(arguments))


def _act(arguments: argparse.Namespace) -> int:
    _check(arguments)
    from hpo.registry import Registry

    act = {"show": _show, "history": _history, "rollback": _rollback, "promote": _promote}[arguments.act]
    act(Registry(arguments.tracking_uri), arguments)
    return 0


def _check(arguments: argparse.Namespace) -> None:
    from pydantic import ValidationError

    from hpo.promotion import PromotionConfig
    from hpo.tracking import store_problems

    problems: list[Problem] = []
    try:
        PromotionConfig(model=arguments.model)
    except ValidationError:
        problems.append(
            Problem("--model", f"{arguments.model!r} is no name of a model; write it without models:/ and @champion")
        )
    problems += store_problems(arguments.tracking_uri)
    if problems:
        raise ConfigError(problems)


def _show(registry: "Registry", arguments: argparse.Namespace) -> None:
    past = registry.past(arguments.model)
    number = past.chain.champion
    if number is None:
        how = _how_to_promote(past, arguments.tracking_uri)
        raise ModelError(f"{arguments.model}: it has versions, but none was ever promoted; {how}")
    version = past.versions[number]
    if arguments.json:
        print(json.dumps(_as_json(past, version), indent=2))
        return
    uri = arguments.tracking_uri
    print("\n".join([*_words(past, version, uri), "", *_usage(arguments.model, uri)]))


def _history(registry: "Registry", arguments: argparse.Namespace) -> None:
    past = registry.past(arguments.model)
    ordered = [past.versions[number] for number in sorted(past.versions)]
    if arguments.json:
        print(json.dumps([_as_json(past, version) for version in ordered], indent=2))
        return
    rows: list[tuple[str, ...]] = [("version", "when", "what", "score", "improvement", "p", "against", "from")]
    rows += [_row(past, version) for version in ordered]
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    for version in ordered:
        if said := version.tags.get("hpo.reason"):
            print(f"version {version.number}, {version.tags.get('hpo.by', 'somebody')}: {said}")


def _rollback(registry: "Registry", arguments: argparse.Namespace) -> None:
    made = registry.rollback(arguments.model, to=arguments.to, by=_who(), reason=arguments.reason)
    _tell(registry, arguments, made, "is champion again")


def _promote(registry: "Registry", arguments: argparse.Namespace) -> None:
    made = registry.promote(arguments.model, arguments.version, by=_who(), reason=arguments.reason)
    _tell(registry, arguments, made, "is champion, past the gate")


def _tell(registry: "Registry", arguments: argparse.Namespace, made: "Version", what: str) -> None:
    if arguments.json:
        print(json.dumps(_as_json(registry.past(arguments.model), made), indent=2))
        return
    replaced = made.tags.get("hpo.against")
    print(
        f"version {made.tags['hpo.copy_of']} of {made.name} {what}, as version {made.number}"
        + (f" in place of version {replaced}" if replaced else "")
    )


def _words(past: "Past", version: "Version", uri: str) -> Iterator[str]:
    chain, tags = past.chain, version.tags
    yield f"{version.name}: version {version.number}, {_what(past, version)}, {_when(version)}"
    if chain.is_by_hand:
        yield "  a person put the alias there in MLflow; the next promotion has to beat it"
    elif chain.alias is None:
        yield "  its alias was taken away in MLflow, so nobody is served; the next one has to beat it even so"
        again = f"promote --model {version.name} --version {version.number}{store_option(uri)}"
        yield f"  to serve it again: python -m hpo.champion {again}"
    elif chain.alias != version.number:
        yield f"  the alias is still at version {chain.alias}: a promotion was cut short; the next one finishes it"
    if "hpo.by" in tags:
        yield f"  by {tags['hpo.by']}: {tags.get('hpo.reason', 'no reason was given')}"
    decision, origin = version.decision, version.origin
    if decision is not None:
        title = "of its own test" if "hpo.copy_of" in tags else "why"
        yield f"  {title}:"
        yield from (f"    {reason}" for reason in decision.reasons)
        if decision.improvement is not None and decision.low is not None:
            level = decision.confidence or 0.95
            yield f"    improvement {decision.improvement:+.4f}, {level:.4g} interval {_interval(decision)}"
        if decision.digest:
            yield f"    test rows: {decision.rows:,}, sha256 {decision.digest[:16]}"
    if origin is not None:
        seed = f", seed {origin.replicate}," if origin.replicate else ""
        yield f"  from: trial {origin.trial}{seed} of the study {origin.study}" + (
            f", program {origin.commit[:12]}" if origin.commit else ""
        )
        params = ", ".join(
            f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in origin.params.items()
        )
        yield f"    {params}"
        if (seeds := origin.confirmed) is not None:
            count = len(seeds.values)
            yield f"    validation: {seeds.mean:.4f} over {count} fresh seeds, {seeds.first:.4f} in the search"


def _usage(model: str, uri: str) -> list[str]:
    option, variable = store_option(uri), store_variable(uri)
    return [
        "to use it:",
        f"  python -m hpo.predict --model models:/{model}@champion --input rows.csv --output answers.csv{option}",
        f"  {variable}mlflow models serve -m models:/{model}@champion --env-manager local",
    ]


def _row(past: "Past", version: "Version") -> tuple[str, ...]:
    decision, tags = version.decision, version.tags
    own = decision if decision is not None and "hpo.copy_of" not in tags else None
    against = tags.get("hpo.against")
    trial = f"{tags['hpo.study']}, trial {tags.get('hpo.trial', '?')}" if "hpo.study" in tags else ""
    return (
        str(version.number),
        _when(version),
        _what(past, version),
        f"{decision.challenger_score:.4f}" if decision is not None else "",
        f"{own.improvement:+.4f}" if own is not None and own.improvement is not None else "",
        f"{own.p_value:.3g}" if own is not None and own.p_value is not None else "",
        against or "",
        trial,
    )


def _what(past: "Past", version: "Version") -> str:
    """What became of it, in a few words."""
    chain, number = past.chain, version.number
    entry = chain.entry(number)
    if entry is None or "hpo.verdict" not in version.tags:
        said = "from elsewhere"
    elif (rival := version.lost_to or chain.lost_to(number)) is not None:
        said = f"lost the race to {rival}"
        if not entry.is_promoted:
            said += ", then kept"
    elif not entry.is_promoted:
        said = "challenger"
    elif entry.act == "rollback":
        said = f"rollback to {entry.copy_of}"
    elif entry.act == "by-hand":
        said = f"{entry.copy_of} by hand"
    else:
        said = "promoted"
    return f"champion ({said})" if number == chain.champion else said


def _as_json(past: "Past", version: "Version") -> dict[str, Any]:
    chain, tags = past.chain, version.tags
    entry = chain.entry(version.number)
    return {
        "model": version.name,
        "version": version.number,
        "is_champion": version.number == chain.champion,
        "has_alias": version.number == chain.alias,
        "what": _what(past, version),
        "act": entry.act if entry is not None and entry.is_promoted else None,
        "created": datetime.fromtimestamp(version.created).astimezone().isoformat(timespec="seconds"),
        "against": entry.against if entry else None,
        "copy_of": entry.copy_of if entry else None,
        "lost_to": version.lost_to or chain.lost_to(version.number),
        "by": tags.get("hpo.by"),
        "reason": tags.get("hpo.reason"),
        "run_id": version.run_id,
        "decision": version.decision.model_dump(mode="json") if version.decision else None,
        "origin": version.origin.model_dump(mode="json") if version.origin else None,
    }


def _interval(decision: Any) -> str:
    return f"{decision.low:+.4f} to {decision.high:+.4f}"


def _when(version: "Version") -> str:
    return datetime.fromtimestamp(version.created).strftime("%Y-%m-%d %H:%M")


def _how_to_promote(past: "Past", uri: str) -> str:
    numbers = ", ".join(str(number) for number in sorted(past.versions))
    name = next(iter(past.versions.values())).name
    command = f"python -m hpo.champion promote --model {name} --version N{store_option(uri)}"
    return f"there are {numbers}; to take one: {command}"


def _who() -> str:
    from hpo.tracking.provenance import provenance

    return provenance()["mlflow.user"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m hpo.champion",
        description="Who is champion among the versions of a registered model, and what people may change about it.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    every = argparse.ArgumentParser(add_help=False)
    every.add_argument("--model", required=True, metavar="NAME", help="the name in the registry")
    add_store(every)
    every.add_argument("--json", action="store_true", help="for scripts")
    acts = parser.add_subparsers(dest="act", required=True, metavar="show|history|rollback|promote")
    acts.add_parser("show", parents=[every], allow_abbrev=False, help="the champion, why, and how to use it")
    acts.add_parser("history", parents=[every], allow_abbrev=False, help="every version, and what became of it")
    back = acts.add_parser("rollback", parents=[every], allow_abbrev=False, help="return to an earlier champion")
    back.add_argument("--to", type=int, metavar="VERSION", help="which one, instead of the one before")
    hand = acts.add_parser("promote", parents=[every], allow_abbrev=False, help="make a version champion by hand")
    hand.add_argument("--version", type=int, required=True, metavar="N", help="which one")
    for act in (back, hand):
        act.add_argument("--reason", metavar="TEXT", help="kept with it, for whoever reads the history")
    return parser


if __name__ == "__main__":
    sys.exit(main())
