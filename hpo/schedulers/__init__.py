"""Schedulers: continue, stop or exploit, decided from the reports of all trials. Pure: no Ray, no clock, no disk.

A scheduler sees (trial, level, value) and answers. Its state is nothing but what was reported, so it is rebuilt from
the ledger by replaying it. One config class each, with `fractions` and `build`; named in the union below.
"""

from typing import Annotated, TypeAlias

from pydantic import Field

from hpo.schedulers.asha import AshaConfig
from hpo.schedulers.base import Levels, Resource, Scheduler, SchedulerConfig
from hpo.schedulers.fifo import FifoConfig
from hpo.schedulers.hyperband import HyperbandConfig
from hpo.schedulers.median import MedianConfig
from hpo.schedulers.pbt import PbtConfig

__all__ = [
    "AshaConfig",
    "FifoConfig",
    "HyperbandConfig",
    "Levels",
    "MedianConfig",
    "PbtConfig",
    "Resource",
    "Scheduler",
    "SchedulerConfig",
    "SchedulerUnion",
]

SchedulerUnion: TypeAlias = Annotated[
    FifoConfig | AshaConfig | HyperbandConfig | MedianConfig | PbtConfig, Field(discriminator="type")
]
