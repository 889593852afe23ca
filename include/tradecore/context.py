"""Which book, which bar, whose clock: what every stage is given. Opening books, and whose turn it is."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import psycopg

from tradecore import operations, symbols, waiting
from tradecore.config_values import BOOK_NAME
from tradecore.errors import BookError, NotBuilt, OutOfOrder, SessionError
from tradecore.execution.broker import Desk
from tradecore.feeding import feed_of
from tradecore.model import Instrument, new_book
from tradecore.sessions import Calendar
from tradecore.sessions import calendar as open_calendar
from tradecore.settings import Settings
from tradecore.storage import bars, books
from tradecore.storage.books import Axes, BookRecord
from tradecore.storage.connection import book_lock
from tradecore.units import MONEY_SCALE, to_quanta

SETTLED = ("settled", "decided", "closed")
ABANDONED_AFTER_TIMEOUTS = 4  # a slow or retried stage is not given up: each of its tries has one time-out

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One bar of one book. `conn` holds no open transaction between stages; `now` is the shell's clock; `link` leads
    to the log of whoever runs the stage, for alerts; `desk`, the venue, where the shell or a test has opened one."""

    settings: Settings
    conn: psycopg.Connection
    record: BookRecord
    calendar: Calendar
    session_date: date
    bar_end_at: datetime
    now: datetime
    link: str = ""
    desk: Desk | None = None

    @property
    def book(self) -> str:
        return self.record.book

    @property
    def key(self) -> tuple[str, datetime]:
        return self.record.book, self.bar_end_at

    @property
    def previous_bar_end(self) -> datetime:
        return self.calendar.previous_bar_end(self.bar_end_at, self.record.timeframe)

    @property
    def next_bar_end(self) -> datetime:
        return self.calendar.next_bar_end(self.bar_end_at, self.record.timeframe)

    def as_of(self) -> datetime | None:
        """Return as of when this bar's stages read bars and actions: its manifest's time; None (now) without one."""
        row = self.conn.execute(bars.SQL["manifest"], self.key).fetchone()
        return row[0] if row else None

    def manifest_hash(self) -> str:
        """Return the hash of this bar's manifest, '' without one: what is made from the data names them by it."""
        row = self.conn.execute(bars.SQL["manifest"], self.key).fetchone()
        return str(row[3]) if row else ""

    def status(self, bar_end: datetime | None = None) -> str:
        """Return where a bar of this book stands: '' when no run of it has started."""
        row = self.conn.execute(books.SQL["run"], (self.book, bar_end or self.bar_end_at)).fetchone()
        return str(row[0]) if row else ""

    def set_status(self, status: str, outcome: str = "") -> None:
        """Move this bar's run on."""
        self.conn.execute(
            books.SQL["set_run"],
            {"status": status, "outcome": outcome, "now": self.now, "book": self.book, "bar_end": self.bar_end_at},
        )

    def alert(
        self, *, kind: str, severity: str, stage: str, title: str, body: str, next_step: str, key: str = ""
    ) -> None:
        """Put an alert about this bar into the outbox, in the transaction of what it tells about."""
        operations.raise_alert(
            self.settings,
            self.conn,
            severity=severity,
            kind=kind,
            stage=stage,
            title=title,
            body=body,
            next_step=next_step,
            now=self.now,
            book=self.book,
            session_date=self.session_date,
            link=self.link,
            dedup_key=f"{kind}:{self.book}:{self.bar_end_at:%Y%m%dT%H%M}:{key or stage}",
        )


def book_calendar(settings: Settings) -> Calendar:
    """Return the calendar of the configured book."""
    return open_calendar(settings.trading.book.calendar)


