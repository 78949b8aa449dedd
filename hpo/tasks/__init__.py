"""Tasks: how rows become model inputs, and outputs become metrics. One file each, named in the union below.

Numpy, never torch. Importing this room is light: what is heavy is imported by the functions that need it.
"""

from typing import Annotated, TypeAlias

from pydantic import Field

from hpo.tasks.sequence_classification import SequenceClassification

Task: TypeAlias = Annotated[SequenceClassification, Field(discriminator="type")]

__all__ = ["SequenceClassification", "Task"]
