"""Samplers: who proposes params. One frozen config class and one file each; `build` makes the Optuna sampler.

Optuna is imported by `build` alone. A sampler is built anew for every trial: what it proposes follows from the study's
seed, the trial's number and the ledger, and from nothing else. With one trial at a time, a study that was killed and
goes on proposes what it would have proposed without.
"""

from typing import Annotated, TypeAlias

from pydantic import Field

from hpo.samplers.base import SamplerConfig
from hpo.samplers.cmaes import CmaesConfig
from hpo.samplers.gp import GpConfig
from hpo.samplers.grid import GridConfig
from hpo.samplers.nsga2 import Nsga2Config
from hpo.samplers.qmc import QmcConfig
from hpo.samplers.random import RandomConfig
from hpo.samplers.tpe import TpeConfig

__all__ = [
    "CmaesConfig",
    "GpConfig",
    "GridConfig",
    "Nsga2Config",
    "QmcConfig",
    "RandomConfig",
    "Sampler",
    "SamplerConfig",
    "TpeConfig",
]

Sampler: TypeAlias = Annotated[
    RandomConfig | GridConfig | TpeConfig | GpConfig | CmaesConfig | QmcConfig | Nsga2Config,
    Field(discriminator="type"),
]
