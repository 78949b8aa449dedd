"""A registered model that answers behind `mlflow.pyfunc` and `mlflow models serve`, where no flavour of MLflow can.

MLflow runs this file when it loads such a model; nothing imports it. It lies beside the weights, together with a copy
of this program, so that a server needs no more than torch, transformers and mlflow.
"""

from pathlib import Path

from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from hpo.answering import Model


class Served(PythonModel):
    """Rows in, a list of answers out: what is asked and answered is in the card of the registered model."""

    _skip_type_hint_validation = True  # else MLflow warns of a `predict` without hints, and takes hints for schemas

    def load_context(self, context: PythonModelContext) -> None:
        from hpo.training import pretrained

        pretrained.quiet()
        self._model = Model.open(Path(context.artifacts["model"]))

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """model_input: a DataFrame, or a list of texts or of mappings by column. Returns a list of mappings."""
        rows = model_input.to_dict("records") if hasattr(model_input, "to_dict") else model_input
        return self._model.reply(rows)


set_model(Served())
