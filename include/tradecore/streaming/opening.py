"""A service from settings: which symbols, whose keys, which file."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import cast

import psycopg

from tradecore.errors import AuthFailed, ConfigError
from tradecore.feeds.alpaca_history import AlpacaHistory
from tradecore.feeds.alpaca_rest import ADDRESS as DATA_ADDRESS
from tradecore.feeds.alpaca_stream import ADDRESS, FEEDS, AlpacaLine, StreamOptions
from tradecore.feeds.http import Limits
from tradecore.settings import Settings
from tradecore.storage import bars as stored
from tradecore.storage import throttle
from tradecore.storage.connection import prepare
from tradecore.streaming.replay import ReplayLine
from tradecore.streaming.service import Line, Pace, Service
from tradecore.streaming.store import Keeping, Store

REQUESTS_PER_MINUTE = 180  # of Alpaca's 200, shared with everything else that asks for data with this key
LIMITS = Limits(timeout_s=10.0, attempts=2, backoff_s=0.5, max_wait_s=10.0)  # the service itself tries for ever
Lines = Callable[[datetime | None], AbstractAsyncContextManager[Line]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a person asks of the command; empty: from the configuration. replay: a file in the place of Alpaca."""

    symbols: tuple[str, ...] = ()
    feed: str = "iex"
    source: str = ""
    trades: bool = True
    bars: bool = True
    replay: Path | None = None
    speed: float = 1.0
    since_at: datetime | None = None
    oldest_h: float = 24.0
    silence_s: float = 0.0
    codec: str = "msgpack"
    pace: Pace | None = None


def open_service(
    settings: Settings,
    connect: Callable[[], psycopg.Connection],
    wanted: Wanted,
    now: Callable[[], datetime],
) -> Service:
    """Return the service that was asked for. Raises ConfigError, AuthFailed without keys, NoDatabase."""
    with connect() as conn:
        ids = _instruments(settings, conn, wanted.symbols, now().date())
    history = None
    if wanted.replay is not None:
        source = wanted.source or f"replay:{wanted.replay.name}"
        open_line = _replays(wanted.replay, wanted.speed, tuple(ids))
    else:
        source = wanted.source or f"alpaca:{wanted.feed}"
        open_line = _alpaca(settings, wanted, tuple(ids))
        history = _history(settings, wanted, connect, now) if wanted.feed != "test" else None
    keeping = Keeping(oldest=timedelta(hours=wanted.oldest_h))
    return Service(
        source=source,
        ids=ids,
        store=Store(connect, source=source, ids=tuple(ids.values()), now=now, keeping=keeping),
        open_line=open_line,
        now=now,
        history=history,
        bars=wanted.bars,
        trades=wanted.trades,
        since_at=wanted.since_at,
        pace=wanted.pace,
    )


def _instruments(settings: Settings, conn: psycopg.Connection, symbols: Sequence[str], today: date) -> dict[str, int]:
    """Return the instruments by symbol: those named, or the members of the universe that have not left it."""
    universe = settings.trading.universe
    wanted = symbols or [s for s, m in universe.members.items() if m.member_to is None or today < m.member_to]
    unknown = [s for s in wanted if s not in universe.members]
    if unknown:
        raise ConfigError(
            f"{', '.join(unknown)}: not in the universe {universe.name!r}.",
            next_step=f"add them to universe.symbols in {settings.config_path.name}, or correct --symbols",
            value=list(symbols),
        )
    members = stored.read_universe(conn, universe.name)
    if {m.instrument.symbol for m in members} != set(universe.members):
        from tradecore import market  # brings the strategies with their compiler: only where something is new
        from tradecore.context import book_calendar

        members = market.sync_members(conn, settings, book_calendar(settings))
    conn.commit()
    known = {m.instrument.symbol: m.instrument.instrument_id for m in members}
    return {s: known[s] for s in wanted}


def _replays(path: Path, speed: float, symbols: Sequence[str]) -> Lines:
    ReplayLine(path, speed=speed, symbols=symbols, resume_at=None)  # refuses what cannot be before anything begins

    def open_line(resume_at: datetime | None) -> AbstractAsyncContextManager[Line]:
        return cast(
            AbstractAsyncContextManager[Line], ReplayLine(path, speed=speed, symbols=symbols, resume_at=resume_at)
        )

    return open_line


def _keys(settings: Settings) -> tuple[str, str]:
    if settings.alpaca is None:
        raise AuthFailed(
            "the live stream needs a key of Alpaca's: ALPACA_API_KEY and ALPACA_SECRET_KEY are not set.",
            next_step="put them into .env (a free paper account has them), or replay a file: --replay FILE",
        )
    return settings.alpaca.api_key.get_secret_value(), settings.alpaca.secret_key.get_secret_value()


def _alpaca(settings: Settings, wanted: Wanted, symbols: Sequence[str]) -> Lines:
    key, secret = _keys(settings)
    if wanted.feed not in FEEDS:
        raise ConfigError(
            f"--feed is {wanted.feed!r}; there are {', '.join(FEEDS)}.", next_step="iex is free", value=wanted.feed
        )
    try:
        options = StreamOptions(
            symbols=tuple(symbols),
            trades=wanted.trades,
            bars=wanted.bars,
            feed=wanted.feed,
            base_url=settings.alpaca_stream_url or ADDRESS,
            codec=wanted.codec,
            api_key=key,
            secret_key=secret,
        )
    except ValueError as error:
        raise ConfigError(f"the stream cannot be opened: {error}.", next_step="see `stream --help`") from None

    def open_line(resume_at: datetime | None) -> AbstractAsyncContextManager[Line]:
        return cast(AbstractAsyncContextManager[Line], AlpacaLine(options, wanted.silence_s or None))

    return open_line


def _history(
    settings: Settings, wanted: Wanted, connect: Callable[[], psycopg.Connection], now: Callable[[], datetime]
) -> AlpacaHistory:
    key, secret = _keys(settings)
    account = f"data:alpaca:{hashlib.sha256(key.encode()).hexdigest()[:12]}"  # the bucket that feeds take from, too

    def pace() -> None:
        with connect() as conn:
            wait_s = throttle.take_of(prepare(conn), account, allowed=REQUESTS_PER_MINUTE, now=now())
        time.sleep(wait_s)

    try:
        return AlpacaHistory(
            api_key=key,
            secret_key=secret,
            feed="sip" if wanted.feed == "delayed_sip" else wanted.feed,
            pace=pace,
            limits=LIMITS,
            base_url=settings.alpaca_data_url or DATA_ADDRESS,
        )
    except ValueError as error:
        raise ConfigError(f"ALPACA_DATA_URL: {error}.", next_step="correct it in .env, or leave it empty") from None
