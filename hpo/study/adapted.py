"""Models that the stage `adapt` made, one for each assignment of it: how many there will be, and who needs them still.

While a study runs all of them stay: any trial may ask for any. What it removes in the end would be made again, to the
same bits, by a run that goes on and needs it.
"""

import shutil
from collections.abc import Iterable

from hpo.config import StudyConfig
from hpo.records import TrialRecord
from hpo.space import Params
from hpo.study.folder import ADAPTED
from hpo.study.trials import has_weights
from hpo.training.adapted import folder_of, key_of


def names(config: StudyConfig, assignments: Iterable[Params]) -> set[str]:
    """The folders of the models that trials with these assignments begin from; none where there is no such stage."""
    if config.stages is None:
        return set()
    keys = (key_of(str(params.get("model", config.models[0])), params) for params in assignments)
    return {folder_of(key) for key in keys if key is not None}


def prune(config: StudyConfig, records: Iterable[TrialRecord]) -> None:
    """Remove those that no trial began from whose weights are kept. For a study that is over."""
    needed = names(config, (record.params for record in records if has_weights(record)))
    for own in (config.folder / ADAPTED).glob("*"):
        if own.is_dir() and own.name not in needed:
            shutil.rmtree(own)
            own.with_name(f"{own.name}.lock").unlink(missing_ok=True)
