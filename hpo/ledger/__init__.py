"""The ledger: a study's Optuna storage, and the one truth about its trials.

    book.py      Ledger: ask, tell, read back
    entries.py   one Optuna trial <-> one TrialRecord
    proposals.py  those of a sampler that are not trained
    fit.py, generations.py   a space that changes: what still fits, and all trials written anew
    past.py      ledgers that are only read
    seeds.py     the runs over fresh seeds
    storage.py   the database, and its errors in our words

What it proposes follows from the study's seed and what it holds, so a study that was killed goes on as if it had not
been. Must not know who runs trials or who else is told.
"""

from hpo.ledger.book import BuildsSampler, Ledger
from hpo.ledger.entries import PARTS, part_of
from hpo.ledger.storage import CHECKPOINTS

__all__ = ["CHECKPOINTS", "PARTS", "BuildsSampler", "Ledger", "part_of"]
