"""What every sampler's configuration has in common."""

from pydantic import BaseModel, ConfigDict


class SamplerConfig(BaseModel):
    """Each has `build(space, study_seed, trial_seed) -> BaseSampler`, called anew for every trial.

    study_seed: the same for all trials of a study. trial_seed: its own for each trial number. What the sampler proposes
    follows from them, from the trial's number and from the ledger, and from nothing else.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
