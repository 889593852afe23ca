"""Which venue a book trades at: opens the desk of a run. Here alone a broker is made."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import psycopg
from psycopg.pq import TransactionStatus

from tradecore.errors import ConfigError
from tradecore.execution.broker import Broker, Desk
from tradecore.execution.simulated import SimulatedBroker
from tradecore.settings import Settings
from tradecore.storage import throttle
from tradecore.storage.books import BookRecord

LIVE = {"alpaca-paper": False, "alpaca-live": True}


def open_desk(
    settings: Settings,
    conn: psycopg.Connection,
    record: BookRecord,
    clock: Callable[[], datetime],
    sleep: Callable[[float], None],
) -> Desk:
    """Return the desk of a book: its broker, the clock that goes on while it waits (aware), and how it waits (seconds).

    The book's kind decides, whatever is configured now: a book that was opened on paper never trades live. Nothing is
    asked of the venue here. Raises ConfigError without keys, or for an address that is not the account's.
    """
    allowed = settings.trading.execution.requests_per_minute
    pace = Pace(conn, record.account, allowed=allowed, clock=clock, sleep=sleep)
    return Desk(broker=_broker(settings, conn, record, clock, pace), clock=clock, sleep=sleep)


class Pace:
    """Takes a token of the account for each request before it leaves, and lets questions wait for theirs.

    An order's token is taken before it is ruled on (submission.py). A cancel, a look-up of one order that is in doubt,
    and a change of one, whose window was looked at already, never wait: what they take is a debt that the others wait
    for. Within a transaction nothing is taken, it would hold the bucket for everybody: it is counted with the next
    request.
    """

    def __init__(
        self,
        conn: psycopg.Connection,
        account: str,
        *,
        allowed: int,
        clock: Callable[[], datetime],
        sleep: Callable[[float], None],
    ) -> None:
        self._conn, self._account, self._allowed = conn, account, allowed
        self._clock, self._sleep = clock, sleep
        self._owed = 0

    def __call__(self, method: str, path: str) -> None:
        """Take what a request costs, before it is made. path: what is asked for, without the host."""
        if method == "POST":
            return
        self._owed += 1
        if self._conn.info.transaction_status != TransactionStatus.IDLE:
            return
        wait_s = throttle.take_of(self._conn, self._account, allowed=self._allowed, now=self._clock(), count=self._owed)
        self._conn.commit()
        self._owed = 0
        urgent = method in ("DELETE", "PATCH") or path.endswith("orders:by_client_order_id")
        if wait_s > 0 and not urgent:
            self._sleep(wait_s)


def _broker(
    settings: Settings, conn: psycopg.Connection, record: BookRecord, clock: Callable[[], datetime], pace: Pace
) -> Broker:
    if record.kind == "simulated":
        return SimulatedBroker(conn, record, clock, order_style=settings.trading.execution.order_style)
    if record.kind not in LIVE:
        raise ConfigError(f"book {record.book!r} is of kind {record.kind!r}, which no broker here serves.")
    live = LIVE[record.kind]
    if settings.alpaca is None:
        kind = "live" if live else "paper"
        raise ConfigError(
            f"book {record.book!r} trades at Alpaca ({kind}), and there are no keys.",
            next_step=f"make keys of the {kind} account on Alpaca's dashboard; set ALPACA_API_KEY and "
            "ALPACA_SECRET_KEY in .env. Without an account: make sandbox, or book.broker: simulated in trading.yaml",
            book=record.book,
        )
    from tradecore.execution.alpaca import AlpacaBroker  # half a second, for books at Alpaca only

    return AlpacaBroker(
        api_key=settings.alpaca.api_key.get_secret_value(),
        secret_key=settings.alpaca.secret_key.get_secret_value(),
        live=live,
        clock=clock,
        timeout_s=settings.trading.execution.http_timeout_s,
        base_url=settings.alpaca.base_url,
        pace=pace,
    )
