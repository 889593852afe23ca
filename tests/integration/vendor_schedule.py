"""One random schedule of a bad vendor: a few sessions through the production ingest, with faults by seed.

After each session the database equals what the vendor has published, or the run failed with a typed error and the
database is what it was. Late and restated bars come on top.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import yaml

from tradecore import ingestion, settings
from tradecore.errors import FeedError
from tradecore.sessions import calendar
from vendor_standin import alpaca as face
from vendor_standin.client import Standin

XNYS = calendar("XNYS")
SYMBOLS = ("AAPL", "GOOG", "IBM", "MSFT")
DAYS = XNYS.sessions_in_range(date(2005, 2, 22), date(2005, 3, 10))
LOOK_BACK, RUNS = 5, 3
RATES = (0.0, 0.05, 0.1, 0.2, 0.4)
NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)
TABLES = ("bar_versions", "bars", "corporate_actions", "quarantined_bars", "instruments", "data_clock")


def make_settings(folder: Path, standin: Standin, database_url: str) -> settings.Settings:
    """Return the settings of a profile that reads the stand-in, with pages so small that there are many."""
    quick = {"timeout_s": 0.25, "attempts": 2, "backoff_s": 0.002, "max_wait_s": 0.01, "requests_per_minute": 1_000_000}
    options = {"base_url": standin.url, "rows_per_page": 4, "symbols_per_request": 3, **quick}
    config = folder / "trading.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "universe": {"name": "faults", "symbols": list(SYMBOLS)},
                "data": {"feed": "alpaca", "options": options},
                "strategies": {"buy_and_hold": {}},
            }
        )
    )
    keys = {"ALPACA_API_KEY": face.KEY, "ALPACA_SECRET_KEY": face.SECRET}
    return settings.load({"TRADECORE_CONFIG": str(config), "DATABASE_URL": database_url, **keys})


@dataclass(slots=True)
class Seen:
    """What happened over some schedules."""

    runs: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)


def run(found: settings.Settings, conn: psycopg.Connection, standin: Standin, seed: int, seen: Seen) -> None:
    """Run one schedule; raises AssertionError naming the seed and the session."""
    chance = random.Random(seed)
    standin.reset()
    conn.execute("TRUNCATE bar_versions, bars, corporate_actions, quarantined_bars")
    conn.commit()
    start = chance.randrange(LOOK_BACK, len(DAYS) - RUNS)
    for k in range(RUNS):
        day, first = DAYS[start + k], DAYS[start + k - LOOK_BACK]
        standin.end(day)
        standin.late([(chance.choice(SYMBOLS), day)] if chance.random() < 0.4 else [])
        if chance.random() < 0.5:
            standin.restate(
                chance.choice(SYMBOLS), DAYS[start + k - chance.randrange(LOOK_BACK)], chance.uniform(0.97, 1.03)
            )
        standin.seed(1_000 * seed + k, chance.choice(RATES))
        before = content(conn)
        where, failed = f"seed {seed}, session {day}", ""
        try:
            ingestion.ingest_range(
                found,
                conn,
                XNYS,
                first=first,
                last=day,
                actions_until=XNYS.next_session(day),
                now=NOW + timedelta(days=k),
            )
        except FeedError as error:
            conn.rollback()
            failed = type(error).__name__
        if failed:
            assert content(conn) == before, f"{where}: {failed}, and yet something was written"
        else:
            truth = [row for row in standin.truth() if row[0] in SYMBOLS and str(first) <= row[1] <= str(day)]
            assert newest(conn, first, day) == truth, f"{where}: the database is not what the vendor has published"
            assert actions(conn) >= known_actions(first, XNYS.next_session(day)), f"{where}: an action is missing"
        seen.runs[failed or "equal"] += 1
        seen.faults.update(entry["fault"] for entry in standin.log() if entry["fault"])
        standin.heal()


def content(conn: psycopg.Connection) -> list[Any]:
    """Return a sum of each table that a run writes to."""
    found = []
    for table in TABLES:
        found += conn.execute(
            f"SELECT count(*), md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {table} t"
        ).fetchall()  # type: ignore[call-overload]
    conn.rollback()
    return found


def newest(conn: psycopg.Connection, first: date, last: date) -> list[list[Any]]:
    """Return the newest statement of each bar, as the stand-in tells the truth."""
    rows = conn.execute(
        "SELECT DISTINCT ON (s.symbol, v.session_date) s.symbol, v.session_date::text, open, high, low, close, volume"
        " FROM bar_versions v JOIN instrument_symbols s USING (instrument_id) WHERE session_date BETWEEN %s AND %s"
        " AND dup_no = 0 ORDER BY s.symbol, v.session_date, known_at DESC",
        (first, last),
    ).fetchall()
    conn.rollback()
    return [list(row) for row in rows]


def actions(conn: psycopg.Connection) -> set[tuple[str, str, str]]:
    """Return the corporate actions that are known."""
    rows = conn.execute(
        "SELECT s.symbol, ex_date::text, kind FROM corporate_actions JOIN instrument_symbols s USING (instrument_id)"
    ).fetchall()
    conn.rollback()
    return {(row[0], row[1], row[2]) for row in rows}


def known_actions(first: date, last: date) -> set[tuple[str, str, str]]:
    """Return the sample's actions of a range: AAPL's split of 2005-02-28 among them."""
    lines = (Path(__file__).resolve().parents[2] / "include/sample_data/corporate_actions.csv").read_text().splitlines()
    rows = [line.split(",") for line in lines[1:]]
    return {(r[0], r[1], r[2]) for r in rows if r[0] in SYMBOLS and str(first) <= r[1] <= str(last)}
