"""What a task reads in a row: columns, each with a kind, and what has to hold between them.

Tasks say it, data checks it. Must not know any of them.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    import pyarrow as pa

Kind: TypeAlias = Literal["text", "texts", "words", "class", "number", "classes", "spans", "places"]
"""text: one text. texts: a list of them. words: a list of texts, or one text that the task splits. class: one name.
number: a finite one. classes: a list of names. spans: pieces of another text, {text: [...], answer_start: [...]}.
places: one piece of another text, its first character and the one behind its last, [0, 3]."""

Target: TypeAlias = Literal["class", "number", "classes", "span", "masked", "text"]
"""What a loss compares. class: one of the values of each output, with IGNORED where none counts. number: the output
itself. classes: each value by itself, yes or no. span: a first and a last token. masked: the tokens that were masked,
whose outputs are summed up by row. text: the tokens of another text, which the model writes."""

IGNORED = -100
"""The label of an output that counts for nothing: torch's own."""

Fault: TypeAlias = tuple[int, str]
"""The first row that is not as it must be, and what is wrong with it and what to do, in words."""


@dataclass(frozen=True, slots=True)
class Column:
    """separator: of classes that may also be written as one text, such as `joy,anger`."""

    name: str
    kind: Kind
    separator: str | None = None


def _nothing(table: "pa.Table") -> Fault | None:
    return None


def _no_names(value: Any) -> Collection[str]:
    return ()


@dataclass(frozen=True, slots=True)
class Layout:
    """inputs: what a model is given. label: what it has to find. Between columns that are each right by themselves,
    asked_fault: what is wrong with inputs, of a row that waits for an answer as well; fault: what is wrong with the
    label beside them. names: the classes that a label stands for. allowed: all that there may be; where it is empty,
    those of the training rows."""

    inputs: tuple[Column, ...]
    label: Column
    asked_fault: "Callable[[pa.Table], Fault | None]" = _nothing
    fault: "Callable[[pa.Table], Fault | None]" = _nothing
    names: Callable[[Any], Collection[str]] = _no_names
    allowed: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[Column, ...]:
        """None twice: a text may be its own label."""
        return tuple(dict.fromkeys((*self.inputs, self.label)))

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.all)
