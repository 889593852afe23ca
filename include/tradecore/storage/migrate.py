"""Numbered migrations, each applied once, safe when two processes start it together."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg

from tradecore.errors import SchemaTooNew
from tradecore.storage import rollups
from tradecore.storage.connection import SCHEMA

FOLDER = Path(__file__).parent / "migrations"
_FILE = re.compile(r"^(\d{4})_\w+(\.timescaledb)?\.sql$")
_LOCK = 7_240_001


def migrations() -> list[tuple[int, Path, bool]]:
    """Return (number, file, only with TimescaleDB) in order."""
    found = [(int(m[1]), path, bool(m[2])) for path in FOLDER.iterdir() if (m := _FILE.match(path.name))]
    return sorted(found)


def has_timescaledb(conn: psycopg.Connection) -> bool:
    """Tell whether the extension is installed in this database."""
    return conn.execute("SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'").fetchone() is not None


def upgrade(conn: psycopg.Connection) -> list[str]:
    """Apply what is missing and return the names of the files applied; an empty list when all is there.

    A TimescaleDB migration on a plain server is left for the day the extension appears. Coarser bars are made as the
    server has them, and filled. Raises SchemaTooNew.
    """
    applied: list[str] = []
    with conn.transaction():
        conn.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        conn.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
        conn.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations (number integer PRIMARY KEY, name text NOT NULL,"
            " applied_at timestamptz NOT NULL DEFAULT now())"
        )
        _offer_timescaledb(conn)
        done = check_not_newer(conn)
        with_timescaledb = has_timescaledb(conn)
        for number, path, needs_timescaledb in migrations():
            if number in done or (needs_timescaledb and not with_timescaledb):
                continue
            conn.execute(path.read_text(encoding="utf-8"))
            conn.execute("INSERT INTO schema_migrations (number, name) VALUES (%s, %s)", (number, path.name))
            applied.append(path.name)
        if rollups.ensure(conn):
            rollups.refresh_all(conn, rollups.BARS)
            rollups.refresh_all(conn, rollups.MINUTE_BARS)
    conn.commit()
    rollups.catch_up(conn)
    return applied


def check_not_newer(conn: psycopg.Connection) -> set[int]:
    """Return the numbers applied. Raises SchemaTooNew when the database knows one that this release does not."""
    done = {int(row[0]) for row in conn.execute("SELECT number FROM schema_migrations").fetchall()}
    newest = migrations()[-1][0]
    if done and max(done) > newest:
        raise SchemaTooNew(
            f"the database has migration {max(done)}, this release knows up to {newest}.",
            next_step="update this installation, or restore a backup made with it",
            database=max(done),
            release=newest,
        )
    return done


def is_new(conn: psycopg.Connection) -> bool:
    """Tell whether this database has never had a migration."""
    return conn.execute("SELECT to_regclass('schema_migrations')").fetchone() == (None,)


def pending(conn: psycopg.Connection) -> list[str]:
    """Return the names of migrations that `upgrade` would apply; raises SchemaTooNew like it."""
    if is_new(conn):
        return [path.name for _, path, _ in migrations()]
    done, with_timescaledb = check_not_newer(conn), has_timescaledb(conn)
    return [path.name for number, path, tsdb in migrations() if number not in done and (with_timescaledb or not tsdb)]


def _offer_timescaledb(conn: psycopg.Connection) -> None:
    """Create the extension where the server has it and this role may; a plain server goes on without."""
    available = conn.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'timescaledb'").fetchone()
    # shown to privileged roles only: without it an ordinary one leaves the extension to the server's owner
    preloaded = conn.execute("SELECT setting FROM pg_settings WHERE name = 'shared_preload_libraries'").fetchone()
    if available and preloaded and "timescaledb" in str(preloaded[0]) and not has_timescaledb(conn):
        try:
            with conn.transaction():
                conn.execute("CREATE EXTENSION timescaledb SCHEMA public")
        except psycopg.errors.InsufficientPrivilege:
            return
