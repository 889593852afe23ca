"""Connections: made here from a URL, or prepared here when Airflow's hook made them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from tradecore.errors import NoDatabase

Connection = psycopg.Connection[tuple[object, ...]]
SCHEMA = "tradecore"


def connect(url: str, *, timeout_s: int = 10) -> psycopg.Connection:
    """Open a connection to the database of that URL, prepared for tradecore.

    Raises NoDatabase, without the URL's password, when none can be made.
    """
    plain = url.replace("postgresql+psycopg2://", "postgresql://").replace("postgresql+psycopg://", "postgresql://")
    try:
        return prepare(psycopg.connect(plain, connect_timeout=timeout_s, application_name="tradecore"))
    except psycopg.OperationalError as error:
        where = psycopg.conninfo.conninfo_to_dict(plain)
        place = f"{where.get('host', 'localhost')}:{where.get('port', 5432)}/{where.get('dbname', '')}"
        said = str(error).strip().splitlines()[0].removeprefix("connection failed: ")
        raise NoDatabase(
            f"no connection to PostgreSQL at {place}: {said}.", next_step=_next_step(said), place=place
        ) from error


def _next_step(said: str) -> str:
    """Return what helps against the server's answer to a refused connection."""
    if "password authentication failed" in said or ("role" in said and "does not exist" in said):
        return "correct user and password: DATABASE_URL, or DB_USER and DB_PASSWORD, in .env"
    if "does not exist" in said:
        return "create that database (createdb), or correct DATABASE_URL or DB_NAME in .env"
    return "start it (`make up` starts the embedded one), or correct DATABASE_URL or DB_HOST and DB_PORT in .env"


def prepare(conn: psycopg.Connection) -> psycopg.Connection:
    """Set what every session of ours relies on: our schema first, UTC, transactions by hand."""
    conn.autocommit = False
    conn.execute(f"SET search_path TO {SCHEMA}, public; SET timezone TO 'UTC'")
    conn.commit()
    return conn


@contextmanager
def book_lock(conn: psycopg.Connection, book: str) -> Iterator[None]:
    """Hold the book's advisory lock for the transaction: one writer per book, whoever started it."""
    conn.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 7))", (f"tradecore:{book}",))
    yield
