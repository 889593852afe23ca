"""Live trades and minute bars: `tradecore stream`."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import psycopg
import typer

from tradecore.cli.shell import Json, app, connection, load_settings, now, show
from tradecore.errors import ConfigError

if TYPE_CHECKING:
    from tradecore.storage.streams import Beat
    from tradecore.streaming.service import Service


@app.command()
def stream(
    symbols: Annotated[str, typer.Option(help="Comma-separated; default: the universe's members.")] = "",
    feed: Annotated[str, typer.Option(help="iex (free), sip, delayed_sip, or test (FAKEPACA).")] = "iex",
    replay: Annotated[
        Path | None, typer.Option(help="A file in the place of Alpaca: .jsonl of its messages, or .csv (also .gz).")
    ] = None,
    speed: Annotated[float, typer.Option(help="Of a replay: 1 its own pace, 60 a minute a second, 0 at once.")] = 1.0,
    trades: Annotated[bool, typer.Option(help="Receive trades.")] = True,
    bars: Annotated[bool, typer.Option(help="Receive minute bars.")] = True,
    since: Annotated[str, typer.Option(metavar="TIME", help="Fetch from there on first: 2026-11-25T14:30Z.")] = "",
    backfill_hours: Annotated[float, typer.Option(help="A gap older than this is not filled by itself.")] = 24.0,
    silence_s: Annotated[float, typer.Option(help="Connect anew after so long without a message; 0: never.")] = 0.0,
    report_s: Annotated[float, typer.Option(help="Seconds between lines of figures in the log.")] = 60.0,
    settle_s: Annotated[float, typer.Option(help="After how long REST knows what has happened.")] = 5.0,
    source: Annotated[str, typer.Option(help="Name of the source in the database; default: alpaca:FEED.")] = "",
    codec: Annotated[str, typer.Option(help="msgpack or json: how messages are sent.")] = "msgpack",
    status: Annotated[bool, typer.Option("--status", help="Say how the streams are, and end.")] = False,
    as_json: Json = False,
) -> None:
    """Write live trades and minute bars into the database, for as long as it runs (SIGTERM ends it in order).

    After a cut, a kill or a night it goes on where it was: what it missed comes from Alpaca's REST, nothing twice. Who
    listens on PostgreSQL's channel tradecore_market is told of every batch. A key has one connection at Alpaca.

    Examples: python -m tradecore stream
              python -m tradecore stream --symbols AAPL,MSFT --feed sip --report-s 10
              python -m tradecore stream --since 2026-11-25T14:30Z
              python -m tradecore stream --replay trades.csv.gz --speed 60
              python -m tradecore stream --status
    """
    from tradecore.storage import connection as storage
    from tradecore.storage import embedded
    from tradecore.streaming.opening import Wanted, open_service
    from tradecore.streaming.service import Pace, figures

    found = load_settings()
    with connection(found) as conn:  # refuses a schema that is not this release's
        if status:
            return _status(conn, as_json)
    wanted = Wanted(
        symbols=tuple(s.strip().upper() for s in symbols.split(",") if s.strip()),
        feed=feed,
        source=source,
        trades=trades,
        bars=bars,
        replay=replay,
        speed=speed,
        since_at=_time(since) if since else None,
        oldest_h=backfill_hours,
        silence_s=silence_s,
        codec=codec,
        pace=Pace(report_s=report_s, settle_s=settle_s),
    )

    def connect() -> psycopg.Connection:
        return storage.connect(found.database_url or embedded.describe(found.home))

    beat = asyncio.run(_until_told(lambda: open_service(found, connect, wanted, now)))
    show({"source": beat.source, "state": beat.state, "messages": beat.messages}, as_json, figures(beat))
    return None


async def _until_told(open_service: Callable[[], Service]) -> Beat:
    """Run a service until SIGTERM or Ctrl-C; the second one ends the process at once."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def told(number: int) -> None:
        stop.set()
        loop.remove_signal_handler(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told, number)
    return await open_service().run(stop)


def _status(conn: psycopg.Connection, as_json: bool) -> None:
    from tradecore.storage import streams
    from tradecore.streaming.service import figures

    beats = streams.heartbeats(conn)
    lines = [
        f"{figures(beat)}, {beat.open_holes} open holes; received until {beat.cursor_at}, last word "
        f"{(now() - beat.beat_at).total_seconds():.0f} s ago" + (f"; {beat.last_error}" if beat.last_error else "")
        for beat in beats
    ]
    rows = [{name: getattr(beat, name) for name in beat.__dataclass_fields__} for beat in beats]
    show(rows, as_json, "\n".join(lines) or "no stream has run yet: python -m tradecore stream --help")


def _time(text: str) -> datetime:
    try:
        at: datetime | None = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise ConfigError(f"--since {text!r} is no time with an offset.", next_step="write it as 2026-11-25T14:30Z")
    return at.astimezone(UTC)
