"""The database under the ledger: how it is opened, and what its errors mean."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo.errors import ServiceError

if TYPE_CHECKING:
    import optuna


LEDGER = "ledger.db"
"""In the study's folder."""

CHECKPOINTS = "checkpoints"
"""Beside the ledger, which keeps names and no paths: a study's folder may be moved."""


def open_storage(path: Path | None) -> "optuna.storages.BaseStorage":
    """SQLite with a write-ahead log: a commit costs a fifth of the default's, and a reader blocks no writer.

    None: a ledger that lasts as long as the process, at a tenth of the cost.
    """
    import optuna
    import sqlalchemy

    if path is None:
        return optuna.storages.InMemoryStorage()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
        connection.close()
        storage = optuna.storages.RDBStorage(f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": 60}})
    except (OSError, sqlite3.Error, sqlalchemy.exc.SQLAlchemyError) as error:
        raise ServiceError(f"storage: the ledger {path} can't be opened ({error}); check the disk") from error
    storage.engine.dispose()

    @sqlalchemy.event.listens_for(storage.engine, "connect")
    def relax(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA synchronous=NORMAL")

    return storage


def is_unfinished(path: Path) -> bool:
    """Whether a driver was killed while it made this database; the next one will finish it."""
    try:
        with closing(sqlite3.connect(path)) as connection:
            return not connection.execute("select 1 from sqlite_master where name = 'alembic_version'").fetchall()
    except sqlite3.Error:  # no database at all: whoever opens it says so
        return False


def damage(path: Path) -> str | None:
    """What SQLite finds wrong with the pages of a ledger that no driver holds; None where it is whole, or not there."""
    if not path.is_file():
        return None
    try:
        with closing(sqlite3.connect(path)) as connection:
            said = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(3)")]
    except sqlite3.Error as error:
        return f"{path.name}: {error}"
    return None if said == ["ok"] else f"{path.name}: {' '.join(said[0].split())}"


@contextmanager
def translated() -> Iterator[None]:
    """A database that can't be read or written is a service that is not there."""
    import optuna
    import sqlalchemy

    try:
        yield
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError, OSError) as error:
        said = (str(error.__cause__ or error).splitlines() or [type(error).__name__])[0]
        raise ServiceError(
            f"storage: the ledger can't be written or read ({said}); look at the disk, then go on with --resume"
        ) from error
