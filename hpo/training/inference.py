"""Forward passes without gradients: logits for every row of a split, in the order of the rows."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from hpo.encoded import Array, Encoded
from hpo.errors import ModelError
from hpo.training import batches, device, masked, seq2seq
from hpo.training.pretrained import load_tokenizer, quiet, refuse_foreign_code

EVAL_TOKENS = 1_024
"""Padded tokens a batch on a CPU: enough to fill its units, and activations stay in its caches (8,192 took 1.3 times as
long over 872 sentences)."""

_GPU_EVAL_TOKENS = 32_768
"""On a GPU a batch costs its launches, some 10 ms, whatever is in it; of BERT-base it takes about 1 GB."""

Collate = Callable[[Encoded, Array], Mapping[str, Array]]
"""Rows by number -> padded arrays: input_ids, attention_mask, ..., labels."""


def logits(
    model: nn.Module,
    encoded: Encoded,
    collate: Collate,
    where: torch.device,
    *,
    bf16: bool | None = None,
    tokens: int | None = None,
    abreast: int = 1,
) -> Array:
    """(features, outputs) float32; of masked words the sums of `masked.by_row`; of a model that writes what
    `seq2seq.write` says; of a model that answers for each token
    (tokens, outputs), without padding, in the order of `input_ids.values`. The same rows give the same answer whatever
    the model did before. tokens: of a batch, padded; None: what suits the device. abreast: batches at a time on a CPU,
    each on a thread of its own, which changes no bit of an answer."""
    model.eval()
    ids = encoded.ragged["input_ids"]
    tokens = tokens or (EVAL_TOKENS if where.type == "cpu" else _GPU_EVAL_TOKENS)
    order = batches.sorted_by_length(ids.lengths, tokens)
    inputs = (to_tensors(collate(encoded, rows), where) for rows in order)
    if where.type != "cpu" or seq2seq.writes(model) or masked.takes_places(model):
        abreast = 1
    answers = [*_abreast(partial(_asked, model, where, bf16), inputs, abreast)]
    if seq2seq.writes(model):
        answers = seq2seq.as_wide(answers)
    if answers[0].ndim == 2:
        found = torch.cat(answers).cpu().numpy()  # one wait for the device
        result = np.empty((len(encoded), *found.shape[1:]), np.float32)
        result[np.concatenate(order)] = found
        return result
    by_token = np.empty((len(ids.values), answers[0].shape[-1]), np.float32)
    for block, rows in zip(answers, order, strict=True):
        for answer, row in zip(block.cpu().numpy(), rows, strict=True):
            start, stop = ids.offsets[row : row + 2]
            by_token[start:stop] = answer[: stop - start]
    return by_token


def _abreast(
    ask: Callable[[dict[str, torch.Tensor]], torch.Tensor], inputs: Iterable[dict[str, torch.Tensor]], threads: int
) -> Iterator[torch.Tensor]:
    """In order. A thread a batch, rather than all threads for one batch after the other: where other work ran on the
    same two cores, these waited for each other 2 to 4 times as long, at 3 times the processor time."""
    if threads == 1:
        yield from map(ask, inputs)
        return
    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, initializer=device.cap_threads, initargs=(1,)) as pool:
            under_way: deque[Future[torch.Tensor]] = deque()
            for own in inputs:
                under_way.append(pool.submit(ask, own))
                if len(under_way) > threads:
                    yield under_way.popleft().result()
            yield from (answer.result() for answer in under_way)
    finally:
        device.cap_threads(before)


def _asked(model: nn.Module, where: torch.device, bf16: bool | None, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    context, _ = device.autocast(where, bf16)
    labels = inputs.pop("labels", None)
    with torch.inference_mode(), context:
        return _said(model, inputs, labels)


def _said(model: nn.Module, inputs: dict[str, torch.Tensor], labels: torch.Tensor | None) -> torch.Tensor:
    if seq2seq.writes(model):
        return seq2seq.write(model, inputs, labels)
    said = outputs_of(model(**inputs)).float()
    return said if labels is None or masked.PLACES not in inputs else masked.by_row(said, labels)


def outputs_of(answer: Any) -> torch.Tensor:
    """What a head says, as one tensor: (rows, outputs) or (rows, length, outputs). Heads for spans of a text answer
    with a score of the start and one of the end for each token; those that BERT was pretrained with say two things."""
    if "logits" in answer:
        logits: torch.Tensor = answer.logits
        return logits
    if "prediction_logits" in answer:
        return masked.joined(answer.prediction_logits, answer.seq_relationship_logits)
    return torch.stack((answer.start_logits, answer.end_logits), -1)


def to_tensors(arrays: Mapping[str, Array], where: torch.device) -> dict[str, torch.Tensor]:
    return {
        name: torch.from_numpy(np.ascontiguousarray(array)).to(where, non_blocking=True)
        for name, array in arrays.items()
    }


def load(folder: Path, head: str, where: torch.device) -> nn.Module:
    """A finished model from a folder written by `save_pretrained` or by `checkpoint.write`.

    Raises ModelError where its files are damaged, are not those of such a model, or name code from elsewhere.
    """
    import transformers
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    quiet()
    refuse_foreign_code(folder)
    try:
        model: nn.Module = getattr(transformers, head).from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
        )
    except (OSError, ValueError, RuntimeError, SafetensorError, StrictDataclassError) as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        raise ModelError(
            f"{folder}: its weights can't be loaded ({said}); bring the folder back as `save_pretrained` wrote it, "
            "or name another model"
        ) from error
    if head in masked.HEADS:
        masked.attach(model)
    if head == seq2seq.HEAD:
        seq2seq.attach(model, load_tokenizer(folder).inner)
    return model.to(where).eval()


def untrained(folder: Path, head: str, settings: Mapping[str, Any], seed: int, where: torch.device) -> nn.Module:
    """A model as a trial finds it before its first step: pretrained weights, and a head of that seed."""
    from hpo.training.hyperparameters import Hyperparameters
    from hpo.training.model import Starting

    return Starting(folder, head, settings).build(Hyperparameters(), seed).to(where).eval()


def pipeline(folder: Path, pipeline_task: str) -> object:
    """A `transformers` pipeline on the CPU over such a folder, for the registry."""
    import transformers

    quiet()
    make: Callable[..., object] = transformers.pipeline  # its overloads want the task as a literal
    return make(pipeline_task, model=str(folder), tokenizer=str(folder), device="cpu")
