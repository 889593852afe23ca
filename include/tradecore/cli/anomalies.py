"""What is odd about the data, and prices adjusted as of a session. Both only read."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tradecore.cli.replaying import data, time_of, trouble_is_2
from tradecore.cli.shell import Json, connection, load_settings, parse_day, show, writable
from tradecore.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tradecore.anomalies import Anomaly
    from tradecore.storage.bars import Member

EXIT_SOME = 1
LINES = 60
First = Annotated[str, typer.Argument(metavar="[FIRST]", help="Session; default: the first that is loaded.")]
Last = Annotated[str, typer.Argument(metavar="[LAST]", help="Session; default: the last that is loaded.")]


@data.command("audit")
def data_audit(
    first: First = "",
    last: Last = "",
    symbols: Annotated[str, typer.Option("--symbols", help="Names, with commas; default: the universe.")] = "",
    as_of: Annotated[str, typer.Option("--as-of", help="As known at a time.")] = "now",
    page: Annotated[Path | None, typer.Option("--page", help="Write the report as a page (HTML).")] = None,
    as_json: Json = False,
) -> None:
    """Report what is odd about the bars of a history: gaps, outliers, splits nobody announced, vendors that disagree.

    Exit 0: nothing; 1: something; 2: error. Example: python -m tradecore data audit 2005-01-03 2005-03-31
    """
    from tradecore import anomalies as audit
    from tradecore.anomalies.page import page as page_of
    from tradecore.symbols import current

    with trouble_is_2():
        found, target = load_settings(), writable(page)
        with connection(found) as conn:
            found = current(found, conn)
            members = _members(conn, found.trading.universe.name, symbols)
            anomalies = audit.audit(
                found,
                conn,
                members,
                first=parse_day(first) if first else None,
                last=parse_day(last) if last else None,
                as_of=time_of(as_of),
            )
            conn.rollback()
        if target is not None:
            text = page_of(
                anomalies,
                source=found.trading.data.feed,
                timeframe=found.trading.book.timeframe,
                names=len(members),
                first=first or "the first bar",
                last=last or "the last",
            )
            target.write_text(text, encoding="utf-8")
    show([asdict(a) for a in anomalies], as_json, _text(anomalies))
    if anomalies:
        raise SystemExit(EXIT_SOME)


def _members(conn: Any, universe: str, symbols: str) -> tuple[Member, ...]:
    from tradecore.storage import bars as stored

    members = stored.read_universe(conn, universe)
    wanted = {name.strip() for name in symbols.split(",") if name.strip()}
    unknown = sorted(wanted - {m.instrument.symbol for m in members})
    if unknown:
        raise ConfigError(
            f"{', '.join(unknown)} is not in universe {universe!r}.",
            next_step=f"name some of {', '.join(m.instrument.symbol for m in members)}",
            symbols=unknown,
        )
    return tuple(m for m in members if not wanted or m.instrument.symbol in wanted)


def _text(found: Sequence[Anomaly]) -> str:
    lines = [
        f"  {a.session}{f' to {a.last}' if a.last != a.session else '':<14} {a.symbol:<6} {a.kind:<18} {a.detail}"
        for a in found[:LINES]
    ]
    more = f"\n  and {len(found) - LINES} more: --json or --page shows all" if len(found) > LINES else ""
    return "\n".join(lines) + more if found else "  nothing odd"


@data.command("adjusted")
def data_adjusted(
    symbol: Annotated[str, typer.Argument(metavar="SYMBOL", help="A name, also a former one.")],
    first: Annotated[str, typer.Argument(metavar="FIRST", help="Session.")],
    last: Annotated[str, typer.Argument(metavar="LAST", help="Session.")],
    as_of: Annotated[str, typer.Option("--as-of", help="A session: what came or was known later is not in it.")] = "",
    forward: Annotated[bool, typer.Option("--forward", help="1 at the first bar, as signals see it.")] = False,
    previous_close: Annotated[
        bool,
        typer.Option("--previous-close", help="Dividends against the close before, as CRSP does."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Print adjusted closes as of a session: date, close, adjusted close, factor. Backward, as vendors publish them.

    Example: python -m tradecore data adjusted AAPL 2005-02-01 2005-03-31 --as-of 2005-02-25
    """
    with trouble_is_2():
        rows = _adjusted(symbol, first, last, as_of, not forward, previous_close)
    text = "\n".join(f"  {r['session']}  {r['close']:>12.4f}  {r['adjusted']:>12.4f}  {r['factor']:.9f}" for r in rows)
    show(rows, as_json, text)


def _adjusted(
    symbol: str, first: str, last: str, as_of: str, backward: bool, previous_close: bool
) -> list[dict[str, Any]]:
    import numpy as np

    from tradecore import prices
    from tradecore.context import book_calendar
    from tradecore.storage import bars as stored
    from tradecore.units import PRICE_SCALE, from_day

    found = load_settings()
    begin, end = parse_day(first), parse_day(last)
    session = parse_day(as_of) if as_of else end
    calendar = book_calendar(found)
    known_at = prices.known_by(found, session) if as_of else None
    with connection(found) as conn:
        sessions = calendar.sessions_in_range(begin, min(end, session))
        bars = prices.panel(found, conn, sessions, [symbol], known_at)
        ids = [i.instrument_id for i in bars.instruments]
        actions = stored.read_actions(
            conn, source=found.trading.data.feed, instruments=ids, after=begin, until=session, as_of=known_at
        )
        conn.rollback()
    factor = prices.factors(
        bars,
        actions,
        as_of=session,
        backward=backward,
        dividends="previous_close" if previous_close else "ex_close",
    )
    adjusted = prices.closes(bars, factor)
    return [
        {
            "session": from_day(int(bars.day[t])),
            "close": float(bars.close[t, 0]) / PRICE_SCALE,
            "adjusted": float(adjusted[t, 0]),
            "factor": float(factor[t, 0]),
        }
        for t in np.flatnonzero(np.isfinite(factor[:, 0]))
    ]
