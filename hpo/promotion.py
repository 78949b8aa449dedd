"""Promotion: whether a challenger may take the champion's place, decided from what both say on the same test rows.

Pure: answers in, Decision out. Must not know MLflow, models or files. numpy and scipy are imported where they count.
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class PromotionConfig(BaseModel):
    """The gate. model: the name in the registry. min_improvement: in the metric's own unit, to be exceeded.

    confidence: how sure the test must be that the challenger is better (0.95: p below 0.05); None asks no test.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Annotated[str, Field(min_length=1, pattern=r"^[^/:]+$")]
    min_improvement: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 0.0
    confidence: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
