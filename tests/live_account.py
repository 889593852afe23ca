"""All that real money needs, pointed at the stand-in: live keys, a live book, the flag on, the number agreeing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from alpaca_standin.client import Standin, running
from tradecore.sessions import HEADER, TABLES

REPO = Path(__file__).resolve().parents[1]
BOOK, ACCOUNT, NUMBER = "money", "live-account", "LIVE00000001"


@contextmanager
def venue_of_today(*more: str) -> Iterator[Standin]:
    """Run the stand-in with a live account on the real clock; its prices are the sample's, years ago."""
    start = datetime.now(UTC) - timedelta(seconds=1)
    options = ["--start", start.isoformat(), "--speed", "1", "--account-number", NUMBER, "--rate-limit", "0", *more]
    with running(*options) as standin:
        yield standin


def environment(standin: Standin) -> dict[str, str]:
    """Return the environment's part: nothing in it says paper or demo."""
    return {
        "PAPER_TRADING": "false",
        "DEMO_MODE": "false",
        "ALPACA_API_KEY": "STANDIN-KEY",
        "ALPACA_SECRET_KEY": "standin-secret",
        "ALPACA_BASE_URL": standin.url,
    }


def write_profile(path: Path, prices: Path, **execution: Any) -> None:
    """Write the sample's profile with a live book that orders something nearly every session."""
    config = yaml.safe_load((REPO / "include/config/trading.yaml").read_text())
    config["book"] |= {"name": BOOK, "account": ACCOUNT, "broker": "alpaca-live"}
    config["data"]["options"] = {"folder": str(prices)}
    config["strategies"] = {"buy_and_hold": {}}  # a book without a share wants to buy, session by session
    config["execution"] |= {"requests_per_minute": 10_000} | execution  # the stand-in's own limit is off
    path.write_text(yaml.safe_dump(config, sort_keys=False))


def open_now(folder: Path, open_for: timedelta = timedelta(hours=2)) -> tuple[date, datetime, datetime]:
    """Write a calendar on which a session has closed an hour ago and the next one is open, and prices up to the first.

    open_for: how long the other one stays open. Returns the closed session's label, and when the other one opens and
    closes. Files: sessions.csv and feed/.
    """
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    today = now.date()
    closed, closed_at = today - timedelta(days=1), now - timedelta(minutes=60)
    opens, closes = now - timedelta(minutes=30), now + open_for
    lines = [line for line in (TABLES / "sessions_XNYS.csv").read_text().splitlines()[1:] if line < "2013-03-02"]
    lines += [f"{closed},{(closed_at - timedelta(hours=1)).isoformat()},{closed_at.isoformat()}"]
    lines += [f"{today},{opens.isoformat()},{closes.isoformat()}"]
    lines += [
        f"{today + timedelta(days=k)},{today + timedelta(days=k)}T14:30Z,{today + timedelta(days=k)}T21:00Z"
        for k in range(1, 6)
    ]
    (folder / "sessions.csv").write_text("\n".join([HEADER, *lines]) + "\n")
    shutil.copytree(REPO / "include/sample_data", folder / "feed")
    for path in (folder / "feed").glob("[A-Z]*.csv"):
        last = path.read_text().splitlines()[-1]
        with path.open("a") as out:
            out.write(f"{closed},{last.partition(',')[2]}\n")
    return closed, opens, closes


ORDERS = (
    "SELECT b.session_date, o.status, split_part(o.status_detail, ':', 1), count(*) FROM tradecore.orders o"
    " JOIN tradecore.bar_runs b USING (book, bar_end_at) WHERE o.book = %s GROUP BY 1, 2, 3 ORDER BY 1"
)


def assert_nothing_left(standin: Standin, rows: list[tuple[Any, ...]], sessions: int) -> int:
    """Assert that every order of at least so many sessions ended unsent for one reason, and that no POST arrived.

    rows: of ORDERS. Returns how many orders there were.
    """
    assert {(status, why) for _, status, why, _ in rows} == {("NOT_SENT", "window_passed")}, rows[-3:]
    assert len(rows) >= sessions, f"not exercised: {len(rows)} of {sessions} sessions ordered something"
    counters = standin.admin("counters")
    assert counters["requests"] >= sessions, "not exercised: the venue was not asked"
    assert (counters["posts_received"], counters["received"]) == (0, {})
    return sum(count for *_, count in rows)
