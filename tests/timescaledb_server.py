"""A TimescaleDB server (PostgreSQL 17, Apache edition) for tests, on a machine that has none.

    python tests/timescaledb_server.py start|stop|url

Debian's packages are unpacked under `.local/timescaledb` and run there: nothing of the host is changed. As
root the server runs as `nobody`, and where that user cannot reach the project, binaries and data go into a
directory of our own under the system's temporary one. Exit code 3 and one line say why it cannot be had.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import secrets
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from private_apt import Unavailable, download, locked, unpack

PACKAGES = ("postgresql-17", "postgresql-17-timescaledb")
# Debian's cluster tooling and things the host has anyway; libllvm is only the JIT, which stays off.
STUBS = (
    "debconf",
    "libllvm19",
    "locales",
    "postgresql-client-common",
    "postgresql-common",
    "ssl-cert",
    "tzdata",
)
# Debian's server reads the host's time zones, at this fixed place.
ZONEINFO = Path("/usr/share/zoneinfo")
PROGRAMS = ("initdb", "pg_ctl", "pg_isready", "postgres", "psql", "createdb", "pg_dump", "pg_restore")
USER = "tradecore"
DATABASE = "tradecore"
UNPRIVILEGED = "nobody"
START_TIMEOUT_S = 60

SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
shared_preload_libraries = 'timescaledb'
timescaledb.max_background_workers = 4
max_worker_processes = 12
max_connections = 100
shared_buffers = 64MB
jit = off
# A killed process loses nothing without fsync; a power cut would, and these are test data.
fsync = off
full_page_writes = off
log_destination = 'stderr'
logging_collector = off
timezone = 'UTC'
lc_messages = 'C'
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the server lives. `home` is the project's; `base` is what the server's own user can reach."""

    home: Path
    base: Path
    uid: int | None

    @property
    def prefix(self) -> Path:
        return self.base / "prefix"

    @property
    def data(self) -> Path:
        return self.base / "run" / "data"

    @property
    def log(self) -> Path:
        return self.base / "run" / "server.log"

    @property
    def password(self) -> Path:
        return self.home / "password"

    @property
    def port(self) -> Path:
        return self.home / "port"

    def program(self, name: str) -> str:
        return str(self.prefix / "usr/lib/postgresql/17/bin" / name)


def _reachable(path: Path, uid: int) -> bool:
    """Say whether a user outside our group can enter every directory down to `path`."""
    for folder in (path, *path.parents):
        status = folder.stat()
        if status.st_uid != uid and not status.st_mode & stat.S_IXOTH:
            return False
    return True


def _place(root: Path) -> Place:
    home = root.resolve() / ".local" / "timescaledb"
    home.mkdir(parents=True, exist_ok=True)
    if os.geteuid() != 0:
        return Place(home=home, base=home, uid=None)
    uid = pwd.getpwnam(UNPRIVILEGED).pw_uid
    if _reachable(home, uid):
        return Place(home=home, base=home, uid=uid)
    digest = hashlib.sha256(str(home).encode()).hexdigest()[:12]
    base = Path(tempfile.gettempdir()) / f"tradecore-timescaledb-{digest}"
    base.mkdir(mode=0o755, exist_ok=True)
    # The name can be guessed: a directory that somebody else made is not ours to run programs from as root.
    status = base.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != 0 or status.st_mode & 0o022:
        raise Unavailable(f"{base} exists and is not ours; remove it and start again")
    return Place(home=home, base=base, uid=uid)


def _run(place: Place, command: Sequence[str], **extra: str) -> subprocess.CompletedProcess[str]:
    """Run one of the server's programs as the server's user, with nothing of our environment."""
    environment = {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "TZ": "UTC", **extra}
    group = None if place.uid is None else pwd.getpwuid(place.uid).pw_gid
    return subprocess.run(
        list(command),
        env=environment,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=START_TIMEOUT_S * 2,
        user=place.uid,
        group=group,
        extra_groups=None if group is None else [],
    )


def _loader(prefix: Path) -> Path:
    found = sorted(prefix.glob("usr/lib/*-linux-gnu*/ld-linux-*.so.*"))
    if not found:
        raise Unavailable("the unpacked libc has no loader; x86_64 and aarch64 are known to work")
    return found[0]


def _wrap_programs(place: Place) -> None:
    """Put a script in the place of each program that starts it with the unpacked libc.

    The programs were linked against a newer libc than the host may have. PostgreSQL finds its files relative
    to the name it was started by, so the script passes on its own.
    """
    loader = _loader(place.prefix)
    real = place.prefix / "usr/lib/postgresql/17/real"
    real.mkdir()
    for name in PROGRAMS:
        program = Path(place.program(name))
        program.rename(real / name)
        program.write_text(
            f"#!/bin/sh\nexec '{loader}' --argv0 '{program}' --library-path '{loader.parent}' '{real / name}' \"$@\"\n"
        )
        program.chmod(0o755)


def _install(place: Place) -> None:
    done = place.prefix / "complete"
    if done.exists() and done.read_text() == str(place.prefix):
        return
    if not ZONEINFO.is_dir():
        raise Unavailable("needs the package tzdata")
    print("TimescaleDB: fetching PostgreSQL 17 with TimescaleDB from Debian (40 MB) ...", file=sys.stderr)
    shutil.rmtree(place.prefix, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=place.home) as scratch:
        unpack(download(Path(scratch), PACKAGES, stubs=STUBS), place.prefix)
    place.prefix.chmod(0o755)
    _wrap_programs(place)
    done.write_text(str(place.prefix))


