"""How a checkpoint is packed as an MLflow model, so that `hpo.predict`, `mlflow.pyfunc` and `mlflow models serve` can
use it. Reads no weights.

A served model takes `{"inputs": ["one text", ...]}`, and for sentence pairs
`{"inputs": [{"text": "one", "text_pair": "other"}, ...]}`; it answers
`{"predictions": [{"label": ..., "score": ...}, ...]}`, where the score of a regression is its number.
"""

import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version as version_of
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic import BaseModel

from hpo.registry import files, words

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.models import ModelSignature

Example: TypeAlias = str | tuple[str, str]
"""A text, or a pair of texts."""

_PIPELINES = {"sequence-classification": "text-classification"}


def log_model(
    client: "MlflowClient",
    uri: str,
    name: str,
    pipeline: Any,
    about: str,
    run_id: str,
    task: BaseModel,
    labels: Sequence[str],
    examples: Sequence[Example],
) -> str:
    """The id of a logged model of the run. No run is opened for it, so an ended one stays as it is. about: its card."""
    from mlflow.entities import LoggedModelOutput

    described = json.loads(task.model_dump_json())
    run = client.get_run(run_id)
    model = client.create_logged_model(run.info.experiment_id, name=files.MODEL, source_run_id=run_id)
    pipeline.model.name_or_path = f"checkpoint of {name}"  # what looks like an id is looked up on the Hub
    limits = {"truncation": True, "max_length": described["max_length"]}
    with addressed(uri):
        from mlflow import transformers

        transformers.log_model(
            pipeline,
            name=files.MODEL,
            model_id=model.model_id,
            task=_PIPELINES[described["type"]],
            pip_requirements=[f"{library}=={_release(library)}" for library in ("torch", "transformers")],
            input_example=_input_example(examples),
            signature=_signature(examples),
            model_config=limits,
            model_card=words.Card(about),
            metadata={"hpo": {"task": described, "labels": list(labels)}},
        )
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 0)])
    client.finalize_logged_model(model.model_id, "READY")
    return str(model.model_id)


@contextmanager
def addressed(uri: str) -> Iterator[None]:
    """MLflow's flavours know one address per process; it is this one meanwhile. And silence: they warn of their own
    imports, and of requirements that were left out on purpose."""
    import mlflow

    before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None  # type: ignore[no-untyped-call]
    mlflow.set_tracking_uri(uri)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        mlflow.set_tracking_uri(before)  # type: ignore[arg-type]  # None forgets it, and so the types should say


def _input_example(examples: Sequence[Example]) -> Any:
    """As MLflow stores it: a list of texts, or rows with the columns text and text_pair."""
    import pandas as pd

    if isinstance(examples[0], str):
        return list(examples)
    return pd.DataFrame(examples, columns=["text", "text_pair"])


def _signature(examples: Sequence[Example]) -> "ModelSignature":
    """Texts in; the label and its probability out (for a regression, the number is the score)."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    names = [None] if isinstance(examples[0], str) else ["text", "text_pair"]
    inputs = Schema([ColSpec("string", name) for name in names])
    return ModelSignature(inputs, Schema([ColSpec("string", "label"), ColSpec("double", "score")]))


def _release(library: str) -> str:
    """The version without its build: 2.13.0 of 2.13.0+cpu, which the package index does not have."""
    return version_of(library).partition("+")[0]
