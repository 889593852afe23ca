"""Read-only answers for people and machines: a book, a session, the status, the doctor's findings."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from datetime import date, datetime, timedelta
from typing import Any

import psycopg

from tradecore import execution_views, machine, maintenance, waiting
from tradecore import settings as configured
from tradecore.context import book_calendar
from tradecore.errors import BookError, TradecoreError
from tradecore.feeding import feed_of
from tradecore.model import STATE_NAMES
from tradecore.settings import Settings
from tradecore.storage import alerts, books, connection, embedded, migrate, queries
from tradecore.units import shares, usd

SQL = queries.load("views")
MIN_FREE_BYTES = 1_000_000_000


def book(conn: psycopg.Connection, name: str, session_date: date | None = None) -> dict[str, Any]:
    """Return the newest state of a book, or that of a session. Raises BookError when there is none."""
    books.get(conn, name)
    row = conn.execute(SQL["last_state"], {"book": name, "session": session_date}).fetchone()
    if row is None:
        raise BookError(
            f"book {name!r} has no state of session {session_date}.",
            next_step=f"python -m tradecore run-session {session_date} --book {name}",
            book=name,
        )
    held = conn.execute(SQL["positions"], {"book": name, "bar_end": row[0]}).fetchall()
    return {
        "book": name,
        "bar_end_at": row[0],
        "session": row[1],
        "cash_usd": usd(row[2]),
        "equity_usd": usd(row[3]),
        "peak_equity_usd": usd(row[4]),
        "day_pnl_usd": usd(row[3] - row[5]),
        "realised_usd": usd(row[6]),
        "fees_usd": usd(row[7]),
        "dividends_usd": usd(row[8]),
        "state": STATE_NAMES[row[9]],
        "hash": row[10],
        "positions": [
            {
                "symbol": p[0],
                "qty": shares(p[1]),
                "mark_usd": usd(p[2]),
                "value_usd": usd(p[1] * p[2] // 1_000_000),
                "stale_bars": p[3],
            }
            for p in held
        ],
    }


def book_text(record: dict[str, Any]) -> str:
    """Return a book in a few lines."""
    lines = [
        f"book {record['book']} after {record['session']}: equity {record['equity_usd']:,.2f} USD, cash "
        f"{record['cash_usd']:,.2f}, {record['state']}"
    ]
    lines += [
        f"  {p['symbol']:<6} {p['qty']:>10} x {p['mark_usd']:>10,.2f} = {p['value_usd']:>12,.2f}"
        + (f"  no bar for {p['stale_bars']}" if p["stale_bars"] else "")
        for p in record["positions"]
    ]
    return "\n".join(lines if record["positions"] else [*lines, "  no positions"])


def session(loaded: Settings, conn: psycopg.Connection, name: str, session_date: date) -> dict[str, Any]:
    """Return what a session did: signals, targets, orders, fills, equity, data quality."""
    found = book(conn, name, session_date)
    key = {"book": name, "bar_end": found["bar_end_at"]}
    quality = conn.execute(SQL["quality"], key).fetchone()
    report = conn.execute(SQL["report"], key).fetchone()
    return {
        **found,
        "signals": [
            {"strategy": r[0], "symbol": r[1], "score": None if r[2] != r[2] else r[2]}
            for r in conn.execute(SQL["signals"], key).fetchall()
        ],
        "targets": [
            {"symbol": r[0], "qty": shares(r[1]), "weight": r[2] / 1e6}
            for r in conn.execute(SQL["targets"], key).fetchall()
        ],
        "orders": [
            {"symbol": r[0], "qty": shares(r[1]), "ref_price_usd": usd(r[2]), "status": r[3], "id": r[4]}
            for r in conn.execute(SQL["orders"], key).fetchall()
        ],
        "fills": [
            {"symbol": r[0], "qty": shares(r[1]), "price_usd": usd(r[2]), "fee_usd": usd(r[3])}
            for r in conn.execute(SQL["fills"], key).fetchall()
        ],
        "quality": None
        if quality is None
        else dict(zip(("rows", "failed", "due", "seen", "coverage", "gate_open", "gate_reason"), quality, strict=True)),
        "report": str(loaded.local_dir / report[0]) if report else None,
    }


def session_text(r: dict[str, Any]) -> str:
    """Return a session's summary as text."""

    def line(title: str, items: list[str], nothing: str) -> str:
        return f"  {title:<8} {', '.join(items) if items else nothing}"

    quality = r["quality"]
    data = (
        "not validated"
        if quality is None
        else (
            f"{quality['seen']} of {quality['due']} members, {quality['failed']} rows in quarantine, gate "
            + ("open" if quality["gate_open"] else f"CLOSED: {quality['gate_reason']}")
        )
    )
    return "\n".join(
        [
            f"Session {r['session']}, book {r['book']}, {r['state']}",
            line(
                "signals",
                [
                    f"{s['symbol']} {'no opinion' if s['score'] is None else format(s['score'], '.3f')}"
                    for s in r["signals"]
                ],
                "none",
            ),
            line("targets", [f"{t['symbol']} {t['qty']} ({t['weight']:.1%})" for t in r["targets"]], "all flat"),
            line(
                "orders",
                [
                    f"{'buy' if o['qty'] > 0 else 'sell'} {abs(o['qty'])} {o['symbol']} ~{o['ref_price_usd']:,.2f}"
                    f" {o['status']}"
                    for o in r["orders"]
                ],
                "none",
            ),
            line("fills", [f"{f['qty']:+} {f['symbol']} at {f['price_usd']:,.2f}" for f in r["fills"]], "none"),
            f"  equity   {r['equity_usd']:,.2f} USD ({r['day_pnl_usd']:+,.2f} today), cash {r['cash_usd']:,.2f}",
            f"  data     {data}",
            f"  report   {r['report'] or 'none'}",
        ]
    )


