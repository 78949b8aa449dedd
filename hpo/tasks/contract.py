"""What every task says of itself, and with which shapes. Members of the union in `hpo.tasks` fit it; one suite of tests
tries all of them. Must not know models: `tokenize` is passed in, and outputs come as arrays.

Words: a row is one of the user's. A feature is what the model reads; a row is one feature, or several (`Encoded`).
Outputs are (features, values), or (tokens, values) where a model answers for each token: without padding, in the order
of `encoded.ragged["input_ids"].values`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias, TypeVar, runtime_checkable

from pydantic import BaseModel

from hpo.columns import Column, Layout, Target

if TYPE_CHECKING:
    import pyarrow as pa

    from hpo.encoded import Array, Encoded
    from hpo.records import Breakdown, Mistakes, Usage

Score: TypeAlias = "Callable[[Array, Array], float]"
"""(predictions (rows, ...), references (rows, ...)) of `evidence` -> the metric."""

Answers: TypeAlias = dict[str, list[Any]]
"""Columns that stand beside a user's rows, one value a row."""


ONE_CLASS = frozenset({"class_weights", "resampling", "supcon_weight", "supcon_temperature"})
"""Hyperparameters that need one class a row: `inert` elsewhere."""

WHOLE_TEXTS = frozenset(
    {"token_deletion", "token_swap", "mixup_alpha", "distillation_weight", "distillation_temperature"}
)
"""Hyperparameters that need one text, or one pair, whose label is not about its places: `inert` elsewhere."""


LABELLED = (
    ONE_CLASS
    | WHOLE_TEXTS
    | frozenset(
        {"adversarial", "adversarial_epsilon", "averaging", "early_stopping_patience", "ema_decay", "freelb_step_size"}
        | {"freelb_steps", "freeze_embeddings", "gradual_unfreezing", "lora_alpha", "lora_dropout", "lora_r"}
        | {"lora_target_modules", "peft", "rdrop_alpha", "reinit_layers", "swa_start"}
    )
)
"""Hyperparameters of all recipes: they are for learning from labels."""


class Tokenize(Protocol):
    """`training` gives it: token ids with special tokens, cut to max_length, not padded. All lists are of one length a
    feature; token_type_ids are there where the model has them. mask_id: the token in place of a masked one. size: of
    the vocabulary."""

    @property
    def mask_id(self) -> int: ...

    @property
    def size(self) -> int: ...

    def __call__(self, texts: list[str], pairs: list[str] | None, max_length: int) -> dict[str, list[list[int]]]:
        """input_ids and token_type_ids; the longer of a pair is cut first."""
        ...

    def aligned(self, texts: list[str], max_length: int) -> dict[str, list[list[int]]]:
        """input_ids, and with `starts` and `ends` the characters that each token stands for, -1 for special ones."""
        ...

    def windows(
        self, questions: list[str], texts: list[str], max_length: int, stride: int
    ) -> tuple[dict[str, list[list[int]]], list[int]]:
        """As `aligned` for pairs whose text does not fit: windows of it that share `stride` tokens, each with its whole
        question; `starts` and `ends` are those of the text, -1 elsewhere. And the row that each window is of."""
        ...


class Feed(Protocol):
    """Training rows that are fed otherwise at every step. rows: with their terms. share: of their tokens, those that
    are masked."""

    @property
    def rows(self) -> "Encoded": ...

    @property
    def share(self) -> float: ...

    def at(self, step: int) -> None:
        """Told the number of steps done, before each one."""
        ...

    def __call__(self, encoded: "Encoded", features: "Array") -> "dict[str, Array]":
        """As `collate`; for other rows than `rows` just that."""
        ...


