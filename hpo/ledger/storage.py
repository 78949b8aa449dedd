"""The database under the ledger, a file of SQLite or a server's: how it is opened, and what its errors mean."""

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

SERVER: dict[str, Any] = {"pool_pre_ping": True, "connect_args": {"connect_timeout": 10}}
"""For the engine of a server: connections that a restart of it has broken are made anew."""

CHECKPOINTS = "checkpoints"
"""Beside the ledger, which keeps names and no paths: a study's folder may be moved."""


def open_storage(place: Path | str | None) -> "optuna.storages.BaseStorage":
    """For whoever alone writes to its studies.

    A file: SQLite with a write-ahead log: a commit costs a fifth of the default's, and a reader blocks no writer. A
    URL: PostgreSQL. None: a ledger that lasts as long as the process, at a tenth of the cost. Raises ServiceError.
    """
    import optuna
    import sqlalchemy

    from hpo.ledger.known import Known

    if place is None:
        return optuna.storages.InMemoryStorage()
    if isinstance(place, str):
        with translated(place):
            return Known(optuna.storages.RDBStorage(place, engine_kwargs=SERVER))
    path = place
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

    return Known(storage)


def is_made(url: str) -> bool:
    """Whether a server's database has the tables of ledgers. ServiceError where it does not answer."""
    with translated(url):
        import sqlalchemy

        engine = sqlalchemy.create_engine(url, **SERVER)
        try:
            return sqlalchemy.inspect(engine).has_table("studies")
        finally:
            engine.dispose()


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
def translated(url: str | None = None) -> Iterator[None]:
    """A database that can't be read or written is a service that is not there. url: of a server that is asked for the
    first time."""
    import optuna
    import sqlalchemy

    meant: list[type[Exception]] = [sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError, OSError]
    if url is not None:
        meant += [ImportError, RuntimeError]  # no driver; the tables of another program, such as MLflow's
    try:
        yield
    except tuple(meant) as error:
        said = (str(error.__cause__ or error).splitlines() or [type(error).__name__])[0]
        if url is not None:
            raise ServiceError(
                f"ledger: {url} can't be opened ({said}); check that the server is up, that the database is the "
                "ledger's alone, that its driver is installed (the extra `postgres`), and that PGPASSWORD or "
                "PGPASSFILE holds the password"
            ) from error
        raise ServiceError(
            f"storage: the ledger can't be written or read ({said}); look at the disk or the database server, "
            "then go on with --resume"
        ) from error
