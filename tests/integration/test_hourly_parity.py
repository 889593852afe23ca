"""Real hourly bars: the stages, the fold and the day loop agree at every bar, with shorts, brackets and stops.

5,000 hours of EUR/USD of 2017 and 2018 are in the wheel of `backtesting` (AGPL: read at test time, never kept here). A
session is a UTC day's hours that have bars: the market rests from Friday evening to Sunday evening. A name is 100
euros, so that a price has its five decimals; volume is the vendor's count of ticks.
"""

from __future__ import annotations

import csv
import io
import subprocess
import sys
import zipfile
from collections import Counter, defaultdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from parity_case import NOW, REPO, compare, compare_scores, configure, run_fold, run_reference, run_stages

from tradecore import pipeline
from tradecore.context import book_calendar

pytestmark = [pytest.mark.db, pytest.mark.slow, pytest.mark.timeout(3600)]
WHEEL = "backtesting==0.6.6 --hash=sha256:d2fc29ab6e10fbf44b05570720cef144d6d0d2ec8e183977114f2be9c5089b78\n"
HOUR = timedelta(hours=1)
STYLES = ["market_on_open", "market_on_close", "limit", "stop", "stop_limit", "trailing_stop"]
FIRST, LAST = date(2017, 6, 6), date(2017, 6, 12)  # a weekend lies between


@pytest.fixture(scope="module")
def hours() -> list[dict[str, str]]:
    """Return the rows of the wheel's file, fetched once through pip and checked by its hash."""
    folder = REPO / ".local/hourly"
    folder.mkdir(parents=True, exist_ok=True)
    wheels = list(folder.glob("backtesting-*.whl"))
    if not wheels:
        (folder / "requirements.txt").write_text(WHEEL)
        subprocess.run(
            [
                *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"),
                *("--only-binary", ":all:", "--requirement", str(folder / "requirements.txt"), "--dest", str(folder)),
            ],
            check=True,
        )
        wheels = list(folder.glob("backtesting-*.whl"))
    with zipfile.ZipFile(wheels[0]) as wheel:
        text = wheel.read("backtesting/test/EURUSD.csv").decode()
    return list(csv.DictReader(io.StringIO(text)))


def write_market(hours: list[dict[str, str]], folder: Path) -> Path:
    """Write bars and the table of sessions; return the table. A session is the hours of a UTC day that have bars."""
    starts = [datetime.fromisoformat(row[""]).replace(tzinfo=UTC) for row in hours]
    days: dict[date, list[datetime]] = defaultdict(list)
    for start in starts:
        days[start.date()].append(start)
    lines = ["session_date,open_at,close_at"]
    lines += [f"{d},{min(s).isoformat()},{(max(s) + HOUR).isoformat()}" for d, s in sorted(days.items())]
    table = folder.parent / "sessions.csv"
    table.write_text("\n".join(lines) + "\n")
    bars, daily = ["session_date,bar_end_at,open,high,low,close,volume"], ["session_date,open,high,low,close,volume"]
    for start, row in zip(starts, hours, strict=True):
        prices = [f"{float(row[name]) * 100:.3f}" for name in ("Open", "High", "Low", "Close")]
        bars.append(",".join([str(start.date()), (start + HOUR).isoformat(), *prices, row["Volume"]]))
        if start == max(days[start.date()]):  # the feed wants to know of days, too: their last hour stands for them
            daily.append(",".join([str(start.date()), *prices, row["Volume"]]))
    (folder / "EUR100.csv").write_text("\n".join(daily) + "\n")
    (folder / "60m").mkdir()
    (folder / "60m" / "EUR100.csv").write_text("\n".join(bars) + "\n")
    return table


@pytest.mark.parametrize("style", STYLES)
def test_stages_equal_fold_equal_day_loop_on_real_hours(
    hours: list[dict[str, str]], tmp_path: Path, database_url: str, conn: psycopg.Connection, style: str
):
    folder = tmp_path / "market"
    folder.mkdir()
    table = write_market(hours, folder)
    trend: dict[str, Any] = {"kind": "time_series_momentum", "capital_share": 0.5}
    changes: dict[str, Any] = {
        "book": {"calendar": str(table), "timeframe": "60m"},
        "universe": {"members": {"EUR100": {"list_from": "2017-04-19", "tick_usd": "0.001"}}},
        "data": {"options": {"folder": str(folder)}, "restate_sessions": 0, "last_session": "2018-02-06"},
        "strategies": {
            "ma_crossover": {
                "capital_share": 0.5,
                "params": {"short_period": 5, "long_period": 15, "confidence_threshold": 0.3},
            },
            "both_ways": {**trend, "params": {"period": 6, "long_short": True}},
        },
        "risk": {
            "allow_short": True,
            "max_position_size": 1.0,
            "max_exposure": 1.5,
            "max_turnover": 2.0,
            "target_volatility": 1.0,
            "max_daily_loss": 0.005,
        },
        "execution": {
            "order_style": style,
            "limit_collar_bps": 3,
            "stop_trigger_bps": 2,
            "stop_loss_frac": 0.001,
            "take_profit_frac": 0.002,
            "interest_credit_frac": 0.01,
            "borrow_frac": 0.02,
            "remainder": "carry",
            "max_order_age_bars": 3,
        },
    }
    found = configure(tmp_path, database_url, changes)
    sessions = book_calendar(found).sessions_in_range(FIRST, LAST)
    first_bar = date(2017, 6, 1)
    pipeline.load_history(found, conn, first=first_bar, last=LAST, now=NOW)
    stages = run_stages(found, conn, sessions)
    inputs, fold = run_fold(found, conn, sessions)
    compare(stages, inputs, fold, run_reference(found, sessions, first_bar, inputs.symbols, inputs.scores))
    compare_scores(conn, "sim", inputs)
    seen = Counter(dict(conn.execute("SELECT kind, count(*) FROM book_events GROUP BY 1").fetchall()))
    seen["fills"] = len(fold.journal.fills)
    seen["short"] = int((fold.qty_e6 < 0).sum())
    seen["hours"] = len(stages.books)
    print(f"proof: parity on real hourly bars, {style}, {len(sessions)} sessions: {dict(seen)}")
    least = {"hours": 100, "fills": 10, "short": 10, "stop_loss": 1, "borrow_cost": 1, "interest": 2}
    if style in ("market_on_open", "stop"):
        least |= {"fills": 20, "take_profit": 1}
    for what, count in least.items():
        assert seen[what] >= count, f"not exercised: {what} {seen[what]} of {count} in {dict(seen)}"
