"""What the doctor asks of the machine and of what runs on it.

Memory, clock, heat, restarts that wait, compiled kernels and backups; Airflow's parts and the age of the data.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg

from tradecore import kernel_cache, sessions
from tradecore.feeding import feed_of
from tradecore.settings import Settings
from tradecore.storage import alerts, queries

MIN_AVAILABLE_MB = 400  # what a session adds to an idle stack (docs/benchmarks.md), with a little air
MAX_PAGE_BYTES = 65_536
HOT_C = 80.0  # a Pi throttles from 80 degrees on
BACKUP_MAX_AGE = timedelta(days=3)
SILENT_AFTER_S = 60  # as the watch has it
PUBLISHED_AFTER = timedelta(days=1)
_BACKUP = re.compile(r"^tradecore-(\d{8}T\d{6})Z\.backup$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the doctor's: what was looked at, whether it is well, what was found, what to do if not."""

    what: str
    ok: bool
    found: str
    next_step: str = ""


def findings(settings: Settings, now: datetime, root: Path = Path("/")) -> list[Finding]:
    """Return what the machine says; root stands for / in tests. Nothing is written, nothing is started."""
    found = [
        memory(root / "proc/meminfo"),
        page_size(os.sysconf("SC_PAGE_SIZE")),
        clock(root / "run/systemd"),
        heat(root / "sys/class/thermal/thermal_zone0/temp"),
        restart(root / "run/reboot-required"),
        kernels(settings.home),
        backups([settings.local_dir / "backups", root / "srv/tradecore/backups"], now),
    ]
    return [finding for finding in found if finding is not None]


def memory(meminfo: Path) -> Finding | None:
    """Compare what is available with what a session needs beside an idle stack. None where Linux does not say."""
    if not meminfo.exists():
        return None
    pairs = (line.split() for line in meminfo.read_text(encoding="ascii").splitlines())
    mb = {words[0].rstrip(":"): int(words[1]) // 1024 for words in pairs if len(words) > 1}
    free, total = mb["MemAvailable"], mb["MemTotal"]
    return Finding(
        what="memory",
        ok=free >= MIN_AVAILABLE_MB,
        found=f"{free} of {total} MB available; a session needs {MIN_AVAILABLE_MB}",
        next_step="`make memory` names what takes it; research and the pages are the first to end",
    )


def page_size(size: int) -> Finding:
    """Tell of pages that binary wheels are not built for; a Pi 5 has 16 KiB, which all of them are."""
    return Finding(
        what="page size",
        ok=size <= MAX_PAGE_BYTES,
        found=f"{size // 1024} KiB",
        next_step="use a kernel with pages of 64 KiB or less",
    )


def clock(systemd: Path) -> Finding | None:
    """Tell whether the clock was set from outside. None where no systemd-timesyncd keeps it."""
    keeper = systemd / "timesync"
    if not keeper.is_dir():
        return None
    synchronized = (keeper / "synchronized").exists()
    return Finding(
        what="clock",
        ok=synchronized,
        found="set by a time server" if synchronized else "not set by any time server since the start",
        next_step="`timedatectl timesync-status`: is there a network, and does UDP 123 get out?",
    )


def heat(sensor: Path) -> Finding | None:
    """Tell of a processor that slows itself down. None without a sensor."""
    try:
        celsius = int(sensor.read_text(encoding="ascii")) / 1000
    except (OSError, ValueError):
        return None
    return Finding(
        what="temperature",
        ok=celsius < HOT_C,
        found=f"{celsius:.0f} degrees C",
        next_step="a heat sink or a fan: from 80 degrees on the processor slows down",
    )


def restart(wish: Path) -> Finding | None:
    """Tell of an update that waits for a restart. None when there is none."""
    if not wish.exists():
        return None
    since = datetime.fromtimestamp(wish.stat().st_mtime, UTC)
    return Finding(
        what="restart",
        ok=False,
        found=f"an update waits for a restart since {since:%Y-%m-%d}",
        next_step="`sudo reboot` between a session's end and the next one's orders; all parts come back by themselves",
    )


def kernels(home: Path) -> Finding:
    """Tell whether this code's kernels are compiled: else the first session does it."""
    there = (kernel_cache.cache_dir(home) / "compiled").exists()
    return Finding(
        what="kernels",
        ok=True,
        found="compiled" if there else "not compiled yet: the next start does, in a minute or so",
    )


def backups(folders: list[Path], now: datetime) -> Finding:
    """Tell how old the newest backup is, once there is one; a machine that never made one is told how."""
    names = [p.name for folder in folders if os.access(folder, os.R_OK) for p in folder.iterdir()]
    times = sorted(match[1] for name in names if (match := _BACKUP.match(name)))
    if not times:
        return Finding(what="backup", ok=True, found="none yet: `python -m tradecore backup create`")
    made_at = datetime.strptime(times[-1], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    failed = sum(name.endswith(".failed") for name in names)
    return Finding(
        what="backup",
        ok=now - made_at <= BACKUP_MAX_AGE,
        found=f"{len(times)}, the newest of {made_at:%Y-%m-%d %H:%M} UTC" + (f"; {failed} failed" if failed else ""),
        next_step="`python -m tradecore backup create` says why there is no newer one",
    )


def service_findings(settings: Settings, conn: psycopg.Connection, now: datetime) -> list[Finding]:
    """Return what the database says of Airflow's parts and of the newest bar."""
    return [airflow(conn, now), freshness(settings, conn, now)]


def airflow(conn: psycopg.Connection, now: datetime) -> Finding:
    """Tell of a scheduler or dag-processor that went silent without having been stopped."""
    beats = [beat for beat in alerts.heartbeats(conn) or () if beat.latest_heartbeat is not None]
    silent, lines = False, []
    for beat in beats:
        assert beat.latest_heartbeat is not None
        name, age_s = alerts.AIRFLOW_COMPONENTS[beat.job_type], (now - beat.latest_heartbeat).total_seconds()
        stopped = beat.state == "success"
        silent = silent or (not stopped and age_s > SILENT_AFTER_S)
        lines.append(f"{name} {'stopped' if stopped else f'heard {max(age_s, 0):.0f} s ago'}")
    return Finding(
        what="airflow",
        ok=not silent,
        found=", ".join(lines) or "has not run on this database yet",
        next_step="`make status` and `make logs`; then `make up`, or `systemctl restart tradecore.target`",
    )


def freshness(settings: Settings, conn: psycopg.Connection, now: datetime) -> Finding:
    """Compare the newest bar's session with the last one that the vendor should have published."""
    row = conn.execute(queries.load("views")["newest_session"]).fetchone()
    newest = row[0] if row else None
    if newest is None:
        return Finding(what="data", ok=True, found="no bars yet: `python -m tradecore init` loads the first ones")
    due = sessions.calendar(settings.trading.book.calendar).session_at_or_before(now - PUBLISHED_AFTER)
    end = feed_of(settings).last_session(settings.trading.universe.symbols)
    wanted = due if end is None else min(due, end)
    # A feed that has ended is history to replay: a book may be anywhere in it.
    return Finding(
        what="data",
        ok=newest >= wanted or end is not None,
        found=f"bars until {newest}" + (f" of a feed that ends {end}" if end is not None else f", due until {due}"),
        next_step="`python -m tradecore status`; `python -m tradecore load-history` fills what is missing",
    )
