"""The model of a trial: built from weights that are read once per process, with this trial's dropouts and head."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hpo.encoded import Array
from hpo.errors import DeadParameterError
from hpo.training import masked, seq2seq
from hpo.training.families import DROPOUTS, OF_THE_LAYERS, fields_of
from hpo.training.hyperparameters import Hyperparameters
from hpo.training.pretrained import load_tokenizer, quiet

_LAYER = re.compile(r"\.(?:layer|layers|h|block)\.(\d+)\.")
_SENTINEL = 0.123456789
_RARE = 0.1
"""A label that applies to fewer rows is rare."""

_RAREST = 1e-3
"""No label begins with a smaller share."""


@dataclass(frozen=True)
class Starting:
    """The pretrained weights of `folder`, kept in memory, for models with the class `head`.

    settings: fields of the model's configuration that the head needs.
    """

    folder: Path
    head: str
    settings: Mapping[str, Any]

    def build(self, hyper: Hyperparameters, seed: int) -> nn.Module:
        """A model on the CPU in fp32. The same seed gives the same head."""
        torch.manual_seed(seed)
        config = self._config(hyper)
        if self.head == seq2seq.HEAD:
            writer = seq2seq.build(config, self._weights)
            seq2seq.attach(writer, self._tokenizer)
            return writer
        weights = {name: part.clone() for name, part in self._weights.items()}  # the model takes them as its own
        # Attention is sdpa by default, and eager in classes that have none.
        model: nn.Module = self._class.from_pretrained(None, config=config, state_dict=weights, dtype=torch.float32)
        if self.head in masked.HEADS:
            masked.attach(model)
        return model

    def dropouts(self, field: str, hyper: Hyperparameters) -> list[str]:
        """Names of the modules whose dropout `field` sets in this model, found by setting it to an odd value."""
        config = self._config(hyper)
        _set(config, field, _SENTINEL)
        with torch.device("meta"):
            model = self._class._from_config(config)
        return [name for name, module in model.named_modules() if _SENTINEL in (_p(module), _functional(module))]

    def inert(self, names: Iterable[str]) -> dict[str, str]:
        """Those of the hyperparameters `names` that such a model does not have, and why."""
        hyper, asked = Hyperparameters(), {*names}
        config = self._config(hyper)
        kind, found = config.model_type, {}
        for name in DROPOUTS:
            if name in asked and not self.dropouts(name, hyper):
                found[name] = f"a {kind} model with this head has no module that it sets"
        if layered := asked & OF_THE_LAYERS:
            with torch.device("meta"):
                most = max(depths(self._class._from_config(config)).values()) - 1
            if most == 0:
                found |= dict.fromkeys(layered, f"the layers of a {kind} model have no weights of their own")
        return found

    @cached_property
    def _auto(self) -> Any:
        import transformers

        quiet()
        return getattr(transformers, self.head)

    @cached_property
    def _tokenizer(self) -> Any:
        return load_tokenizer(self.folder).inner

    @cached_property
    def _class(self) -> Any:
        from transformers import AutoConfig

        if self.head == seq2seq.HEAD:
            return self._auto
        config = AutoConfig.from_pretrained(self.folder, trust_remote_code=False)
        with torch.device("meta"):
            return type(self._auto.from_config(config))

    @cached_property
    def _weights(self) -> dict[str, torch.Tensor]:
        from safetensors.torch import load_file

        return load_file(self.folder / "model.safetensors")

    def _config(self, hyper: Hyperparameters) -> Any:
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(self.folder, trust_remote_code=False)
        if self.head == seq2seq.HEAD:
            config = seq2seq.config_of(config, self._tokenizer)
        for field, value in self.settings.items():
            setattr(config, field, value)
        for field in DROPOUTS:
            value = getattr(hyper, field)
            if value is None:
                continue
            if not _set(config, field, value):
                raise DeadParameterError(
                    f"{field}={value}: a {config.model_type} model has no such setting; leave it out of the space"
                )
        return config


def _set(config: Any, dropout: str, value: float) -> bool:
    """In a model's configuration, or in those of both halves; whether there is such a setting."""
    found = [(part, own) for part in seq2seq.parts_of(config) for own in fields_of(part.to_dict(), dropout)]
    for part, own in found:
        setattr(part, own, value)
    return bool(found)


def dropout_of(module: nn.Module) -> float:
    """What such a module drops at present; nothing where it was built without dropout."""
    own = _p(module)
    return float(own if own is not None else _functional(module) or 0.0)


def set_dropout(model: nn.Module, modules: Iterable[str], field: str, value: float) -> None:
    """Drop so much in these modules from now on, and say so in the configuration."""
    there: dict[str, Any] = dict(model.named_modules())
    for name in modules:
        if _p(there[name]) is not None:
            there[name].p = value
        if _functional(there[name]) is not None:
            there[name].attention_dropout = value
    _set(model.config, field, value)


def _p(module: Any) -> float | None:
    own: float | None = getattr(module, "p", None)
    return own


def _functional(module: Any) -> float | None:
    """What attention drops without a module of its own (ModernBERT)."""
    own = getattr(module, "attention_dropout", None)
    return own if isinstance(own, int | float) else None


def layer_of(name: str) -> int | None:
    """The index of the encoder layer that a parameter belongs to, or None outside of the layers."""
    found = _LAYER.search(f".{name}")
    return int(found[1]) if found else None


def depths(model: nn.Module) -> Mapping[str, int]:
    """Depth of every parameter by name: embeddings 0, encoder layer i at i + 1, all above it at layers + 1."""
    names = [name for name, _ in model.named_parameters()]
    top = max((layer for name in names if (layer := layer_of(name)) is not None), default=-1) + 2
    result = {}
    for name in names:
        layer = layer_of(name)
        result[name] = layer + 1 if layer is not None else 0 if "embeddings" in name else top
    return result


def freeze(model: nn.Module, layers: int) -> None:
    """Keep the embeddings and the first `layers` encoder layers as they are; 0 freezes nothing."""
    if layers == 0:
        return
    depth = depths(model)
    count = max(depth.values()) - 1
    if layers > count:
        raise DeadParameterError(f"frozen_layers={layers}: the model has {count} layers; lower it")
    for name, parameter in model.named_parameters():
        if depth[name] <= layers:
            parameter.requires_grad = False


@torch.no_grad()
def begin_with_shares(model: nn.Module, shares: Array) -> None:
    """Let a head that says yes or no to each label begin, for rare ones, with how often they apply. shares: (labels,),
    of rows.

    From 0.5 for labels that are all rare, the first hundreds of steps go into saying no to all of them, and a small
    model forgets in them what it knew (Lin et al., ICCV 2017, 4.1, "prior"). For common labels it does no good
    (benchmarks/LOG.md). A head without such a layer stays.
    """
    outputs = [part for part in model.modules() if isinstance(part, nn.Linear) and part.out_features == len(shares)]
    if outputs and (bias := outputs[-1].bias) is not None:
        found = torch.from_numpy(shares)
        bias.copy_(torch.where(found < _RARE, torch.logit(found.clamp_min(_RAREST)), bias))
