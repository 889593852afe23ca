"""Fixtures that every room shares: a PostgreSQL, and in it a fresh migrated database for each test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from tradecore.storage import embedded, migrate
from tradecore.storage.connection import connect

REPO = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def database_server() -> str:
    """URL of the server to test on: DATABASE_URL, else the project's embedded one (started if need be)."""
    return os.environ.get("DATABASE_URL") or embedded.ensure(REPO)


@pytest.fixture
def empty_database_url(database_server: str) -> Iterator[str]:
    """URL of a new database without tables, dropped afterwards."""
    name = f"test_{uuid4().hex[:12]}"
    with psycopg.connect(database_server, autocommit=True) as server:
        server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        yield urlunsplit(urlsplit(database_server)._replace(path=f"/{name}"))
        server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def database_url(empty_database_url: str) -> str:
    """URL of a new database with the current schema and no rows."""
    with connect(empty_database_url) as conn:
        migrate.upgrade(conn)
    return empty_database_url


@pytest.fixture
def conn(database_url: str) -> Iterator[psycopg.Connection]:
    """A connection to that database, prepared as tradecore's are; what a test leaves open is rolled back."""
    connection = connect(database_url)
    try:
        yield connection
    finally:
        connection.close()
