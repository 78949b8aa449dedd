"""The training rows on the device, gathered there by their numbers, so that a step takes little else from the host.

Owns which length a batch is padded to. Must not know steps, graphs or models.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from hpo.encoded import Array, Encoded, Ragged

_GRAINS = ((64, 8), (256, 16))
"""(up to this length, a multiple of this): few enough lengths to capture each, little enough padding."""
_COARSEST = 32
_FILLED_WITH = {"token_type_ids": 0}


def padded_length(length: int) -> int:
    """The length that batches whose longest row has `length` tokens share."""
    grain = next((grain for top, grain in _GRAINS if length <= top), _COARSEST)
    return -(-length // grain) * grain


@dataclass(frozen=True)
class Resident:
    """A split on one device. columns: ragged ones as flat values (total,). offsets, lengths: (rows,) int64.

    labels: (rows,). places: (longest row,), 0, 1, 2, ... fills: what a column is padded with.
    """

    columns: Mapping[str, torch.Tensor]
    offsets: torch.Tensor
    lengths: torch.Tensor
    labels: torch.Tensor
    places: torch.Tensor
    fills: Mapping[str, int]
    host_lengths: Array

    @classmethod
    def of(cls, encoded: Encoded, pad_id: int, where: torch.device) -> "Resident | None":
        """None where the rows are not token ids with one label a row, which is one term of the loss."""
        labels, ids = encoded.flat.get("labels"), encoded.ragged.get("input_ids")
        if labels is None or ids is None or labels.ndim != 1 or not _alike(encoded.ragged, ids):
            return None
        if np.any(encoded.terms != 1):
            return None
        lengths = ids.lengths
        return cls(
            columns={name: _copy(column.values, where) for name, column in encoded.ragged.items()},
            offsets=_copy(ids.offsets[:-1], where),
            lengths=_copy(lengths, where),
            labels=_copy(labels, where),
            places=torch.arange(int(lengths.max(initial=1)), device=where),
            fills=_FILLED_WITH | {"input_ids": pad_id},
            host_lengths=lengths,
        )

    def length_for(self, rows: Array) -> int:
        """What a batch of these rows is padded to: never beyond the longest row of all, which the model takes."""
        return min(padded_length(int(self.host_lengths[rows].max())), len(self.places))

    def gather(self, rows: torch.Tensor, length: int) -> dict[str, torch.Tensor]:
        """A batch as a task's `collate` makes it, padded to `length`. rows: (n,) int64 on the device."""
        places = self.places[:length]
        inside = places < self.lengths[rows].unsqueeze(1)
        batch = {}
        for name, values in self.columns.items():
            at = (self.offsets[rows].unsqueeze(1) + places).clamp_max(len(values) - 1)
            batch[name] = values[at].long().masked_fill(~inside, self.fills[name])
        return batch | {"attention_mask": inside.long(), "labels": self.labels[rows]}

    def agrees(self, batch: Mapping[str, Array], rows: Array) -> bool:
        """Whether gathering these rows gives exactly this batch, which the task's `collate` made of them."""
        found = self.gather(torch.from_numpy(rows).to(self.labels.device), int(self.host_lengths[rows].max()))
        return found.keys() == batch.keys() and all(
            np.array_equal(batch[name], column.cpu().numpy()) for name, column in found.items()
        )


def _alike(columns: Mapping[str, Ragged], ids: Ragged) -> bool:
    """Whether all columns are known, and ragged in the same way."""
    known = {*_FILLED_WITH, "input_ids"}
    return all(name in known and np.array_equal(column.offsets, ids.offsets) for name, column in columns.items())


def _copy(values: Array, where: torch.device) -> torch.Tensor:
    """On the device; the source may be a file that is mapped read-only."""
    return torch.from_numpy(np.array(values)).to(where)
