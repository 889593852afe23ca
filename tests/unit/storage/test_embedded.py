"""The embedded PostgreSQL: started once, by whoever comes first, and again after anything that ends it."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tradecore.errors import DatabaseError
from tradecore.storage import embedded, embedded_cluster, migrate
from tradecore.storage.connection import connect

pytestmark = pytest.mark.db


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A project folder with a space in its name; whatever was made for it is gone afterwards."""
    project = tmp_path / "a project"
    project.mkdir()
    yield project
    embedded.remove(project)


def ask(url: str, query: str) -> object:
    with psycopg.connect(url, connect_timeout=10) as database:
        row = database.execute(query).fetchone()
        assert row is not None
        return row[0]


def test_ensure_is_idempotent_and_url_survives_restart(root: Path) -> None:
    promised = embedded.describe(root)
    assert embedded.status(root) is None
    url = embedded.ensure(root)
    assert url == promised
    pid = embedded.status(root)
    assert embedded.ensure(root) == url
    assert embedded.status(root) == pid
    with psycopg.connect(url) as database:
        database.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    assert embedded.stop(root) is True
    assert embedded.stop(root) is False
    assert embedded.status(root) is None
    assert embedded.ensure(root) == url
    assert ask(url, "SELECT answer FROM kept") == 42


def test_server_is_small_local_and_asks_for_a_password(root: Path) -> None:
    url = embedded.ensure(root)
    assert ask(url, "SHOW listen_addresses") == "127.0.0.1"
    assert ask(url, "SHOW shared_buffers") == "48MB"
    assert ask(url, "SHOW jit") == "off"
    assert ask(url, "SHOW server_version") >= "18"  # type: ignore[operator]
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(url.replace(f"{embedded_cluster.USER}:", f"{embedded_cluster.USER}:wrong"))
    assert (root / ".local" / "pg" / "connection.json").stat().st_mode & 0o077 == 0