def contexts(
    settings: Settings,
    conn: psycopg.Connection,
    *,
    book: str,
    session_date: date,
    now: datetime,
    link: str = "",
    desk: Desk | None = None,
) -> list[Context]:
    """Return a context for each bar of the session, in order.

    Raises NotASession, BookError, and at once what waiting cannot help: OutOfOrder for a session at or before the
    book's inception, SessionError for one that is still to come or lies behind the end of a feed that has one.
    """
    day = book_calendar(settings)
    day.session(session_date)
    record = books.get(conn, book)
    settings = symbols.current(settings, conn)
    conn.rollback()
    if (record.timeframe, record.source) != (settings.trading.book.timeframe, settings.trading.data.feed):
        raise BookError(
            f"book {book!r} trades {record.timeframe} bars from {record.source}, the configuration says "
            f"{settings.trading.book.timeframe} from {settings.trading.data.feed}.",
            next_step="use the profile that the book was opened with (TRADECORE_CONFIG), or another book",
            book=book,
        )
    if record.universe != settings.trading.universe.name:
        raise BookError(
            f"book {book!r} trades universe {record.universe!r}, the configuration says "
            f"{settings.trading.universe.name!r}.",
            next_step="give the universe its old name in trading.yaml, or open another book",
            book=book,
        )
    require_venue(settings, record)
    ends = day.bar_ends(session_date, record.timeframe)
    _require_possible(settings, record, session_date, ends, now)
    return [
        Context(
            settings=settings,
            conn=conn,
            record=record,
            calendar=day,
            session_date=session_date,
            bar_end_at=end,
            now=now,
            link=link,
            desk=desk,
        )
        for end in ends
    ]


def _require_possible(
    settings: Settings, record: BookRecord, session_date: date, ends: Sequence[datetime], now: datetime
) -> None:
    if ends[-1] <= record.inception_at:
        raise OutOfOrder(
            f"session {session_date} lies at or before the inception of book {record.book!r} "
            f"({record.inception_at:%Y-%m-%d}).",
            next_step="choose a later session, or another book (replay_day takes any name)",
            book=record.book,
            session_date=session_date,
            retryable=False,
        )
    if ends[0] > now:
        raise SessionError(
            f"session {session_date} is still to come: its bar ends at {ends[0]:%Y-%m-%d %H:%M} UTC.",
            next_step="choose a session that has closed; without one, the form takes the last that the feed has",
            session_date=session_date,
        )
    last = settings.trading.data.last_session
    if last is not None and session_date > last:
        raise SessionError(
            f"session {session_date} lies behind the end of the {settings.trading.data.feed} feed, {last}.",
            next_step=f"choose a session up to {last}, or take data.last_session out of trading.yaml if there is more",
            session_date=session_date,
        )


def require_venue(settings: Settings, record: BookRecord) -> None:
    """Raise BookError where the configured book was opened at another venue than `book.broker` says now.

    A book never changes its venue: it would go on at the old one, and whoever changed the line would not know.
    """
    wished = settings.trading.book
    if record.book == wished.name and record.kind != wished.broker:
        raise BookError(
            f"book {record.book!r} was opened as {record.kind}, and book.broker is {wished.broker} now: "
            "a book keeps its venue.",
            next_step="give the new book a name of its own (book.name in trading.yaml) and open it: "
            f"python -m tradecore init. Or go on with this one: book.broker: {record.kind}",
            book=record.book,
        )


def context(
    settings: Settings,
    conn: psycopg.Connection,
    *,
    book: str,
    session_date: date,
    now: datetime,
    link: str = "",
    desk: Desk | None = None,
) -> Context:
    """Return the context of a session with one bar. Raises NotBuilt for a book with several bars a session."""
    found = contexts(settings, conn, book=book, session_date=session_date, now=now, link=link, desk=desk)
    if len(found) > 1:
        raise NotBuilt(
            f"book {book!r} has {len(found)} bars a session; the DAGs run books with one.",
            next_step=f"run it through the CLI: python -m tradecore run-session {session_date}",
            book=book,
        )
    return found[0]


