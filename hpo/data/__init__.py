"""Where rows come from: the Hub, files, or docstrings; how they are split, checked and kept.

Only the config classes are exported here, so that a space file is read without a heavy import. `load` is in
`hpo.data.loading`, `encode_splits` in `hpo.data.cache`. Must not know tasks, models or trials.
"""

from hpo.data.config import Cut, DataConfig, Files, Limit, SplitNames

__all__ = ["Cut", "DataConfig", "Files", "Limit", "SplitNames"]
