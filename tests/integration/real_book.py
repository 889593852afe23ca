"""A paper book over the sample; Alpaca's stand-in in this process, and one clock for both that the test moves."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
from parity_case import configure

from alpaca_standin.faults import Fault
from alpaca_standin.market import Market, Sessions, load_bars
from alpaca_standin.state import Config, State
from alpaca_standin.transport import InProcess
from alpaca_standin.venue import Venue
from tradecore import pipeline
from tradecore.execution.alpaca import AlpacaBroker
from tradecore.execution.broker import Desk
from tradecore.settings import Settings

REPO = Path(__file__).resolve().parents[2]
SESSIONS = Sessions.load(REPO / "include/tradecore/data/sessions_XNYS.csv")
BOOK, ACCOUNT = "alpaca", "paper"
HISTORY = date(2004, 9, 1)


@dataclass
class Hands:
    """The clock that the test moves; sleeping moves it too, and the venue with it."""

    now: datetime
    slept: list[float] = field(default_factory=list)

    def clock(self) -> datetime:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += timedelta(seconds=seconds)


class RealBook:
    """The book, its venue and its hands. `stage(name, day)` runs one stage of a session."""

    def __init__(self, tmp_path: Path, database_url: str, conn: psycopg.Connection, **changes: Any) -> None:
        self.conn = conn
        self.hands = Hands(now=datetime(2005, 2, 1, tzinfo=UTC))
        config = {
            "book": {"name": BOOK, "account": ACCOUNT, "broker": changes.pop("broker", "alpaca-paper")},
            **changes,
        }
        environ = {"ALPACA_API_KEY": "STANDIN-KEY", "ALPACA_SECRET_KEY": "standin-secret"}
        self.settings: Settings = configure(tmp_path, database_url, config, **environ)
        market = Market(SESSIONS, load_bars(REPO / "include/sample_data", SESSIONS, 1))
        self.venue = Venue(State.new(Config(partial_fill_frac=Decimal(0))), market, self.hands.clock)
        self.desk = self.open_desk()

    def open_desk(self, *, live: bool = False) -> Desk:
        """A desk of its own, as each process has one."""
        broker = AlpacaBroker(
            api_key="STANDIN-KEY",
            secret_key="standin-secret",
            live=live,
            clock=self.hands.clock,
            timeout_s=self.settings.trading.execution.http_timeout_s,
            base_url="http://127.0.0.1:1",
            transport=InProcess(self.venue),
        )
        return Desk(broker=broker, clock=self.hands.clock, sleep=self.hands.sleep)

    def open(self, before: date) -> None:
        """Load the history before a session and open the book at the close before it."""
        earlier = SESSIONS.previous_close(SESSIONS.on(before).open_at)
        self.hands.now = earlier.close_at + timedelta(hours=1)
        pipeline.load_history(self.settings, self.conn, first=HISTORY, last=earlier.label, now=self.hands.now)
        pipeline.open_book(
            self.settings, self.conn, book=BOOK, before=before, now=self.hands.now, desk=lambda record: self.desk
        )

    def context(self, day: date) -> pipeline.Context:
        return pipeline.context(
            self.settings, self.conn, book=BOOK, session_date=day, now=self.hands.now, desk=self.desk
        )

    def stage(self, name: str, day: date) -> dict[str, object]:
        return getattr(pipeline, name)(self.context(day))

    def decide(self, day: date) -> dict[str, object]:
        """Run a session from ingest to its approval, half an hour after the close."""
        self.to(day, hours=20, minutes=0, new_york=False)
        self.hands.now = SESSIONS.on(day).close_at + timedelta(minutes=30)
        for name in ("ingest", "validate"):
            self.stage(name, day)
        assert pipeline.turn(self.context(day))
        self.stage("settle", day)
        for name in pipeline.strategies(self.context(day)):
            pipeline.signal(self.context(day), name)
        self.stage("risk", day)
        planned = self.stage("plan", day)
        self.stage("report", day)
        self.stage("approve", day)
        return planned

    def to(self, day: date, hours: int, minutes: int = 0, *, new_york: bool = True) -> None:
        """Move the clock to a time of a day (New York's standard time, or UTC)."""
        self.hands.now = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(
            hours=hours + (5 if new_york else 0), minutes=minutes
        )

    def faults(self, *kinds: str, **more: Any) -> None:
        self.venue.faults.faults.extend(Fault(kind=kind, **more) for kind in kinds)

    def orders(self, day: date) -> list[tuple[str, int, str, str]]:
        """(symbol, quantity, status, its detail) of a session's newest sheet."""
        rows = self.conn.execute(
            "SELECT s.symbol, o.order_qty_e6 / 1000000, o.status, o.status_detail FROM orders o"
            " JOIN instrument_symbols s USING (instrument_id) WHERE o.book = %s AND o.bar_end_at = %s"
            " AND o.order_type <> 'twap' ORDER BY o.line_no",
            (BOOK, SESSIONS.on(day).close_at),
        ).fetchall()
        self.conn.rollback()
        return [(r[0], int(r[1]), r[2], r[3]) for r in rows]

    def history(self, order_id: str) -> list[str]:
        rows = self.conn.execute(
            "SELECT status FROM order_events WHERE client_order_id = %s ORDER BY event_no", (order_id,)
        ).fetchall()
        self.conn.rollback()
        return [r[0] for r in rows]

    @property
    def posts(self) -> dict[str, int]:
        """POSTs of orders that arrived, by client order id."""
        return dict(self.venue.state.counters.received)

    @property
    def accepted(self) -> int:
        return self.venue.state.counters.posts_accepted
