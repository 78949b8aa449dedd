"""What a registered model and its versions say of themselves to people, in Markdown. Must not know MLflow."""

from dataclasses import dataclass, field

from hpo.mlflow_client import store_option, store_variable
from hpo.records import Decision, Origin, Usage
from hpo.space import Scalar

DESCRIPTION_LIMIT = 5_000
"""Characters that MLflow's database holds."""


def of_version(decision: Decision, origin: Origin | None = None, lost_to: int | None = None) -> str:
    """The decision, the reason first, then its figures and where the model comes from.

    lost_to: the champion that came in between, so that the decision does not hold.
    """
    first, *rest = decision.reasons
    if lost_to is not None:
        verdict = f"Not champion, since version {lost_to} was promoted while this one was tested"
    elif decision.verdict == "promote":
        verdict = "Promoted to champion"
    else:
        verdict = "Registered as challenger, not promoted"
    lines = [f"{verdict}: {first}", "", *(f"- {reason}" for reason in rest), ""]
    return "\n".join([*lines, *_figures(decision), *_origin(origin)])[:DESCRIPTION_LIMIT]


def of_act(act: str, copy_of: int, against: int | None, by: str, reason: str | None) -> str:
    """What a person did, past the gate."""
    what = "Champion again, by a rollback" if act == "rollback" else "Promoted to champion by hand, past the gate"
    place = f", in place of version {against}" if against else ""
    said = f": {reason}" if reason else "; no reason was given"
    return f"{what}, of {by}{place}{said}\n\nIt is version {copy_of} under a new number.\n"[:DESCRIPTION_LIMIT]


def _figures(decision: Decision) -> list[str]:
    if decision.champion_score is None:
        return []
    rows = [("this one", f"{decision.challenger_score:.4f}")]
    version = f" (version {decision.against})" if decision.against else ""
    rows.append((f"the champion then{version}", f"{decision.champion_score:.4f}"))
    if decision.improvement is not None:
        rows.append(("improvement", f"{decision.improvement:+.4f}"))
    if decision.low is not None and decision.high is not None:
        level = decision.confidence or 0.95
        rows.append((f"its {level:.4g} interval", f"{decision.low:+.4f} to {decision.high:+.4f}"))
    if decision.wins is not None:
        rows.append(("rows that only this one, only the champion has right", f"{decision.wins:,}, {decision.losses:,}"))
    if decision.p_value is not None:
        asked = f" (at most {1 - decision.confidence:.3g} asked)" if decision.confidence else ""
        rows.append((f"p{asked}", f"{decision.p_value:.3g}"))
    head = f"| {decision.metric or 'score'} on {decision.rows:,} test rows | |"
    return [head, "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows), ""]


def _origin(origin: Origin | None) -> list[str]:
    if origin is None:
        return []
    commit = f", by the program of commit `{origin.commit[:12]}`" if origin.commit else ""
    params = ", ".join(f"{name} = {_short(value)}" for name, value in origin.params.items())
    seed = f", seed {origin.replicate}," if origin.replicate else ""
    lines = [
        f"From trial {origin.trial}{seed} of the study `{origin.study}`{commit}.",
        "",
        f"Hyperparameters: {params}.",
        "",
    ]
    if (seeds := origin.confirmed) is not None:
        several = len(seeds.values) > 1
        spread = f" ({seeds.low:.4f} to {seeds.high:.4f})" if seeds.low is not None and seeds.high is not None else ""
        lines += [
            f"On the validation split {seeds.mean:.4f}{spread} over {len(seeds.values)} fresh seeds, "
            f"{seeds.first:.4f} in the search."
            + (f" Its weights are those of seed {origin.replicate}, the best of them." if seed and several else ""),
            "",
        ]
    return lines


def _short(value: Scalar) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def of_model(name: str, usage: Usage, uri: str) -> str:
    """What every version of it does, and how to ask it. uri: of the store that it is in."""
    option, variable = store_option(uri), store_variable(uri)
    lines = [
        f"BERT, fine-tuned for {usage.what}. It answers with {usage.answer}.",
        "",
        "`@champion` is the version to use; `@challenger` is the latest that did not beat it. "
        "Each version says why it is what it is.",
        "",
        f"    python -m hpo.champion show --model {name}{option}",
        f"    python -m hpo.predict --model models:/{name}@champion --input rows.csv --output answers.csv{option}",
        f"    {variable}mlflow models serve -m models:/{name}@champion --env-manager local",
        "",
        f'The server takes `{{"inputs": [{usage.row}, ...]}}` at `/invocations` and answers '
        f'`{{"predictions": [{usage.reply}, ...]}}`.',
        "",
    ]
    return "\n".join(lines)[:DESCRIPTION_LIMIT]


@dataclass(frozen=True)
class _CardData:
    license: str = "other"

    def to_dict(self) -> dict[str, str]:
        return {}


@dataclass(frozen=True)
class Card:
    """In the shape of huggingface_hub's ModelCard: without one, MLflow asks the Hub for a card."""

    text: str
    data: _CardData = field(default_factory=_CardData)