def _initialise(place: Place) -> None:
    if (place.data / "PG_VERSION").exists() and place.password.exists():
        return
    run = place.data.parent
    shutil.rmtree(run, ignore_errors=True)
    run.mkdir(mode=0o700)
    password_file = run / "initial-password"
    password = secrets.token_urlsafe(24)
    password_file.touch(mode=0o600)
    password_file.write_text(password)
    if place.uid is not None:
        group = pwd.getpwuid(place.uid).pw_gid
        for path in (run, password_file):
            os.chown(path, place.uid, group)
    done = _run(
        place,
        [
            place.program("initdb"),
            *("-D", str(place.data), "-U", USER, "--pwfile", str(password_file)),
            *("--auth", "scram-sha-256", "--encoding", "UTF8", "--no-sync"),
            *("--locale-provider", "builtin", "--builtin-locale", "C.UTF-8", "--locale", "C"),
        ],
    )
    password_file.unlink()
    if done.returncode != 0:
        raise Unavailable(f"initdb failed: {done.stdout.strip().splitlines()[-1]}")
    with (place.data / "postgresql.conf").open("a") as config:
        config.write(SETTINGS)
    place.password.unlink(missing_ok=True)
    place.password.touch(mode=0o600)
    place.password.write_text(password)


def _answers(place: Place) -> bool:
    """Say whether our server accepts connections: our data directory's process, on our port."""
    if not place.port.exists() or not (place.data / "postmaster.pid").exists():
        return False
    port = place.port.read_text()
    lines = (place.data / "postmaster.pid").read_text().splitlines()
    if len(lines) < 4 or lines[3].strip() != port:
        return False
    command = [place.program("pg_isready"), "-q", "-h", "127.0.0.1", "-p", port]
    return _run(place, command).returncode == 0


def _free_port(wanted: int = 0) -> int:
    """Return `wanted` if nobody listens there, else a free port of 127.0.0.1."""
    for candidate in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", candidate))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise Unavailable("no free port on 127.0.0.1")


def _start(place: Place) -> None:
    """Start the server, and again while the children of a killed one still hold its memory."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        # The last one if possible: a URL once given out stays true.
        port = _free_port(int(place.port.read_text()) if place.port.exists() else 0)
        done = _run(
            place,
            [
                place.program("pg_ctl"),
                *("start", "-w", "-s", "-t", str(START_TIMEOUT_S)),
                *("-D", str(place.data), "-l", str(place.log), "-o", f"-p {port}"),
            ],
        )
        if done.returncode == 0:
            place.port.write_text(str(port))
            return
        if time.monotonic() > deadline:
            lines = place.log.read_text().splitlines() if place.log.exists() else [done.stdout.strip()]
            raise Unavailable(f"the server does not start: {lines[-1]} (all of it: {place.log})")
        time.sleep(0.5)


def _create_database(place: Place) -> None:
    login = ("-h", "127.0.0.1", "-p", place.port.read_text(), "-U", USER)
    password = place.password.read_text()
    query = f"SELECT 1 FROM pg_database WHERE datname = '{DATABASE}'"
    found = _run(place, [place.program("psql"), *login, "-d", "postgres", "-Atc", query], PGPASSWORD=password)
    if found.returncode == 0 and found.stdout.strip() == "1":
        return
    made = _run(place, [place.program("createdb"), *login, DATABASE], PGPASSWORD=password)
    if made.returncode != 0:
        raise Unavailable(f"the database cannot be created: {made.stdout.strip()}")


def _url(place: Place) -> str:
    password = quote(place.password.read_text(), safe="")
    return f"postgresql://{USER}:{password}@127.0.0.1:{place.port.read_text()}/{DATABASE}"


def ensure(root: Path) -> str:
    """Start the server unless it runs, and return its URL.

    Parameters
    ----------
    root : the project; everything is kept under its `.local/timescaledb` (see the module for root).

    Returns
    -------
    A `postgresql://` URL of an empty database on 127.0.0.1; the user may create databases and extensions.

    Raises
    ------
    Unavailable
        In one line, why this machine cannot have it.
    """
    place = _place(root)
    with locked(place.home):
        _install(place)
        _initialise(place)
        if not _answers(place):
            _start(place)
            _create_database(place)
        return _url(place)


def stop(root: Path) -> None:
    """Stop the server if it runs; its data stay."""
    place = _place(root)
    with locked(place.home):
        if (place.data / "postmaster.pid").exists():
            _run(place, [place.program("pg_ctl"), "stop", "-s", "-w", "-m", "fast", "-D", str(place.data)])


def running_url(root: Path) -> str | None:
    """Return the URL of the running server, or None."""
    place = _place(root)
    with locked(place.home):
        return _url(place) if _answers(place) else None


def main(arguments: Sequence[str]) -> int:
    root = Path(__file__).resolve().parent.parent
    action = arguments[0] if len(arguments) == 1 else ""
    try:
        if action == "start":
            print(ensure(root))
        elif action == "stop":
            stop(root)
        elif action == "url":
            url = running_url(root)
            if url is None:
                print("TimescaleDB is not running: python tests/timescaledb_server.py start", file=sys.stderr)
                return 1
            print(url)
        else:
            print("usage: python tests/timescaledb_server.py start|stop|url", file=sys.stderr)
            return 2
    except Unavailable as error:
        print(f"TimescaleDB cannot be had here: {error}", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
