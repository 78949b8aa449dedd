"""A finished model as an ONNX file, and the same in 8 bits: torch exports, onnxruntime quantises and runs. Must not
know tasks; what an export needs beside PyTorch is the extra `onnx`, and is imported where it is used."""

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from hpo.encoded import Array
from hpo.errors import ModelError
from hpo.training.inference import outputs_of, to_tensors

LOGITS = "logits"


class _Positional(nn.Module):
    """What torch exports: inputs one after the other, one tensor out. Of spans the scores of first and last tokens are
    the last dimension."""

    def __init__(self, model: nn.Module, names: list[str]) -> None:
        super().__init__()
        self._model, self._names = model, names

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return outputs_of(self._model(**dict(zip(self._names, inputs, strict=True))))


class Session(nn.Module):
    """An ONNX file in the place of a model: the same inputs, the same outputs, on `threads` cores of the CPU."""

    def __init__(self, path: Path, threads: int) -> None:
        super().__init__()
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._names = {one.name for one in self._session.get_inputs()}

    def forward(self, **inputs: torch.Tensor) -> Any:
        from transformers.modeling_outputs import SequenceClassifierOutput

        given = {name: array.numpy() for name, array in inputs.items() if name in self._names}
        logits: Any = torch.from_numpy(self._session.run([LOGITS], given)[0])
        return SequenceClassifierOutput(logits=logits)


def export(model: nn.Module, example: Mapping[str, Array], path: Path) -> None:
    """Write `path`, an ONNX file of any number of rows and tokens. example: two rows or more as a task collates them,
    without labels, (rows, ..., tokens) each.

    Raises ModelError where such a model can't be exported.
    """
    tensors = to_tensors(example, torch.device("cpu"))
    names = list(tensors)
    shapes = tuple({0: "rows", array.ndim - 1: "tokens"} for array in example.values())
    try:
        with _quiet():
            torch.onnx.export(
                _Positional(model.eval(), names),
                tuple(tensors.values()),
                str(path),
                input_names=names,
                output_names=[LOGITS],
                dynamic_shapes=(shapes,),
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except (RuntimeError, ValueError, TypeError, KeyError) as error:
        said = (str(error).strip().splitlines() or [""])[0][:200]
        kind = getattr(getattr(model, "config", None), "model_type", type(model).__name__)
        raise ModelError(f"a {kind} model can't be exported ({type(error).__name__}: {said})") from error


def quantise(path: Path, target: Path) -> None:
    """Weights of 8 bits; inputs of each layer are rounded as they come (dynamic quantisation)."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with TemporaryDirectory(prefix="hpo-onnx-") as temporary, _quiet():
        bare, prepared = Path(temporary) / "bare.onnx", Path(temporary) / "prepared.onnx"
        whole: Any = onnx.load(str(path))
        del whole.graph.value_info[:]  # torch's shapes contradict those that the preparation finds
        onnx.save(whole, str(bare))
        quant_pre_process(str(bare), str(prepared), skip_symbolic_shape=True)
        quantize_dynamic(str(prepared), str(target), per_channel=True, weight_type=QuantType.QInt8)


@contextmanager
def _quiet() -> Iterator[None]:
    """torch tells of libraries for images that are not there, onnxruntime of preparations that were made."""
    loggers = [logging.getLogger(name) for name in ("", "torch.onnx", "onnxscript", "onnx_ir")]
    before = [own.level for own in loggers]
    try:
        for own in loggers:
            own.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for own, level in zip(loggers, before, strict=True):
            own.setLevel(level)
