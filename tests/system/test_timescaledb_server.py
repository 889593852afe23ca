"""The private TimescaleDB server: it has hypertables, and survives being killed with what was committed."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

import private_apt
import timescaledb_server

pytestmark = pytest.mark.db


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project of its own, so that killing its server disturbs no other test.

    As root, pytest's directories are closed to other users: this is the case of the separate base directory.
    """
    folder = tmp_path_factory.mktemp("project")
    try:
        timescaledb_server.ensure(folder)
    except private_apt.Unavailable as error:
        pytest.skip(f"TimescaleDB cannot be had here: {error}")
    yield folder
    timescaledb_server.stop(folder)
    base = timescaledb_server._place(folder).base
    shutil.rmtree(base)


def test_server_has_the_apache_edition_and_hypertables(root: Path) -> None:
    with psycopg.connect(timescaledb_server.ensure(root), autocommit=True) as connection:
        connection.execute("CREATE EXTENSION timescaledb")
        version, licence, provider = connection.execute(
            "SELECT current_setting('server_version_num')::int / 10000,"
            " current_setting('timescaledb.license'),"
            " (SELECT datlocprovider::text FROM pg_database WHERE datname = current_database())"
        ).fetchone() or (None, None, None)
        connection.execute("CREATE TABLE bar (id int NOT NULL, at timestamptz NOT NULL, PRIMARY KEY (id, at))")
        connection.execute("SELECT create_hypertable('bar', by_range('at', INTERVAL '1 year'))")
        connection.execute(
            "INSERT INTO bar SELECT i, timestamptz '2000-01-03' + i * INTERVAL '30 days'"
            " FROM generate_series(1, 50) AS i"
        )
        chunks = connection.execute("SELECT count(*) FROM show_chunks('bar')").fetchone() or (0,)
    assert (version, licence, provider) == (17, "apache", "b")
    assert chunks[0] >= 4


def test_server_killed_and_started_again_keeps_what_was_committed(root: Path) -> None:
    connection = psycopg.connect(timescaledb_server.ensure(root))
    connection.execute("CREATE TABLE kept (n int)")
    connection.execute("INSERT INTO kept VALUES (1)")
    connection.commit()
    connection.execute("INSERT INTO kept VALUES (2)")
    postmaster = int((timescaledb_server._place(root).data / "postmaster.pid").read_text().split()[0])
    os.kill(postmaster, signal.SIGKILL)
    again = timescaledb_server.ensure(root)
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 1")
    with psycopg.connect(again) as connection:
        assert connection.execute("SELECT array_agg(n) FROM kept").fetchone() == ([1],)


def test_second_call_gives_the_running_server(root: Path) -> None:
    first = timescaledb_server.ensure(root)
    assert timescaledb_server.ensure(root) == first == timescaledb_server.running_url(root)


def test_stopped_server_has_no_url_and_starts_again_at_the_same_one(root: Path) -> None:
    url = timescaledb_server.ensure(root)
    timescaledb_server.stop(root)
    assert timescaledb_server.running_url(root) is None
    assert timescaledb_server.ensure(root) == url
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


BOOKWORM = {"ID": "debian", "VERSION_CODENAME": "bookworm", "PRETTY_NAME": "Debian 12"}


def test_mirror_is_debians_own_and_not_a_vendors_of_the_same_codename(tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text(
        "# deb http://commented.example/debian bookworm main\n"
        "deb [arch=arm64 signed-by=/k.gpg] http://vendor.example/debian bookworm main\n"
    )
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d" / "debian.sources").write_text(
        "# a comment\nTypes: deb deb-src\nURIs: http://mirror.example/debian\n"
        "Suites: bookworm\n bookworm-updates\nComponents: main contrib\n\n"
        "Types: deb\nEnabled: no\nURIs: http://off.example/debian\nSuites: bookworm\nComponents: main\n"
    )
    assert private_apt.debian_mirror(tmp_path, BOOKWORM) == "http://mirror.example/debian"


@pytest.mark.parametrize(
    "release",
    [{"ID": "fedora", "PRETTY_NAME": "Fedora 43"}, {"ID": "debian", "VERSION_CODENAME": "bullseye"}, {}],
)
def test_other_systems_are_refused_in_one_line(tmp_path: Path, release: dict[str, str]) -> None:
    with pytest.raises(private_apt.Unavailable, match="needs Debian 12 or 13") as caught:
        private_apt.debian_mirror(tmp_path, release)
    assert "\n" not in str(caught.value)


def test_command_line_says_why_it_cannot_be_had(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(timescaledb_server, "__file__", str(tmp_path / "tests" / "timescaledb_server.py"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert timescaledb_server.main(["start"]) == 3
    assert capsys.readouterr().err.splitlines()[-1].startswith("TimescaleDB cannot be had here: needs apt-get")
