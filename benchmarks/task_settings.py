"""The settings of `benchmarks.tasks`: a shipped space each, and the data set that it is measured on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

RATES = "space.learning_rate={low: 2e-5, high: 1e-3, log: true}"
"""Of quickstart.yaml. The spaces for BERT-base end where so small a model only begins to learn."""

SHORT = "space.num_train_epochs={low: 2, high: 5}"
"""Of those that reach further: a core takes a minute an epoch."""


@dataclass(frozen=True)
class Setting:
    """space: of those that are shipped. metric: that is told of the test rows. data: of HPO_DATA; None: what the space
    has. files: the set's own file for each split. rows: the rest of the section `data`. changes: what else differs."""

    space: str
    task: str
    metric: str
    data: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    rows: Mapping[str, Any] = field(default_factory=dict)
    changes: tuple[str, ...] = ()


def own(suffix: str) -> dict[str, str]:
    """All three splits as they come."""
    return {split: f"{split}.{suffix}" for split in ("train", "validation", "test")}


def cut(suffix: str) -> dict[str, str]:
    """Sets without test labels: their validation rows are the test, and the search has its own, cut from train."""
    return {"train": f"train.{suffix}", "test": f"validation.{suffix}"}


SETTINGS = {
    "sms_spam": Setting("sms_spam", "classes, one rare", "f1_macro", "sms_spam", own("tsv")),
    "rte": Setting(
        "glue_rte",
        "pairs of texts",
        "accuracy",
        "rte",
        cut("tsv"),
        {"validation": {"from": "train", "rows": 300}},
        (RATES, SHORT, "search.first=[default]"),
    ),
    "stsb": Setting(
        "glue_stsb", "regression", "spearmanr", "stsb", own("tsv"), changes=(RATES, SHORT, "search.first=[default]")
    ),
    "wnut17": Setting("ner_wnut17", "named entities", "f1", "wnut17", own("jsonl"), changes=(RATES,)),
    "go_emotions": Setting(
        "multilabel_go_emotions",
        "several labels a row",
        "f1_macro",
        "go_emotions",
        own("jsonl"),
        {"limit": {"train": 8000}},
        (RATES,),
    ),
    "imdb": Setting(
        "imdb_long", "long texts", "accuracy", "imdb", own("jsonl"), changes=(RATES, "task.max_length=128")
    ),
    "squad": Setting(
        "qa_squad",
        "answers in a text",
        "f1",
        "squad",
        cut("jsonl"),
        {"validation": {"from": "train", "rows": 500}, "limit": {"train": 2000, "test": 2000}},
        (RATES,),
    ),
    "sst2": Setting(
        "glue_sst2",
        "classes",
        "accuracy",
        "sst2",
        cut("tsv"),
        {"validation": {"from": "train", "rows": 1000}, "limit": {"train": 4000}},
        (RATES, "search.first=[default]"),
    ),
    "names": Setting("names", "text from text", "rougeL"),
}