class TaskContract(Protocol):
    """One member of the union. type: its name in a space file. head: a class of transformers. pipeline: of
    transformers, by which MLflow serves it; None where this program serves it itself. tuned: fields that are found on
    the validation rows where they are None. markers: tokens that a model's vocabulary has to have beside its own."""

    tuned: ClassVar[tuple[str, ...]]
    markers: ClassVar[tuple[str, ...]]

    @property
    def type(self) -> str: ...

    @property
    def head(self) -> str: ...

    @property
    def pipeline(self) -> str | None: ...

    @property
    def max_length(self) -> int: ...

    @property
    def noun(self) -> str:
        """With an article, for messages: `a regression`."""
        ...

    @property
    def inert(self) -> frozenset[str]:
        """Hyperparameters that do nothing here."""
        ...

    @property
    def learns(self) -> Target: ...

    @property
    def layout(self) -> Layout:
        """The columns of a split."""
        ...

    @property
    def asked(self) -> tuple[Column, ...]:
        """The columns of a row that waits for an answer."""
        ...

    @property
    def metric_names(self) -> tuple[str, ...]:
        """What `compute_metrics` can report."""
        ...

    @property
    def default_metric(self) -> str: ...

    def check_metric(self, metric: str, labels: Sequence[str]) -> None:
        """DataError where `metric` has no meaning for these labels."""
        ...

    def label_names(self, train: "pa.Table") -> tuple[str, ...]:
        """In the order of their ids; () where a model needs none. DataError where nothing can be learnt from them."""
        ...

    def head_config(self, labels: Sequence[str]) -> dict[str, Any]:
        """Fields of the model's configuration that the head needs."""
        ...

    def encode(self, table: "pa.Table", labels: Sequence[str], tokenize: Tokenize) -> "Encoded":
        """The columns `asked`, and labels where their column is there. DataError on a label that is not in `labels`."""
        ...

    def notes(self, encoded: "Encoded") -> tuple[str, ...]:
        """What a person should know of how rows became features, such as how many were cut."""
        ...

    def collate(self, encoded: "Encoded", features: "Array", pad_id: int) -> "dict[str, Array]":
        """One batch of the model's inputs, padded; `labels` as the loss takes them, where there are any."""
        ...

    def fed(self, encoded: "Encoded", pad_id: int, share: float, seed: int) -> "Feed | None":
        """Training rows that are fed otherwise at every step, None where they stay what they are. share: of the tokens,
        those that are masked. seed: of all that is drawn."""
        ...

    def compute_metrics(self, outputs: "Array", encoded: "Encoded", labels: Sequence[str]) -> dict[str, float]:
        """All metrics over all rows, and what was `tuned` for them. NaN where an output is not finite."""
        ...

    def evidence(
        self, outputs: "Array", encoded: "Encoded", labels: Sequence[str], metric: str
    ) -> "tuple[Array, Array]":
        """(predictions (rows, ...), references (rows, ...)): all that `plain(metric)` needs of a resample of rows.
        References are the same whatever model is asked."""
        ...

    def plain(self, metric: str) -> Score:
        """The arithmetic alone, fast enough for thousands of resamples."""
        ...

    def breakdown(self, outputs: "Array", encoded: "Encoded", labels: Sequence[str]) -> "Breakdown | None":
        """The metrics of its parts, where it has some."""
        ...

    def usage(self, labels: Sequence[str]) -> "Usage":
        """How a registered model is asked."""
        ...

    def predict(self, outputs: "Array", encoded: "Encoded", labels: Sequence[str], *, all_scores: bool) -> Answers:
        """`prediction` and what belongs to it, for people."""
        ...


@runtime_checkable
class HasMistakes(Protocol):
    """What a task may have beside: rows whose answers a person can hold against the truth."""

    def mistakes(
        self, outputs: "Array", encoded: "Encoded", labels: Sequence[str], table: "pa.Table"
    ) -> "Mistakes | None":
        """The worst rows. table: the columns `asked`, of the same rows."""
        ...


@runtime_checkable
class HasClasses(Protocol):
    """What a task may have beside: one class a row, with a probability."""

    def class_outputs(self, outputs: "Array", encoded: "Encoded") -> "Array | None":
        """(rows, classes) logits, whose truth is `encoded.row_labels`; None where its settings make it something
        else."""
        ...


@runtime_checkable
class HasReasons(Protocol):
    """What a task may have beside: answers that stand on one output of one feature, so that they can be explained."""

    def reason(self, output: "Array", labels: Sequence[str]) -> tuple[int, str]:
        """Which of the outputs (values,) of a feature its answer stands on, and what that one is called."""
        ...


def described(task: BaseModel, labels: Sequence[str]) -> dict[str, Any]:
    """What is kept beside a model's weights, in JSON, so that it can be asked without its study."""
    return {"task": json.loads(task.model_dump_json()), "labels": list(labels)}


Task_ = TypeVar("Task_", bound=BaseModel)


def settled(task: Task_, values: Mapping[str, Any]) -> Task_:
    """The task, its `tuned` fields that are open taken from `values`: metrics, or another task's fields."""
    tuned: tuple[str, ...] = getattr(type(task), "tuned", ())
    found = {name: values[name] for name in tuned if getattr(task, name) is None and values.get(name) is not None}
    return task.model_copy(update=found)


def as_asked(task: Task_) -> Task_:
    """The task as people ask it: its fields `for_training`, where it has such, at their defaults."""
    fields: tuple[str, ...] = getattr(type(task), "for_training", ())
    return task.model_copy(update={name: type(task).model_fields[name].default for name in fields})
