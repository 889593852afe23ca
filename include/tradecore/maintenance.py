"""What the database and the disk need in quiet hours, one step at a time: `ops_maintenance` and `tradecore maintain`.

Nothing of it is left to the server's own background jobs, whatever its edition: those know neither the trading day's
hours nor whether a Parquet file has been written before a chunk goes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import psycopg

from tradecore import archiving
from tradecore.settings import Settings
from tradecore.storage import edition, keeping, rollups

Result = dict[str, object]
LATE_AFTER = timedelta(days=8)
GRACE = timedelta(days=14)  # behind the policy: a slice goes when it is old as a whole


def aggregates(settings: Settings, conn: psycopg.Connection, now: datetime) -> Result:
    """Make the views of coarser bars as the server has them, and refresh every window that is due."""
    with conn.transaction():
        made = rollups.ensure(conn)
        if made:
            rollups.refresh_all(conn, rollups.BARS)
            rollups.refresh_all(conn, rollups.MINUTE_BARS)
    conn.commit()
    return {"made": made, "windows": rollups.catch_up(conn)}


def retention(settings: Settings, conn: psycopg.Connection, now: datetime) -> Result:
    """Write raw data that are older than the policy to Parquet files, then take them out of the database."""
    return archiving.keep_within_policy(settings, conn, now)


def compression(settings: Settings, conn: psycopg.Connection, now: datetime) -> Result:
    """Compress old chunks; nothing where the server cannot."""
    if not edition.of(conn).is_community:
        conn.rollback()
        return {"skipped": "only TimescaleDB's Community edition compresses"}
    policy, out = settings.trading.maintenance, Result()
    raw = [(t.name, t.segment_by, t.order_by, policy.compress_after_days) for t in keeping.RAW_TABLES.values()]
    bars = [(*table, policy.compress_bars_after_days) for table in keeping.BAR_TABLES]
    for table, segment_by, order_by, days in (*raw, *bars):
        chunks, before, after = keeping.compress(
            conn, table, segment_by=segment_by, order_by=order_by, before=now - timedelta(days=days)
        )
        out[table] = {"chunks": chunks, "bytes_before": before, "bytes_after": after}
    return out


def vacuum(settings: Settings, conn: psycopg.Connection, now: datetime) -> Result:
    """Vacuum and analyse the tables of ours that changed a lot."""
    tables = keeping.vacuum(conn)
    return {"tables": len(tables), "first": tables[:5]}


def logs(settings: Settings, conn: psycopg.Connection, now: datetime) -> Result:
    """Delete the logs of Airflow's tasks that are older than the policy, and folders that are empty then."""
    folder = settings.local_dir / "airflow" / "logs"
    files, size = _delete_older(folder, now - timedelta(days=settings.trading.maintenance.log_days))
    return {"folder": str(folder), "files": files, "bytes": size}


STEPS: dict[str, Callable[[Settings, psycopg.Connection, datetime], Result]] = {
    step.__name__: step for step in (aggregates, retention, compression, vacuum, logs)
}


def run(
    settings: Settings, conn: psycopg.Connection, step: str, started: datetime, clock: Callable[[], datetime]
) -> Result:
    """Run one step and write down what it did; commits. Every step may run again at any time."""
    result = STEPS[step](settings, conn, started)
    keeping.add_run(conn, step, started=started, ended=clock(), result=result)
    conn.commit()
    return result


def _delete_older(folder: Path, before: datetime) -> tuple[int, int]:
    files = size = 0
    for path in _deepest_first(folder):
        status = path.lstat()
        if path.is_dir() and not path.is_symlink():
            if path != folder and not any(path.iterdir()) and status.st_mtime < before.timestamp():
                path.rmdir()
        elif status.st_mtime < before.timestamp():
            path.unlink()
            files, size = files + 1, size + status.st_size
    return files, size


def _deepest_first(folder: Path) -> Iterator[Path]:
    return iter(sorted(folder.rglob("*"), key=lambda path: len(path.parts), reverse=True))


def findings(settings: Settings, conn: psycopg.Connection, now: datetime) -> list[dict[str, object]]:
    """Say which path coarser bars, compression and retention take here, and whether maintenance keeps up."""
    found, policy = edition.of(conn), settings.trading.maintenance
    minutes, trades = (now - timedelta(days=d) - GRACE for d in (policy.minute_bars_days, policy.trades_days))
    row = conn.execute(keeping.SQL["behind"], {"minutes": minutes, "trades": trades}).fetchone()
    runs = {r[0]: r[1] for r in conn.execute(keeping.SQL["runs"]).fetchall()}
    assert row is not None
    due, oldest, has_raw = row
    wrong = rollups.not_as_edition(conn)
    text = f"{found.name}: {found.path}"
    first = {
        "what": "storage",
        "ok": not wrong,
        "found": text + (f"; {', '.join(wrong)} are made for another edition" if wrong else ""),
        "next_step": "python -m tradecore db upgrade",
    }
    missing = [step for step in STEPS if step not in runs]
    last = min(runs.values(), default=None)
    late = has_raw and (last is None or last < now - LATE_AFTER)
    said = "has never run" if last is None else f"last at {last:%Y-%m-%d %H:%M} UTC"
    said += f", never {', '.join(missing)}" if missing and runs else ""
    said += f", {due} windows of coarser bars are due" if due else ""
    said += f", raw data since {oldest:%Y-%m-%d} are past their days" if oldest else ""
    second = {
        "what": "maintenance",
        "ok": not (due or oldest or late),
        "found": said,
        "next_step": "switch the DAG ops_maintenance on, or run: python -m tradecore maintain",
    }
    return [first, second]
