"""Fixtures that every room shares: a PostgreSQL, and in it a fresh migrated database for each test.

`make test` spreads the tests over processes (pytest-xdist): what they share is one server, where each test has a
database with a name of its own, and numba's cache, which one process at a time may write (shared_machine.py).

--database=plain (default) tests on DATABASE_URL, else on the embedded PostgreSQL; timescale on TimescaleDB
(tests/timescaledb_server.py); both on one after the other. The summary says which servers it really was.
"""

from __future__ import annotations

import gc
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

import shared_machine
import timescaledb_server
from private_apt import Unavailable
from tradecore.storage import embedded, migrate
from tradecore.storage.connection import connect

REPO = Path(__file__).resolve().parents[1]
PLAIN, TIMESCALE = "plain", "timescale"
SERVERS = {PLAIN: (PLAIN,), TIMESCALE: (TIMESCALE,), "both": (PLAIN, TIMESCALE)}
SEEN: pytest.StashKey[Counter[str]] = pytest.StashKey()
ABSENT: pytest.StashKey[list[str]] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--database", choices=sorted(SERVERS), default=PLAIN, help="where tests that use a database run (plain)"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[SEEN], config.stash[ABSENT] = Counter(), []
    if hasattr(config, "workerinput"):
        shared_machine.one_writer_of_numbas_cache()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Answer `-n auto`: how many processes this machine has cores and memory for."""
    return shared_machine.workers()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In a worker: hand over what the summary is made of."""
    if hasattr(session.config, "workeroutput"):
        found = {"seen": dict(session.config.stash[SEEN]), "absent": session.config.stash[ABSENT]}
        session.config.workeroutput["databases"] = found
        # pytest collects garbage five times before it goes, through all of Airflow and pandas; the controller waits 5 s
        # for that and then interrupts, which prints a traceback. Nobody hears any more what would be found.
        gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what a worker handed over; one that crashed has nothing."""
    found = getattr(node, "workeroutput", {}).get("databases", {"seen": {}, "absent": []})
    node.config.stash[SEEN].update(found["seen"])
    node.config.stash[ABSENT].extend(found["absent"])


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test that uses a database once per server asked for; with one server names stay as they are."""
    if "database_server" in metafunc.fixturenames:
        kinds = SERVERS[metafunc.config.getoption("--database")]
        ids = kinds if len(kinds) > 1 else [pytest.HIDDEN_PARAM]
        metafunc.parametrize("database_server", kinds, indirect=True, scope="session", ids=ids)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On TimescaleDB alone, leave out what uses no database of ours: it would only repeat itself."""
    if config.getoption("--database") == TIMESCALE:
        keep = [i for i in items if "database_server" in getattr(i, "fixturenames", ())]
        config.hook.pytest_deselected(items=[i for i in items if i not in set(keep)])
        items[:] = keep


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for server, count in sorted(config.stash[SEEN].items()):
        terminalreporter.write_line(f"database: {count} fresh databases on {server}")
    if config.stash[ABSENT]:
        reasons = config.stash[ABSENT]
        terminalreporter.section("TimescaleDB: NOT TESTED", sep="!", red=True, bold=True)
        terminalreporter.write_line(f"TimescaleDB cannot be had here: {reasons[0]}", red=True)
        terminalreporter.write_line(f"{len(reasons)} tests did NOT run on it.", red=True)


@pytest.fixture(scope="session")
def database_server(request: pytest.FixtureRequest) -> str:
    """URL of the server to test on, started if need be. Skips, loudly, where there can be no TimescaleDB."""
    if getattr(request, "param", PLAIN) == PLAIN:
        return os.environ.get("DATABASE_URL") or embedded.ensure(REPO)
    try:
        return timescaledb_server.ensure(REPO)
    except Unavailable as error:
        return f"unavailable: {error}"


@pytest.fixture(scope="session")
def server_name(database_server: str) -> str:
    """What the server is, in words: its version, and whether TimescaleDB is loaded."""
    with psycopg.connect(database_server, autocommit=True) as server:
        row = server.execute(
            "SELECT current_setting('server_version'),"
            " (SELECT setting FROM pg_settings WHERE name = 'shared_preload_libraries'),"
            " (SELECT default_version FROM pg_available_extensions WHERE name = 'timescaledb')"
        ).fetchone()
    assert row is not None
    version, loaded, timescaledb = str(row[0]).split()[0], str(row[1]), row[2]
    return f"PostgreSQL {version}, " + (f"TimescaleDB {timescaledb}" if "timescaledb" in loaded else "plain")


@contextmanager
def new_database(database_server: str, request: pytest.FixtureRequest, template: str = "") -> Iterator[str]:
    """Make a database without tables, or a copy of the one that `template` names, and drop it afterwards.

    Skips, loudly, without its server.
    """
    if database_server.startswith("unavailable: "):
        reason = database_server.removeprefix("unavailable: ")
        request.config.stash[ABSENT].append(reason)
        pytest.skip(f"TimescaleDB cannot be had here: {reason}")
    request.config.stash[SEEN][request.getfixturevalue("server_name")] += 1
    name = f"test_{uuid4().hex[:12]}"
    with psycopg.connect(database_server, autocommit=True) as server:
        if template:
            _copy(server, urlsplit(template).path.removeprefix("/"), name)
        else:
            server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        # A commit is seen at once and on disk a moment later: what only a crash of the server itself could show, and
        # the tests that crash one have it for themselves. Waiting for the disk is half of a test's time.
        server.execute(sql.SQL("ALTER DATABASE {} SET synchronous_commit = off").format(sql.Identifier(name)))
        yield urlunsplit(urlsplit(database_server)._replace(path=f"/{name}"))
        server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _copy(server: psycopg.Connection, source: str, name: str) -> None:
    """Copy a database with everything in it; the source is closed for good, as nobody may be connected to it.

    TimescaleDB's own workers connect to each database again and again unless it is closed.
    """
    server.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(source)))
    server.execute(
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
        " WHERE datname = %s AND backend_type <> 'autovacuum worker'",
        (source,),
    )
    copy = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(source))
    server.execute(copy)


@pytest.fixture
def copied_database(
    database_server: str, request: pytest.FixtureRequest
) -> Callable[[str], AbstractContextManager[str]]:
    """Return a function that copies the database of a URL for one test: what is dear to make is made once a module."""
    return lambda template: new_database(database_server, request, template)


@pytest.fixture(scope="module")
def make_database(database_server: str, request: pytest.FixtureRequest) -> Callable[[], AbstractContextManager[str]]:
    """Return a function that makes a database without tables: for what a module makes once, and copies."""
    return lambda: new_database(database_server, request)


@pytest.fixture
def empty_database_url(database_server: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """URL of a new database without tables, dropped afterwards."""
    with new_database(database_server, request) as url:
        yield url


@pytest.fixture(scope="module")
def module_database_url(database_server: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """URL of a new database with the current schema, shared by a module's tests: those that leave no trace."""
    with new_database(database_server, request) as url:
        with connect(url) as conn:
            migrate.upgrade(conn)
        yield url


@pytest.fixture
def database_url(empty_database_url: str) -> str:
    """URL of a new database with the current schema and no rows."""
    with connect(empty_database_url) as conn:
        migrate.upgrade(conn)
    return empty_database_url


@pytest.fixture
def other_database_url(database_server: str, database_url: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """URL of a second database with the current schema and no rows."""
    with new_database(database_server, request) as url:
        with connect(url) as conn:
            migrate.upgrade(conn)
        yield url


@pytest.fixture
def conn(database_url: str) -> Iterator[psycopg.Connection]:
    """A connection to that database, prepared as tradecore's are; what a test leaves open is rolled back."""
    connection = connect(database_url)
    try:
        yield connection
    finally:
        connection.close()


def pytest_unconfigure() -> None:
    """Keep pytest's closing line the last: Airflow logs at exit, into streams that are closed by then."""
    logging.disable()