def status(found: Settings, conn: psycopg.Connection, name: str, now: datetime) -> dict[str, Any]:
    """Return where a book stands and whether all is well."""
    state = alerts.undelivered(conn)
    failures = [f"{f}" for f in alerts.failures(conn)]
    record = books.find(conn, name)
    if record is None:
        return {
            "book": name,
            "open": False,
            "well": state.healthy,
            "undelivered": failures,
            "next_step": f"python -m tradecore init --book {name}",
        }
    last = conn.execute(books.SQL["last_run"], (name,)).fetchone()
    assert last is not None  # opening a book writes its first run
    due = _due(found, now)
    late = due is not None and (last[1] < due or (last[1] == due and last[2] != "closed"))
    held = None
    if last[2] == "decided":
        held = waiting.wait_of(found, conn, book_calendar(found), record, last[0], now)
        late = late and not (held is not None and last[1] == due)
    trouble = execution_views.trouble(conn, name)
    proof = _proof(conn, name)
    return {
        "book": name,
        "open": True,
        "last_session": last[1],
        "last_status": last[2],
        "last_outcome": last[3],
        "due_session": due,
        "next_session": book_calendar(found).next_session(last[1]) if last[2] == "closed" else last[1],
        "late": late,
        "waiting": held.what if held else "",
        "venue": execution_views.venue(found, conn, name)["text"],
        **trouble,
        "proof": proof,
        "undelivered": failures,
        "well": state.healthy and not late and not any(trouble.values()) and proof.get("verdict") != "different",
        "state": book(conn, name)["state"],
        "ordered": _ordered(conn, name),
    }


def _proof(conn: psycopg.Connection, name: str) -> dict[str, Any]:
    """Return the newest daily proof of a book; empty where none was made."""
    row = conn.execute(queries.load("replay")["newest_proof"], (name,)).fetchone()
    return dict(zip(("session", "verdict", "stage", "changed_inputs"), row[:4], strict=True)) if row else {}


def _ordered(conn: psycopg.Connection, name: str) -> str:
    """Return what a person ordered for the next bar, or ''."""
    row = conn.execute(SQL["ordered_state"], {"book": name}).fetchone()
    return "" if row is None else f"{STATE_NAMES[row[0]]} from {row[1]:%Y-%m-%d %H:%M} UTC on, by {row[2]}: {row[3]}"


def _due(found: Settings, now: datetime) -> date | None:
    """Return the last session that should have been run by now; None when the feed's end lies before it."""
    patience = timedelta(minutes=found.trading.book.run_delay_minutes + found.trading.alerts.late_after_minutes)
    last = book_calendar(found).session_at_or_before(now - patience)
    end = feed_of(found).last_session(found.trading.universe.symbols)
    return last if end is None or last <= end else None


