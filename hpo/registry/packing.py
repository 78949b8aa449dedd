"""How a checkpoint is packed as an MLflow model, so that `hpo.predict`, `mlflow.pyfunc` and `mlflow models serve` can
use it. Reads no weights.

Tasks that a pipeline of transformers answers whole are packed by MLflow's own flavour, all others with `hpo.served`.
The first kind takes `{"inputs": ["one text", ...]}`, and for sentence pairs
`{"inputs": [{"text": "one", "text_pair": "other"}, ...]}`; it answers
`{"predictions": [{"label": ..., "score": ...}, ...]}`, where the score of a regression is its number.
"""

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version as version_of
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from hpo.records import Usage
from hpo.registry import files, words

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.models import ModelSignature

Example: TypeAlias = str | tuple[str, str] | Mapping[str, Any]
"""A row as users send it: a text, a pair of texts, or columns by name."""

SERVED = Path(__file__).resolve().parents[1] / "served.py"
"""What answers for the tasks that no flavour of MLflow serves. MLflow runs it; it is not imported."""


class Asked(Protocol):
    """A task, as far as packing has to know it. max_length: beyond it, inputs are cut. pipeline: of transformers, or
    None where `served` answers."""

    @property
    def pipeline(self) -> str | None: ...

    @property
    def max_length(self) -> int: ...

    def model_dump_json(self) -> str: ...

    def usage(self, labels: Sequence[str]) -> Usage: ...


def log_model(
    client: "MlflowClient",
    uri: str,
    name: str,
    checkpoint: Path,
    pipeline: Any,
    about: str,
    run_id: str,
    task: Asked,
    labels: Sequence[str],
    examples: Sequence[Example],
    beside: Path | None = None,
) -> str:
    """The id of a logged model of the run. No run is opened for it, so an ended one stays as it is. about: its card.
    beside: a folder whose files are put in the model's."""
    from mlflow.entities import LoggedModelOutput

    described = json.loads(task.model_dump_json())
    run = client.get_run(run_id)
    model = client.create_logged_model(run.info.experiment_id, name=files.MODEL, source_run_id=run_id)
    shared = {
        "name": files.MODEL,
        "model_id": model.model_id,
        "pip_requirements": [f"{library}=={_release(library)}" for library in ("torch", "transformers")],
        "input_example": _input_example(examples),
        "signature": _signature(examples, task),
        "metadata": {"hpo": {"task": described, "labels": list(labels)}},
    }
    with addressed(uri):
        if task.pipeline is None:
            _log_served(checkpoint, shared)
        else:
            _log_pipeline(pipeline, task, name, about, shared)
    if beside is not None:
        client.log_model_artifacts(model.model_id, str(beside))
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 0)])
    client.finalize_logged_model(model.model_id, "READY")
    return str(model.model_id)


def _log_pipeline(pipeline: Any, task: Asked, name: str, about: str, shared: dict[str, Any]) -> None:
    from mlflow import transformers

    pipeline.model.name_or_path = f"checkpoint of {name}"  # what looks like an id is looked up on the Hub
    transformers.log_model(
        pipeline,
        task=task.pipeline,
        model_config={"truncation": True, "max_length": task.max_length},
        model_card=words.Card(about),
        **shared,
    )


def _log_served(checkpoint: Path, shared: dict[str, Any]) -> None:
    from mlflow import pyfunc

    pyfunc.log_model(  # type: ignore[no-untyped-call, unused-ignore]
        python_model=str(SERVED),
        artifacts={"model": str(checkpoint)},
        code_paths=[str(SERVED.parent)],
        **shared,
    )


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
    """As MLflow stores it: a list of texts, rows with the columns text and text_pair, or rows by column."""
    import pandas as pd

    if isinstance(examples[0], str):
        return list(examples)
    return pd.DataFrame(list(examples), columns=None if isinstance(examples[0], Mapping) else ["text", "text_pair"])


def _signature(examples: Sequence[Example], task: Asked) -> "ModelSignature":
    """Columns of texts, or of lists of them or of places, in. Of a pipeline the label and its probability out (for a
    regression, the number is the score); other answers have a shape of their own."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema
    from mlflow.types.schema import Array, DataType

    text = DataType.string
    kinds: dict[str | None, DataType | Array]
    if isinstance(examples[0], Mapping):
        kinds = {
            name: Array(DataType.long if all(isinstance(one, int) for one in value) else text)
            if isinstance(value, list)
            else text
            for name, value in examples[0].items()
        }
    else:
        kinds = {None: text} if isinstance(examples[0], str) else {"text": text, "text_pair": text}
    inputs = Schema([ColSpec(kind, name) for name, kind in kinds.items()])
    if task.pipeline is None:
        return ModelSignature(inputs)
    return ModelSignature(inputs, Schema([ColSpec("string", "label"), ColSpec("double", "score")]))


def _release(library: str) -> str:
    """The version without its build: 2.13.0 of 2.13.0+cpu, which the package index does not have."""
    return version_of(library).partition("+")[0]
