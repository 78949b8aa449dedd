"""Tasks: how rows become model inputs, and outputs become metrics. One file each, named in the union below.

Numpy, never torch. Importing this room is light: what is heavy is imported by the functions that need it.

    contract.py     what every task says of itself, with shapes
    reading.py      what tasks share
    long_texts.py   what is read of texts that are too long
    metrics.py      metrics of one value a row, and how any metric goes through `evaluate`
    whole_words.py  texts as tokens that know their words
    next_sentence.py  the second half of a text, or that of another one
    entities.py     entities of tags, and their metrics
    labelling.py    metrics of many labels a row
    relations.py    metrics of relations where one class says that there is none
    classes.py      where a classifier goes wrong, and whether its probabilities can be believed
    mistakes.py     the rows that are answered worst, for people to read
    calibration.py  the temperature that mends probabilities
    writing.py      how near a written text comes to the right one
    squad.py        the best answer of many windows, and how answers are scored
"""

from typing import Annotated, TypeAlias

from pydantic import Field

from hpo.tasks.contract import TaskContract, as_asked, described, settled
from hpo.tasks.masked_lm import MaskedLm
from hpo.tasks.multi_label import MultiLabel
from hpo.tasks.multiple_choice import MultipleChoice
from hpo.tasks.question_answering import QuestionAnswering
from hpo.tasks.relation_classification import RelationClassification
from hpo.tasks.sequence_classification import SequenceClassification
from hpo.tasks.sequence_to_sequence import SequenceToSequence
from hpo.tasks.token_classification import TokenClassification

Task: TypeAlias = Annotated[
    SequenceClassification
    | MultiLabel
    | TokenClassification
    | QuestionAnswering
    | MultipleChoice
    | RelationClassification
    | MaskedLm
    | SequenceToSequence,
    Field(discriminator="type"),
]

__all__ = [
    "MaskedLm",
    "MultiLabel",
    "MultipleChoice",
    "QuestionAnswering",
    "RelationClassification",
    "SequenceClassification",
    "SequenceToSequence",
    "Task",
    "TaskContract",
    "TokenClassification",
    "as_asked",
    "described",
    "settled",
]