def test_application_owns_its_database_and_is_no_superuser(root: Path) -> None:
    url = embedded.ensure(root)
    attributes = "SELECT (rolsuper, rolcreaterole, rolcreatedb, rolreplication)::text FROM pg_roles WHERE rolname = "
    assert ask(url, f"{attributes} current_user") == "(f,f,t,f)"
    assert ask(url, "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'tradecore'") == "tradecore"
    assert ask(url, "SELECT string_agg(rolname, ' ') FROM pg_roles WHERE rolsuper") == embedded_cluster.ADMIN
    with connect(url) as database:
        assert migrate.upgrade(database), "all that tradecore needs"
    with psycopg.connect(url, autocommit=True) as database:
        database.execute("CREATE SCHEMA own")
        database.execute("CREATE DATABASE scratch")
        database.execute("DROP DATABASE scratch WITH (FORCE)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            database.execute("COPY (SELECT 1) TO PROGRAM 'true'")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            database.execute("SELECT pg_read_file('/etc/passwd')")
    noted = root / ".local" / "pg" / "connection.json"
    secret = json.loads(noted.read_text())["admin_password"]
    assert secret not in url
    assert noted.stat().st_mode & 0o777 == 0o600


def test_cluster_of_the_older_layout_goes_on(root: Path) -> None:
    """There the application's role is the superuser, and connection.json knows of no other."""
    first = embedded.describe(root)
    noted = root / ".local" / "pg" / "connection.json"
    known = json.loads(noted.read_text())
    del known["admin_password"]
    noted.write_text(json.dumps(known))
    url = embedded.ensure(root)
    assert url == first
    assert ask(url, "SELECT string_agg(rolname, ' ') FROM pg_roles WHERE rolsuper") == "tradecore"
    embedded.stop(root)
    assert embedded.ensure(root) == url
    assert ask(url, "SELECT current_user") == "tradecore"


def test_local_folder_is_closed_to_others(root: Path) -> None:
    (root / ".local").mkdir(mode=0o755)
    (root / ".local").chmod(0o755)
    embedded.ensure(root)
    inside = root / ".local"
    assert inside.stat().st_mode & 0o777 == (0o711 if os.geteuid() == 0 else 0o700)


def test_server_does_not_run_as_root(root: Path) -> None:
    embedded.ensure(root)
    pid = embedded.status(root)
    assert pid is not None
    owner = Path(f"/proc/{pid}").stat().st_uid
    assert owner != 0
    if os.geteuid() != 0:
        assert owner == os.geteuid(), getpass.getuser()


def test_started_again_after_sigkill_with_stale_pid_file(root: Path) -> None:
    url = embedded.ensure(root)
    with psycopg.connect(url) as database:
        database.execute("CREATE TABLE kept AS SELECT 1 AS one")
    pid = embedded.status(root)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while embedded.status(root) is not None and time.monotonic() < deadline:
        time.sleep(0.05)
    cluster = Path(embedded._connection(root).cluster)
    assert (cluster / "data" / "postmaster.pid").exists()
    assert embedded.ensure(root) == url
    assert embedded.status(root) != pid
    assert ask(url, "SELECT one FROM kept") == 1


def test_pid_file_naming_another_program_does_not_stop_the_start(root: Path) -> None:
    url = embedded.ensure(root)
    cluster = Path(embedded._connection(root).cluster)
    noted = (cluster / "data" / "postmaster.pid").read_text().split("\n")
    embedded.stop(root)
    noted[0] = str(os.getpid())
    (cluster / "data" / "postmaster.pid").write_text("\n".join(noted))
    assert embedded.status(root) is None
    assert embedded.ensure(root) == url


def test_two_processes_at_once_get_the_same_server(root: Path) -> None:
    include = Path(embedded.__file__).parents[2]
    command = [sys.executable, "-m", "tradecore.storage.embedded", "start", "--root", str(root)]
    started = [
        subprocess.Popen(command, env={"PYTHONPATH": str(include)}, stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    said = {process.communicate(timeout=120)[0] for process in started}
    assert [process.returncode for process in started] == [0, 0, 0]
    assert said == {embedded.ensure(root) + "\n"}


def test_port_taken_by_a_stranger_is_replaced(root: Path) -> None:
    url = embedded.ensure(root)
    embedded.stop(root)
    port = embedded._connection(root).port
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stranger.bind(("127.0.0.1", port))
        stranger.listen()
        other = embedded.ensure(root)
    assert other != url
    assert ask(other, "SELECT 1") == 1
    assert embedded.describe(root) == other


def test_copied_project_gets_a_server_of_its_own(root: Path, tmp_path: Path) -> None:
    url = embedded.ensure(root)
    cluster = Path(embedded._connection(root).cluster)
    assert cluster.is_relative_to(root) or os.geteuid() == 0
    copy = tmp_path / "copy"
    shutil.copytree(root, copy, ignore=shutil.ignore_patterns("sock"))
    try:
        assert embedded.status(copy) is None
        other = embedded.ensure(copy)
        assert other != url
        assert embedded.status(copy) != embedded.status(root)
    finally:
        embedded.remove(copy)
    assert ask(url, "SELECT 1") == 1


def test_server_that_cannot_start_says_why(root: Path) -> None:
    embedded.ensure(root)
    embedded.stop(root)
    cluster = Path(embedded._connection(root).cluster)
    with (cluster / "data" / "postgresql.conf").open("a") as handle:
        handle.write("no_such_setting = 1\n")
    with pytest.raises(DatabaseError, match="no_such_setting") as caught:
        embedded.ensure(root)
    assert "DATABASE_URL" in caught.value.next_step


def test_shell_command_exit_codes(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert embedded.main(["status", "--root", str(root)]) == 1
    assert embedded.main(["start", "--root", str(root)]) == 0
    assert embedded.main(["status", "--root", str(root)]) == 0
    assert embedded.main(["stop", "--root", str(root)]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "not running"


def test_path_too_long_for_a_socket_does_without_one(tmp_path: Path) -> None:
    project = tmp_path / ("deep" * 20) / ("deeper" * 10)
    project.mkdir(parents=True)
    try:
        embedded.ensure(project)
        kept = Path(embedded._connection(project).cluster).is_relative_to(project)
        sockets = ask(embedded._connection(project).admin_url, "SHOW unix_socket_directories")
        assert sockets == ("" if kept else str(Path(embedded._connection(project).cluster) / "sock"))
    finally:
        embedded.remove(project)