def open_book(settings: Settings, conn: psycopg.Connection, *, book: str, before: date, now: datetime) -> BookRecord:
    """Open a book with the configured cash at the session before `before`; one that is open stays as it is.

    Raises BookError for a name that may not be one: reports are kept in a folder of the book's name.
    """
    if not re.fullmatch(BOOK_NAME, book):
        raise BookError(
            f"{book!r} cannot be the name of a book.",
            next_step="start with a-z or 0-9; then also . _ : and -, up to 63 characters in all",
            book=book,
        )
    trading = settings.trading
    day = book_calendar(settings)
    inception = day.bar_ends(day.previous_session(before), trading.book.timeframe)[-1]
    with conn.transaction(), book_lock(conn, book):
        known = books.find(conn, book)
        if known is not None:
            return known
        cash_e4 = to_quanta(settings.initial_cash_usd, MONEY_SCALE)
        account = trading.book.account if book == trading.book.name else book
        conn.execute(
            books.SQL["add_book"],
            {
                "book": book,
                "kind": "simulated",
                "account": account,
                "calendar": trading.book.calendar,
                "currency": trading.book.currency,
                "timeframe": trading.book.timeframe,
                "source": trading.data.feed,
                "universe": trading.universe.name,
                "inception_at": inception,
                "now": now,
            },
        )
        conn.execute(books.SQL["add_cash"], (book, inception, "opening", cash_e4, "opening cash"))
        session = day.session_of(inception)
        conn.execute(books.SQL["start_run"], {"book": book, "bar_end": inception, "session": session, "now": now})
        conn.execute(
            books.SQL["set_run"],
            {"status": "closed", "outcome": "opened", "now": now, "book": book, "bar_end": inception},
        )
        books.save(
            conn,
            name=book,
            bar_end=inception,
            session=session,
            order_ids={},
            book=new_book(cash_e4=cash_e4, n_instruments=0, n_strategies=0, n_lots=0, n_orders=0),
            axes=Axes(instruments=(), strategies=()),
        )
        record = books.get(conn, book)
    conn.commit()
    return record


def session_by_hand(settings: Settings, conn: psycopg.Connection, book: str, started_at: datetime) -> date:
    """Return the session that a run without one means: the book's next as it was when the run started.

    Not as it is now: all tasks of the run mean the same one, also those that follow when it is closed. For a book that
    was not open by then it is the last session that the feed can serve. Raises SessionError where the book's next
    session has not closed yet, or is not in the feed.
    """
    available = last_available_session(settings, conn, started_at)
    row = conn.execute(books.SQL["closed_by"], {"book": book, "at": started_at}).fetchone()
    conn.rollback()
    if row is None or row[0] is None:
        return available
    day = book_calendar(settings)
    following = day.session_of(day.next_bar_end(row[0], books.get(conn, book).timeframe))
    conn.rollback()
    if following <= available:
        return following
    due = day.session(following).close_at + timedelta(minutes=settings.trading.book.run_delay_minutes)
    when = f"it is run from {due:%Y-%m-%d %H:%M} UTC on" if due > started_at else f"the feed ends at {available}"
    raise SessionError(
        f"book {book!r} has run every session that there is; its next is {following}, and {when}.",
        next_step="give a session to run one again, or wait for the next",
        book=book,
        due=following,
    )


def last_available_session(settings: Settings, conn: psycopg.Connection, now: datetime) -> date:
    """Return the last session whose close and delay have passed and that the feed can serve."""
    day = book_calendar(settings)
    last = day.session_at_or_before(now - timedelta(minutes=settings.trading.book.run_delay_minutes))
    end = feed_of(settings).last_session(settings.trading.universe.symbols)
    return last if end is None or end >= last else end


