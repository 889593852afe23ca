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
        raise NoDatabase(
            f"no connection to PostgreSQL at {place}: {str(error).strip().splitlines()[0]}.",
            next_step="start it (`make up` starts the embedded one) or correct DATABASE_URL in .env",
            place=place,
        ) from error


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
