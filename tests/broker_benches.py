"""Where a conformance case finds each broker, and what a broker lacks, with the reason.

Alpaca's broker works on the stand-in, over HTTP and in this process; the simulated venue on PostgreSQL.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import requests
from urllib3.connection import HTTPConnection
from urllib3.exceptions import MaxRetryError, NewConnectionError

from alpaca_standin.clock import Clock
from alpaca_standin.faults import Fault
from alpaca_standin.market import Market, Sessions, bars_from_rows
from alpaca_standin.server import App, Server
from alpaca_standin.state import Config, State
from alpaca_standin.transport import InProcess
from alpaca_standin.venue import Venue
from broker_conformance import BRACKET, CHECKS, HOURS, LINE, MOVES, OTHERS, REPLACE, TYPES
from tradecore.execution.alpaca import AlpacaBroker
from tradecore.execution.broker import Broker, BrokerOrder, OrderRequest, Permit
from tradecore.execution.simulated import SimulatedBroker, record_settled
from tradecore.storage import books
from tradecore.storage.books import BookRecord
from tradecore.units import MONEY_SCALE, QTY_SCALE, to_quanta

CALENDAR = Path(__file__).resolve().parents[1] / "include" / "tradecore" / "data" / "sessions_XNYS.csv"
SESSIONS = Sessions.load(CALENDAR)
EVENING = datetime(2026, 11, 24, 1, tzinfo=UTC)  # 20:00 in New York on the 23rd
CASH = Decimal(100_000)
# Thanksgiving is the 26th, a half-day the 27th. A print of the stand-in has a quarter of its bar's volume.
ROWS = [
    ("2026-11-23", "AAPL", "98", "101", "97", "100", 4_000_000),
    ("2026-11-24", "AAPL", "100", "104", "99", "102", 4_000_000),
    ("2026-11-25", "AAPL", "103", "106", "95", "105", 4_000_000),
    ("2026-11-27", "AAPL", "107", "108", "104", "104", 4_000_000),
    ("2026-11-23", "THIN", "10", "11", "9", "10", 100),
    ("2026-11-24", "THIN", "10", "11", "9", "10", 100),
    ("2026-11-25", "THIN", "10", "12", "9", "11", 100),
    ("2026-11-27", "THIN", "11", "12", "10", "11", 100),
]
THIN_VOLUME = 25
SPARSE = ("equity", "multiplier", "last_equity", "status", "trading_blocked", "created_at")
ABSENT = ("buying_power", "shorting_enabled", "portfolio_value", "currency", "user_configurations")


def new_york(day: int, hour: int, minute: int = 0) -> datetime:
    """Return a New York wall time of November 2026 as UTC."""
    return datetime(2026, 11, day, tzinfo=UTC) + timedelta(hours=hour + 5, minutes=minute)


class Bench:
    """A broker, its market, and the hands that move both.

    lacks: what a case may need and the broker has not, and why. refuses: what it refuses as not_built, each time.
    """

    broker: Broker
    lacks: dict[str, str] = {}
    refuses: tuple[str, ...] = ()
    start = EVENING - timedelta(days=1)
    timeout_s = 10.0  # of the broker's line; a busy machine is no fault of it
    can_short = True
    fee = Decimal(0)
    many_orders, many_fills = 505, 105
    account_number: str
    now: datetime = EVENING

    def send(self, client_order_id: str, permit: dict[str, Any] | None = None, **changes: Any) -> BrokerOrder:
        """Send a market day order to buy 10 AAPL, but for what is given."""
        wanted = {"client_order_id": client_order_id, "symbol": "AAPL", "qty": Decimal(10), **changes}
        return self.broker.submit(OrderRequest(**wanted), self.permit(client_order_id, **(permit or {})))

    def replace(
        self,
        order: BrokerOrder,
        client_order_id: str,
        qty: Decimal,
        limit_price: Decimal | None,
        permit: dict[str, Any] | None = None,
    ) -> BrokerOrder:
        return self.broker.replace(
            order.broker_order_id,
            client_order_id=client_order_id,
            qty=qty,
            limit_price=limit_price,
            permit=self.permit(client_order_id, **(permit or {})),
        )

    def permit(self, order_id: str, **changes: Any) -> Permit:
        fitting = {
            "client_order_id": order_id,
            "account_number": self.account_number,
            "live": self.broker.live,
            "not_before": self.now - timedelta(hours=1),
            "not_after": self.now + timedelta(hours=1),
        }
        return Permit(**{**fitting, **changes})

    def go(self, day: int, hour: int, minute: int = 0) -> None:
        """Go on to a New York wall time of November 2026."""
        self.move(new_york(day, hour, minute))

    def wait(self, seconds: float) -> None:
        self.move(self.now + timedelta(seconds=seconds))

    def move(self, to: datetime) -> None:
        raise NotImplementedError

    def cash_after(self, qty: Decimal, price: Decimal) -> Decimal:
        return CASH - qty * price - self.fee


class StandinBench(Bench):
    """AlpacaBroker on the stand-in; subclasses give the line between them."""

    def __init__(self) -> None:
        self.config = Config(partial_fill_frac=Decimal(0), rate_limit_per_min=0, cash_usd=CASH)
        self.account_number, self.secret = self.config.account_number, self.config.secret_key

    @staticmethod
    def market() -> Market:
        names = ("time", "symbol", "open", "high", "low", "close", "volume")
        return Market(SESSIONS, bars_from_rows([dict(zip(names, row, strict=True)) for row in ROWS], SESSIONS))

    def connect(self, **line: Any) -> None:
        self.line = line
        self.broker = AlpacaBroker(
            api_key=self.config.key_id,
            secret_key=self.config.secret_key,
            live=False,
            clock=lambda: self.now,
            timeout_s=self.timeout_s,
            **line,
        )

    def wait_no_longer_than(self, timeout_s: float) -> None:
        """Give the broker another time-out, once it knows its account."""
        self.timeout_s = timeout_s
        self.connect(**self.line)
        self.broker.account()

    @property
    def venue(self) -> Venue:
        raise NotImplementedError

    @property
    def posts(self) -> int:
        return self.venue.state.counters.posts_received

    def move(self, to: datetime) -> None:
        self.now = to
        self.venue.advance(to)

    def next_open(self) -> None:
        self.go(24, 9, 30)

    def later_open(self) -> None:
        self.go(25, 9, 30)

    def fault(self, kind: str, **target: Any) -> None:
        """Let the next request of that kind meet a fault; the one before has fired."""
        assert len(self.venue.faults.fired) == len(self.venue.faults.faults), "a fault did not fire"
        self.venue.faults.faults.append(Fault(kind=kind, **target))

    def by_hand(self, **body: Any) -> None:
        self.venue.place_by_hand(body)

    def activity(self, kind: str, **more: Any) -> None:
        self.venue.add_activity(kind, **more)

    def split(self, symbol: str, ratio: int) -> None:
        self.venue.split(symbol, ratio, 1)

    def asset(self, **flags: dict[str, Any]) -> None:
        self.venue.configure(assets=flags)

    def whole_shares_only(self) -> None:
        self.asset(AAPL={"fractionable": False})

    def sparse_account(self) -> None:
        self.venue.configure(null_fields=SPARSE, missing_fields=ABSENT)

    def change_key(self) -> None:
        self.venue.configure(key_id="ANOTHER-KEY")


class InProcessBench(StandinBench):
    """The broker's requests go to the venue's own function."""

    def __init__(self) -> None:
        super().__init__()
        self._venue = Venue(State.new(self.config), self.market(), lambda: self.now)
        self.transport = InProcess(self._venue)
        self.connect(transport=self.transport, base_url="http://127.0.0.1:1")

    @property
    def venue(self) -> Venue:
        return self._venue

    def line_down(self) -> None:
        def refuse(step: str) -> None:
            cause = NewConnectionError(HTTPConnection("127.0.0.1"), "refused")
            raise requests.exceptions.ConnectionError(MaxRetryError(None, "/", cause))  # type: ignore[arg-type]

        self.transport.around = refuse


class HttpBench(StandinBench):
    """The broker's requests go over HTTP on loopback."""

    def __init__(self) -> None:
        super().__init__()
        clock = Clock(base_at=EVENING, base_wall_s=0, speed=0)
        self.app = App(self.market, lambda: self.config, clock, None)
        self.server = Server(("127.0.0.1", 0), self.app)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.connect(base_url=f"http://127.0.0.1:{self.server.server_address[1]}")

    @property
    def venue(self) -> Venue:
        return self.app.venue

    def move(self, to: datetime) -> None:
        with self.app.lock:
            self.app.clock.set(to, 0)
            super().move(to)

    def line_down(self) -> None:
        self.close()
        self.broker._line._session.close()  # type: ignore[attr-defined]  # a kept connection would still be served

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class SimulatedBench(Bench):
    """SimulatedBroker on PostgreSQL; bars settle as the fill kernel would settle them: at the open, with its volume."""

    lacks = {
        LINE: "orders and ledger are one transaction of one database: there is no line that could break",
        CHECKS: "limits of the account are the pre-trade checks' own, made before an order gets here",
        OTHERS: "nobody else places orders in a simulated account",
        HOURS: "no cut-offs: an order is for the next bar until that bar has settled; the permit's window binds",
        MOVES: "splits, dividends and fees are booked by settle itself",
    }
    refuses = (TYPES, REPLACE, BRACKET)  # the fill kernel fills market orders at the next open
    fee = Decimal("0.01")
    account_number = "sim-account"

    def __init__(self, conn: psycopg.Connection) -> None:
        self.conn = conn
        self.cash, self.held, self.bars = CASH, dict[str, Decimal](), [date(2026, 11, 24), date(2026, 11, 25)]
        self.record = BookRecord(
            book="sim",
            kind="simulated",
            account=self.account_number,
            calendar="XNYS",
            currency="USD",
            timeframe="1d",
            source="csv",
            universe="two",
            inception_at=new_york(23, 16),
        )
        fields = {name: getattr(self.record, name) for name in BookRecord.__slots__}
        conn.execute(books.SQL["add_book"], {**fields, "now": EVENING})
        self.ids: dict[str, int] = {}
        for symbol in ("AAPL", "THIN"):
            row = conn.execute(
                "INSERT INTO instruments (calendar, currency, tick_e4, qty_step_e6) VALUES ('XNYS', 'USD', 100, 1)"
                " RETURNING instrument_id"
            ).fetchone()
            assert row is not None
            self.ids[symbol] = row[0]
            conn.execute(
                "INSERT INTO instrument_symbols (symbol, valid_from, instrument_id) VALUES (%s, '2000-01-03', %s)",
                (symbol, row[0]),
            )
        self._store_state(self.record.inception_at, {"AAPL": Decimal(100), "THIN": Decimal(10)})
        self.broker = SimulatedBroker(conn, self.record, lambda: self.now)

    @property
    def posts(self) -> int:
        return self.conn.execute("SELECT FROM venue_orders").rowcount

    def move(self, to: datetime) -> None:
        self.now = to

    def whole_shares_only(self) -> None:
        self.conn.execute("UPDATE instruments SET qty_step_e6 = 1000000")

    def next_open(self) -> None:
        """Settle the next bar: every open order is filled at its open, THIN with no more than a print's volume."""
        label = self.bars.pop(0)
        bar_end = new_york(label.day, 16)
        opens = {symbol: Decimal(first) for day, symbol, first, *_ in ROWS if day == str(label)}
        working = self.conn.execute(
            "SELECT client_order_id, symbol, qty_e6 FROM venue_orders WHERE status IN ('open', 'partial')"
        ).fetchall()
        for number, (order_id, symbol, qty_e6) in enumerate(working, start=1):
            ordered = Decimal(qty_e6) / QTY_SCALE
            qty = min(ordered, Decimal(THIN_VOLUME)) if symbol == "THIN" else ordered
            self._fill(order_id, number, bar_end, symbol, ordered, qty, opens[symbol])
        self._store_state(bar_end, opens)
        record_settled(self.conn, "sim", bar_end)
        self.now = bar_end

    later_open = next_open

    def _fill(
        self,
        order_id: str,
        number: int,
        bar_end: datetime,
        symbol: str,
        ordered: Decimal,
        qty: Decimal,
        price: Decimal,
    ) -> None:
        qty_e6, price_e4 = to_quanta(qty, QTY_SCALE), to_quanta(price, MONEY_SCALE)
        self.conn.execute(
            "INSERT INTO intents (client_order_id, book, account, bar_end_at, version, instrument_id, line_no,"
            " order_qty_e6, order_type, time_in_force, remainder, ref_price_e4, next_bar_end_at, reason)"
            " VALUES (%s, 'sim', %s, %s, %s, %s, %s, %s, 'market', 'day', 'carry', %s, %s, '')",
            (
                order_id,
                self.account_number,
                self.now,
                number,
                self.ids[symbol],
                number,
                to_quanta(ordered, QTY_SCALE),
                price_e4,
                bar_end,
            ),
        )
        ends = "FILLED" if qty == ordered else "PARTIAL"
        for status in ("PLANNED", "SUBMITTING", "ACKED", ends):
            books.add_order_events(self.conn, [order_id], status, bar_end=bar_end, now=bar_end)
        fee_e4 = to_quanta(self.fee, MONEY_SCALE)
        fill = (f"f{bar_end:%d}-{number}", order_id, "sim", bar_end, number, self.ids[symbol])
        self.conn.execute(books.SQL["add_fill"], (*fill, qty_e6, price_e4, price_e4, fee_e4))
        self.cash -= qty * price + self.fee
        self.held[symbol] = self.held.get(symbol, Decimal(0)) + qty

    def _store_state(self, bar_end: datetime, marks: dict[str, Decimal]) -> None:
        equity = self.cash + sum((qty * marks[symbol] for symbol, qty in self.held.items()), Decimal(0))
        cash_e4, equity_e4 = to_quanta(self.cash, MONEY_SCALE), to_quanta(equity, MONEY_SCALE)
        scalars = (cash_e4, equity_e4, equity_e4, equity_e4, 0, 0, 0, 0, 0, 0)
        self.conn.execute(books.SQL["add_state"], ("sim", bar_end, bar_end.date(), *scalars, "hash", None, "", ""))
        for symbol, qty in self.held.items():
            key = ("sim", bar_end, self.ids[symbol])
            qty_e6, mark_e4 = to_quanta(qty, QTY_SCALE), to_quanta(marks[symbol], MONEY_SCALE)
            self.conn.execute(books.SQL["add_position"], (*key, qty_e6, mark_e4, 0))
            if qty:
                cost_e4 = to_quanta(abs(qty) * marks[symbol], MONEY_SCALE)
                self.conn.execute(books.SQL["add_lot"], (*key, 0, qty_e6, cost_e4, 0))


BENCHES: dict[str, type[Bench]] = {
    "alpaca-http": HttpBench,
    "alpaca-in-process": InProcessBench,
    "simulated": SimulatedBench,
}


@contextmanager
def opened(name: str, conn: psycopg.Connection) -> Iterator[Bench]:
    """Set a broker up for one case; nothing of it stays."""
    kind = BENCHES[name]
    bench = SimulatedBench(conn) if kind is SimulatedBench else kind()
    try:
        yield bench
    finally:
        conn.rollback()
        if isinstance(bench, HttpBench):
            bench.broker._line._session.close()  # type: ignore[attr-defined]
            bench.close()
