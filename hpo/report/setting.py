"""What ran: the study's names and versions, its data, its space file. A section of the report, from its background."""

import platform
from importlib.metadata import version

from hpo.report.findings import Background
from hpo.report.parts import Cell, Line, Section, Table

STACK = ("torch", "transformers", "datasets", "optuna", "ray", "mlflow")
"""What a result depends on."""


def set_up(background: Background) -> Section | None:
    """None where nothing of it is known."""
    facts = {**background.params, **{name.removeprefix("hpo."): value for name, value in background.tags.items()}}
    if facts:
        facts |= {"python": platform.python_version(), **{name: version(name) for name in STACK}}
    rows = tuple(Line((Cell(name), Cell(str(value)))) for name, value in facts.items())
    tables = [Table("What ran", ("what", "value"), rows)] if rows else []
    if background.datasets:
        lines = tuple(
            Line((Cell(own.split), Cell(f"{own.rows:,}", own.rows), Cell(own.source), Cell(own.digest)))
            for own in background.datasets
        )
        tables.append(Table("Data", ("split", "rows", "source", "sha256"), lines))
    listings = (("The resolved space file", background.document),) if background.document else ()
    return Section("setup", "Set-up", tables=tuple(tables), listings=listings) if tables or listings else None
