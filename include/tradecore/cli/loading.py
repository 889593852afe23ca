"""History in parts, and its repair: load, progress, repair, and whose bar counted where two vendors differ."""

from __future__ import annotations

from typing import Annotated

import typer

from tradecore.cli.replaying import data
from tradecore.cli.shell import Day, Json, connection, load_settings, now, parse_day, show

Symbols = Annotated[str, typer.Option(help="Comma-separated; default: all members.")]


@data.command("load")
def load(
    first: Day,
    last: Day,
    symbols: Symbols = "",
    batch: Annotated[int, typer.Option(min=1, max=500, help="Symbols fetched at once.")] = 25,
    as_json: Json = False,
) -> None:
    """Load and validate a range part by part. Cut off, the same command goes on where it was.

    Example: python -m tradecore data load 2000-03-01 2013-03-01
    """
    from tradecore import loading

    found = load_settings()
    with connection(found) as conn:
        parts = loading.begin(
            found,
            conn,
            first=parse_day(first),
            last=parse_day(last),
            batch=batch,
            symbols=symbols.split(",") if symbols else None,
            now=now(),
        )
        for part in parts:
            if not part.done:
                loading.run(found, conn, part, now())
                typer.echo(f"  {loading.progress(conn, part.load_id)[0].text()}", err=True)
        result = loading.finish(found, conn, parts[0].load_id, now(), lambda text: typer.echo(f"  {text}", err=True))
        result |= {"skipped": sum(p.done for p in parts), "parts": len(parts)}
        text = loading.progress(conn, parts[0].load_id)[0].text()
    show(result, as_json, text)


@data.command("progress")
def progress(as_json: Json = False) -> None:
    """Show how far the newest loads are. Example: python -m tradecore data progress"""
    from tradecore import loading

    found = load_settings()
    with connection(found) as conn:
        known = loading.progress(conn)
    lines = [p.text() for p in known]
    show([{"load": p.load_id, "done": p.done, "parts": p.parts, "bars": p.bars} for p in known], as_json,
         "\n".join(lines) or "nothing was loaded in parts yet")  # fmt: skip


@data.command("repair")
def repair(first: Day, last: Day, symbols: Symbols = "", as_json: Json = False) -> None:
    """Ask again for bars that a range lacks or that were rejected, of the second vendor too.

    Example: python -m tradecore data repair 2005-01-03 2005-03-31
    """
    from tradecore import repair as repairing

    found = load_settings()
    with connection(found) as conn:
        result = repairing.repair(
            found,
            conn,
            first=parse_day(first),
            last=parse_day(last),
            now=now(),
            symbols=symbols.split(",") if symbols else None,
        )
    show(result, as_json)


@data.command("decisions")
def decisions(first: Day, last: Day, as_json: Json = False) -> None:
    """Show whose bar counted where the first vendor's was missing or in doubt: both values, and why.

    Example: python -m tradecore data decisions 2005-01-03 2005-03-31
    """
    from tradecore.storage import arbitrations

    found = load_settings()
    where = {"source": found.trading.data.feed, "timeframe": found.trading.book.timeframe}
    with connection(found) as conn:
        span = {"first": parse_day(first), "last": parse_day(last)}
        rows = conn.execute(arbitrations.SQL["decision_log"], {**where, **span}).fetchall()
    names = ("decided_at", "session", "bar_end_at", "symbol", "reason", "counts", "second", "difference_frac",
             "first_close", "second_close")  # fmt: skip
    records = [dict(zip(names, row, strict=True)) for row in rows]
    lines = [
        f"{r['session']} {r['symbol']:<6} {r['reason']:<10} {where['source']} {_price(r['first_close'])} against "
        f"{r['second']} {_price(r['second_close'])}: {r['counts']} counts"
        for r in records
    ]
    show(records, as_json, "\n".join(lines) or "no bar of this range was in doubt")


def _price(value: object) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
