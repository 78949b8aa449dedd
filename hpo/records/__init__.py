"""What crosses the borders between rooms: trials, reports, and the events that trackers are fed.

    trials.py    a trial, from its configuration to its record
    failure.py   how a trial can fail
    events.py    what trackers are told
    review.py    the winner's answers on the test rows, looked at closely
    outcome.py   test, decision, summary

Everything here is frozen and turns into JSON and back. Must not know who makes or reads it.
"""

from hpo.records.events import (
    AnyEvent,
    DatasetRecord,
    Event,
    StudyFinished,
    StudyStarted,
    StudyStopped,
    TrialConfirmed,
    TrialDropped,
    TrialFinished,
    TrialNoted,
    TrialReported,
    TrialStarted,
)
from hpo.records.failure import Failure, FailureKind
from hpo.records.outcome import Answers, Breakdown, Decision, Difference, Origin, StudySummary, Usage
from hpo.records.review import (
    Bin,
    Confusion,
    Explained,
    Mistake,
    Mistakes,
    Piece,
    Reliability,
    Review,
)
from hpo.records.trials import (
    AGAIN,
    BASELINE,
    Answered,
    Confirmed,
    Exploit,
    Exploited,
    Objective,
    Record,
    Report,
    Seeds,
    TrialConfig,
    TrialRecord,
    TrialState,
    Verdict,
    is_owed,
    name_of,
)

__all__ = [
    "AGAIN",
    "BASELINE",
    "Answered",
    "Answers",
    "AnyEvent",
    "Bin",
    "Breakdown",
    "Confirmed",
    "Confusion",
    "DatasetRecord",
    "Decision",
    "Difference",
    "Event",
    "Explained",
    "Exploit",
    "Exploited",
    "Failure",
    "FailureKind",
    "Mistake",
    "Mistakes",
    "Objective",
    "Origin",
    "Piece",
    "Record",
    "Reliability",
    "Report",
    "Review",
    "Seeds",
    "StudyFinished",
    "StudyStarted",
    "StudyStopped",
    "StudySummary",
    "TrialConfig",
    "TrialConfirmed",
    "TrialDropped",
    "TrialFinished",
    "TrialNoted",
    "TrialRecord",
    "TrialReported",
    "TrialStarted",
    "TrialState",
    "Usage",
    "Verdict",
    "is_owed",
    "name_of",
]
