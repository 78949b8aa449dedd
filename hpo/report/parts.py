"""What pages are made of: sections with words, figures and tables. Values only; both renderings read them."""

from collections.abc import Mapping
from dataclasses import dataclass

from hpo.records import Breakdown, Piece
from hpo.report import words
from hpo.report.look import Figure
from hpo.space import Scalar


@dataclass(frozen=True, slots=True)
class Chart:
    """name: unique on the page. alt: what the figure shows, for who cannot see it. said: the same as sentences, for a
    page without figures; empty where words, a table or a picture beside it say it already."""

    name: str
    figure: Figure
    caption: str
    alt: str
    said: str = ""

    @property
    def height(self) -> int:
        return int(self.figure.layout.height)


@dataclass(frozen=True, slots=True)
class Cell:
    """text: as shown. number: what it is sorted by, where it is a number."""

    text: str
    number: float | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """mark: `winner`, or the trial's state, which it is shown by; empty for none."""

    cells: tuple[Cell, ...]
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    title: str
    heads: tuple[str, ...]
    rows: tuple[Line, ...]
    sortable: bool = False

    def is_number(self, column: int) -> bool:
        """Whether a column holds numbers, or nothing."""
        cells = [row.cells[column] for row in self.rows]
        return any(cell.number is not None for cell in cells) and all(
            cell.number is not None or not cell.text.strip("-") for cell in cells
        )


@dataclass(frozen=True, slots=True)
class Shaded:
    """A text whose tokens are coloured by their weights: those above zero one way, the others another way."""

    title: str
    note: str
    pieces: tuple[Piece, ...]

    def strength(self, piece: Piece) -> int:
        """In percent of the heaviest one."""
        most = max((abs(own.weight) for own in self.pieces), default=0.0)
        return round(100 * abs(piece.weight) / most) if most else 0

    def heaviest(self, sign: int, most: int = 5) -> str:
        """`good +1.20, film +0.31`: the words that weigh most to one side."""
        own = sorted((piece for piece in self.pieces if sign * piece.weight > 0), key=lambda one: -abs(one.weight))
        return ", ".join(f"{piece.text} {piece.weight:+.2f}" for piece in own[:most] if piece.text) or "none"


@dataclass(frozen=True, slots=True)
class Section:
    anchor: str
    title: str
    paragraphs: tuple[str, ...] = ()
    points: tuple[str, ...] = ()
    charts: tuple[Chart, ...] = ()
    tables: tuple[Table, ...] = ()
    shaded: tuple[Shaded, ...] = ()
    listings: tuple[tuple[str, str], ...] = ()


def param_cell(params: Mapping[str, Scalar], name: str) -> Cell:
    if name not in params:
        return Cell("")
    value = params[name]
    number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
    return Cell(words.short_value(value, 3), number)


def number_cell(value: float | None, form: str, scale: float = 1.0) -> Cell:
    return Cell("") if value is None else Cell(form.format(value * scale), value)


def breakdown_table(parts: Breakdown) -> Table:
    rows = tuple(Line(tuple(_figure_cell(value) for value in row)) for row in parts.rows)
    return Table(f"{parts.title}, on the test split", parts.heads, rows, sortable=True)


def _figure_cell(value: str | int | float) -> Cell:
    if isinstance(value, str):
        return Cell(value)
    return Cell(f"{value:,}" if isinstance(value, int) else words.metric_value(value), value)
