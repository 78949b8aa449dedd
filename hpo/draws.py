"""What is drawn, for those who draw it and those who write it down: Optuna's word for a parameter's values, and the
seed that follows from what a draw is for. Pure. Imports Optuna where it is asked for its word alone."""

import hashlib
import json
from typing import TYPE_CHECKING

from hpo.space import Choice, FloatRange, IntRange, Varying

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


def distribution_of(own: Varying) -> "BaseDistribution":
    """The same whoever asks: Optuna holds a parameter to it for the life of a study."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    match own:
        case Choice():
            return CategoricalDistribution(own.values)
        case IntRange():
            return IntDistribution(own.low, own.high, log=own.log, step=own.step)
        case FloatRange():
            return FloatDistribution(own.low, own.high, log=own.log, step=own.step)


def hashed(*parts: int | str) -> int:
    """31 bits that depend on all parts and on nothing else."""
    digest = hashlib.sha256(json.dumps(parts).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
