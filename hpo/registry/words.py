"""What a registered model and its versions say of themselves to people, in Markdown. Must not know MLflow."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hpo.records import Decision

DESCRIPTION_LIMIT = 5_000
"""Characters that MLflow's database holds."""


def of_version(decision: Decision) -> str:
    """The decision; the reason first."""
    verdict = "Promoted to champion" if decision.verdict == "promote" else "Registered as challenger, not promoted"
    first, *rest = decision.reasons
    return "\n".join([f"{verdict}: {first}", "", *(f"- {reason}" for reason in rest), ""])[:DESCRIPTION_LIMIT]


def of_model(name: str, task: dict[str, Any], labels: Sequence[str]) -> str:
    """What every version of it does, and how to ask it. task: as its config writes it."""
    kind = str(task["type"]).replace("-", " ")
    pairs = not isinstance(task["text"], str)
    row = '{"text": "one", "text_pair": "other"}' if pairs else '"one text"'
    columns = " and ".join(f"`{column}`" for column in ([*task["text"]] if pairs else [task["text"]]))
    answer = f"one of {len(labels)} labels ({_some(labels)}) and its probability" if labels else "a number, as `score`"
    lines = [
        f"BERT, fine-tuned for {kind} of {'pairs of texts' if pairs else 'texts'} (columns {columns}, at most "
        f"{task['max_length']} tokens). It answers with {answer}.",
        "",
        "`@champion` is the version to use; `@challenger` is the latest that did not beat it. "
        "Each version says why it is what it is.",
        "",
        "    python -m hpo.predict --model models:/" + name + "@champion --input rows.csv --output answers.csv",
        "    mlflow models serve -m models:/" + name + "@champion --env-manager local",
        "",
        f'The server takes `{{"inputs": [{row}, ...]}}` at `/invocations` and answers '
        '`{"predictions": [{"label": ..., "score": ...}, ...]}`.',
        "",
    ]
    return "\n".join(lines)[:DESCRIPTION_LIMIT]


def _some(labels: Sequence[str], most: int = 20) -> str:
    named = ", ".join(label[:60] for label in labels[:most])
    return f"{named}, ..." if len(labels) > most else named


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
