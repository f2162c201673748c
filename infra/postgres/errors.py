"""Which of the database's errors pass by themselves; all others are defects and travel on unchanged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import sqlalchemy.exc
from procrastinate.exceptions import ConnectorException

from app.errors import TransientError

AT_WORK = "runs_at_work"


class DatabaseAwayError(TransientError):
    """PostgreSQL cannot be reached or gave up on a transaction; the step is tried again."""


# A server that was demoted to a standby takes no writes, and so does one whose disk is full or that an operator has set so:
# https://www.postgresql.org/docs/18/errcodes-appendix.html. The others end a transaction that was held up for too long.
_PASSING = (
    psycopg.errors.ReadOnlySqlTransaction,
    psycopg.errors.IdleInTransactionSessionTimeout,
    psycopg.errors.TransactionTimeout,
)


def is_transient(error: BaseException | None) -> bool:
    """A lost or refused connection, a full pool, a deadlock, a server that does not write now, a lost race for the one place
    at work on a subject."""
    if isinstance(error, sqlalchemy.exc.TimeoutError):
        return True
    if isinstance(error, sqlalchemy.exc.DBAPIError):
        return error.connection_invalidated or is_transient(error.orig)
    if isinstance(error, ConnectorException):
        return is_transient(error.__cause__)
    if isinstance(error, psycopg.errors.UniqueViolation):
        return error.diag.constraint_name == AT_WORK
    if type(error) is psycopg.DatabaseError and error.sqlstate is None:
        return True  # not the server's words but libpq's, of a connection that it lost
    return isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError, ConnectionError, *_PASSING))


def is_read_only(error: BaseException | None) -> bool:
    """The connection leads to a server that does not write: another connection may lead to one that does."""
    if isinstance(error, sqlalchemy.exc.DBAPIError):
        return is_read_only(error.orig)
    if isinstance(error, ConnectorException):
        return is_read_only(error.__cause__)
    return isinstance(error, psycopg.errors.ReadOnlySqlTransaction)


@contextmanager
def translated() -> Iterator[None]:
    """Raise DatabaseAwayError in place of what passes by itself; its cause is kept out, since it may quote values."""
    try:
        yield
    except (sqlalchemy.exc.SQLAlchemyError, psycopg.Error, ConnectorException, ConnectionError) as error:
        if is_transient(error):
            raise DatabaseAwayError(reason="database_away") from None
        raise