def turn(ctx: Context) -> bool:
    """Tell whether this bar may move the book: its predecessor is closed, or this bar has settled already.

    False means wait. A predecessor that stopped moving (four stage time-outs) is closed without a decision, with an
    alert. One that waits for a person or a venue's window has not stopped until that has passed.
    """
    before = ctx.previous_bar_end
    if ctx.status() in SETTLED:
        ctx.conn.rollback()
        return True
    with ctx.conn.transaction(), book_lock(ctx.conn, ctx.book):
        row = ctx.conn.execute(books.SQL["run"], (ctx.book, before)).fetchone()
        status = str(row[0]) if row else ""
        patience = timedelta(seconds=ABANDONED_AFTER_TIMEOUTS * ctx.settings.trading.book.decision_timeout_s)
        rests = None
        if status == "decided":
            rests = waiting.may_rest_until(ctx.settings, ctx.conn, ctx.calendar, ctx.record, before)
        stuck = row is not None and ctx.now - max(row[2], rests or row[2]) > patience
        if status in ("settled", "decided") and stuck:
            ctx.conn.execute(
                books.SQL["set_run"],
                {
                    "status": "closed",
                    "outcome": "no decision: abandoned",
                    "now": ctx.now,
                    "book": ctx.book,
                    "bar_end": before,
                },
            )
            ctx.alert(
                kind="abandoned",
                severity="error",
                stage="turn",
                key=f"{before:%Y%m%d%H%M}",
                title=f"The run before {ctx.session_date} stopped without a decision",
                body=f"It was {status} and has not moved for {patience}; nothing was sent for it.",
                next_step="look at its failed task in Airflow",
            )
            status = "closed"
    ctx.conn.commit()
    return status == "closed"


def require_turn(ctx: Context) -> None:
    """Raise OutOfOrder unless the predecessor of this bar is closed; called under the book's lock, or to look."""
    if ctx.bar_end_at > ctx.record.inception_at and ctx.status(ctx.previous_bar_end) == "closed":
        return
    row = ctx.conn.execute(books.SQL["last_run"], (ctx.book,)).fetchone()
    if row is None:
        said, first = "it has no run yet", ctx.session_date
    elif row[2] != "closed":
        said, first = f"its last, {row[1]}, is {row[2]} and not closed", row[1]
    else:
        said, first = (
            f"its last is {row[1]}",
            ctx.calendar.session_of(ctx.calendar.next_bar_end(row[0], ctx.record.timeframe)),
        )
    raise OutOfOrder(
        f"session {ctx.session_date} is not the next one of book {ctx.book!r}: {said}.",
        next_step=f"run {first} first: python -m tradecore run-session {first} --book {ctx.book}",
        book=ctx.book,
        session_date=ctx.session_date,
        due=first,
    )


def held_instruments(ctx: Context) -> list[Instrument]:
    """Return what the book holds, or has orders in, before this bar: members, and names that left the universe.

    Bars are fetched before it is this bar's turn: what counts is the newest state that there is by then.
    """
    row = ctx.conn.execute(books.SQL["newest_state_until"], (ctx.book, ctx.previous_bar_end)).fetchone()
    key = {"book": ctx.book, "bar_end": row[0] if row else None}
    ids = [int(r[0]) for r in ctx.conn.execute(books.SQL["held"], key).fetchall()]
    return list(bars.instruments_by_id(ctx.conn, ids).values())


def alert_missed_action(ctx: Context, symbol: str, ex_date: date, kind: str) -> None:
    """Tell a person, once, of a split or dividend that came after its bar had settled: the past is not rewritten."""
    operations.raise_alert(
        ctx.settings,
        ctx.conn,
        severity="error",
        kind="missed_action",
        stage="ingest",
        title=f"A {kind} of {symbol} became known too late",
        body=f"It went ex on {ex_date}; book {ctx.book} held {symbol}, and had settled that session without it. "
        "Adjusted prices are right from now on; quantity and cash of the book stay as they are.",
        next_step=f"see what it should be: run the sessions from {ex_date} in a book of another name (replay_day)",
        now=ctx.now,
        book=ctx.book,
        session_date=ctx.session_date,
        dedup_key=f"missed_action:{ctx.book}:{symbol}:{ex_date}:{kind}",
        link=ctx.link,
    )


def deliver_quietly(ctx: Context) -> None:
    """Try to deliver what is in the outbox; what fails stays there and is retried by `watch`."""
    ctx.conn.commit()
    try:
        operations.deliver(ctx.settings, ctx.conn, ctx.now)
    except (OSError, ValueError, TypeError, LookupError) as error:  # a channel's own library: the stage has committed
        log.warning("alerts stay in the outbox: %s: %s", type(error).__name__, error)