def status_text(r: dict[str, Any]) -> str:
    """Return the status as text."""
    if not r["open"]:
        return f"book {r['book']} is not open. next: {r['next_step']}"
    lines = [
        f"book {r['book']}: last session {r['last_session']} ({r['last_status']}: {r['last_outcome']}), {r['state']}"
    ]
    if r["late"]:
        lines.append(
            f"  LATE: session {r['due_session']} is due. next: start the stack (`make up`) or "
            f"`python -m tradecore run-session {r['next_session']}`"
        )
    if not r["late"]:
        lines[0] += f"; next session {r['next_session']}"
    lines.append(f"  venue: {r['venue']}")
    if r["ordered"]:
        lines.append(f"  ordered: {r['ordered']}")
    if r["waiting"]:
        lines.append(f"  waits for {r['waiting']}")
    if r["open_breaks"]:
        lines.append(f"  {len(r['open_breaks'])} OPEN BREAKS: nothing is sent. next: python -m tradecore breaks")
    lines += [f"  UNKNOWN order: {i}. next: python -m tradecore orders --events" for i in r["unknown_orders"]]
    if r["proof"].get("verdict") == "different":
        lines.append(
            f"  PROOF of {r['proof']['session']} differs from stage {r['proof']['stage']} on. next: "
            f"python -m tradecore replay {r['proof']['session']} --book {r['book']}"
        )
    elif r["proof"]:
        lines.append(f"  proof: session {r['proof']['session']} computed again gives the same")
    lines += [f"  undelivered: {f}" for f in r["undelivered"]]
    return "\n".join(lines if not r["well"] else [*lines, "  all is well"])


def _finding(what: str, ok: bool, text: str, next_step: str = "") -> dict[str, Any]:
    return {"what": what, "ok": ok, "found": text, "next_step": next_step}


def doctor(now: datetime) -> list[dict[str, Any]]:
    """Check machine, settings, database, calendar and book; each finding with its next step."""
    free = shutil.disk_usage(configured.PACKAGE_HOME).free
    found = [
        _finding(
            "python",
            (3, 11) <= sys.version_info[:2] <= (3, 13),
            platform.python_version(),
            "use Python 3.11, 3.12 or 3.13",
        ),
        _finding(
            "machine",
            sys.maxsize > 2**32,
            f"{platform.machine()}, {os.cpu_count()} cores, page size {os.sysconf('SC_PAGE_SIZE')}",
            "use a 64-bit operating system",
        ),
        _finding("disk", free > MIN_FREE_BYTES, f"{free / 1e9:.1f} GB free", "free some space: 1 GB is needed"),
    ]
    try:
        loaded = configured.load()
        found.append(_finding("settings", True, f"{loaded.config_path.name}, {len(loaded.warnings)} warnings"))
        found += [_finding(f.what, f.ok, f.found, f.next_step) for f in machine.findings(loaded, now)]
        calendar = book_calendar(loaded)
        found.append(
            _finding(
                "calendar",
                calendar.last_session > now.date() + timedelta(days=90),
                f"{calendar.name} to {calendar.last_session}",
                "python -m tradecore.sessions --build",
            )
        )
        with connection.connect(loaded.database_url or embedded.ensure(loaded.home)) as conn:
            found += _database_findings(loaded, conn, now)
    except TradecoreError as error:
        found.append(_finding(type(error).__name__, False, error.message, error.next_step))
    return found


def _database_findings(loaded: Settings, conn: psycopg.Connection, now: datetime) -> list[dict[str, Any]]:
    version = conn.info.server_version // 10_000
    tsdb = migrate.has_timescaledb(conn)
    missing = migrate.pending(conn)
    out = [
        _finding(
            "database",
            version >= 14,
            f"PostgreSQL {version}, " + ("TimescaleDB" if tsdb else "plain tables"),
            "use PostgreSQL 14 or newer",
        ),
        _finding("schema", not missing, f"{len(missing)} migrations missing", "python -m tradecore db upgrade"),
    ]
    if not missing:
        state = status(loaded, conn, loaded.trading.book.name, now)
        out.append(
            _finding(
                "book",
                bool(state["well"]),
                status_text(state).splitlines()[0],
                str(state.get("next_step", "python -m tradecore status")),
            )
        )
        out += [_finding(f.what, f.ok, f.found, f.next_step) for f in machine.service_findings(loaded, conn, now)]
        out += maintenance.findings(loaded, conn, now)
        place = execution_views.venue(loaded, conn, loaded.trading.book.name)
        out.append(_finding("venue", not place["missing"], place["text"], "; ".join(place["missing"])))
    return out
