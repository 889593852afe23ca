"""The stages of a session, one by one or together, and what comes before the first one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tradecore import logs
from tradecore.cli.shell import (
    Bar,
    Book,
    Day,
    Json,
    app,
    compiling,
    connection,
    load_settings,
    now,
    parse_day,
    run_stage,
    show,
)
from tradecore.errors import ConfigError

if TYPE_CHECKING:
    from tradecore.context import Context


@app.command()
def init(
    book: Book = "",
    before: Annotated[
        str, typer.Option(help="Open the book before this session; default: the last session that has closed.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Check configuration and keys, make the tables of a new database, load the warm-up history, open the book. Sends
    nothing.

    Example: python -m tradecore init --before 2004-09-01
    """
    from tradecore import ingestion, market, pipeline, views
    from tradecore.context import book_calendar
    from tradecore.storage import books

    found = load_settings()
    calendar, trading = book_calendar(found), found.trading
    with connection(found, new=True) as conn:
        known = books.find(conn, book or trading.book.name) is not None
        at_broker = trading.book.broker != "simulated" and book in (None, "", trading.book.name)
        first = parse_day(before) if before else pipeline.last_available_session(found, conn, now())
        rows = market.window_rows(found)
        warm = calendar.previous_session(first)
        for _ in range(rows):
            warm = calendar.previous_session(warm)
        due = [m.due_from for m in trading.universe.members.values() if m.due_from]
        warm = max(warm, min(due)) if len(due) == len(trading.universe.members) else warm
        loaded = ingestion.load_history(
            found,
            conn,
            first=warm,
            last=calendar.previous_session(first),
            now=now(),
            progress=lambda text: typer.echo(f"  {text}", err=True),
            actions_until=calendar.session_after(now()).session_date if at_broker else None,  # its shares have had them
        )
        record = pipeline.open_book(found, conn, book=book or trading.book.name, before=first, now=now())
        following = views.status(found, conn, record.book, now())["next_session"]
    stays = " already; it stays as it is" if known else ""
    show(
        {"book": record.book, "inception": str(record.inception_at), "next_session": following, "history": loaded},
        as_json,
        f"book {record.book} is open since {record.inception_at:%Y-%m-%d}{stays}; its next session is {following}",
    )


@app.command("load-history")
def load_history(
    first: Day,
    last: Day,
    symbols: Annotated[str, typer.Option(help="Comma-separated; default: all members.")] = "",
    as_json: Json = False,
) -> None:
    """Load and validate bars and corporate actions of a range of sessions.

    Example: python -m tradecore load-history 2000-03-01 2013-03-01
    """
    from tradecore import ingestion

    found = load_settings()
    with connection(found) as conn:
        result = ingestion.load_history(
            found,
            conn,
            first=parse_day(first),
            last=parse_day(last),
            now=now(),
            symbols=symbols.split(",") if symbols else None,
            progress=lambda text: typer.echo(f"  {text}", err=True),
        )
    show(result, as_json)


@app.command("run-session")
def run_session(day: Day, book: Book = "", as_json: Json = False) -> None:
    """Run every stage of a session, in order. A session that is done changes nothing.

    It waits for nobody: where a person or a venue's window is to be waited for, it says so, and `approve` and `submit`
    go on later. Example: python -m tradecore run-session 2005-02-28
    """
    from tradecore import pipeline

    found = load_settings()

    def say(stage: str, result: dict[str, object]) -> None:
        if not as_json:
            typer.echo(f"{stage:<22} " + "  ".join(f"{k}={v}" for k, v in result.items()))

    with compiling(), connection(found) as conn, logs.bind(run="cli", session=day, stage="run-session"):
        done = pipeline.run_session(
            found,
            conn,
            book=book or found.trading.book.name,
            session_date=parse_day(day),
            now=now(),
            say=say,
            open_venue=lambda ctx: pipeline.at_venue(ctx, now, time.sleep),
        )
    if as_json:
        show(done, True)


@app.command()
def ingest(day: Day, book: Book = "", bar: Bar = 0, as_json: Json = False) -> None:
    """Fetch a session's bars and the corporate actions up to the next one.

    Example: python -m tradecore ingest 2005-02-28
    """
    run_stage("ingest", day, book, bar, as_json, lambda p, ctx: p.ingest(ctx))


@app.command()
def validate(day: Day, book: Book = "", bar: Bar = 0, as_json: Json = False) -> None:
    """Check a session's bars and say whether the gate is open. Example: python -m tradecore validate 2005-02-28"""
    run_stage("validate", day, book, bar, as_json, lambda p, ctx: p.validate(ctx))


@app.command()
def settle(day: Day, book: Book = "", bar: Bar = 0, as_json: Json = False) -> None:
    """Let a session's bar happen to the book. Example: python -m tradecore settle 2005-02-28"""
    run_stage("settle", day, book, bar, as_json, lambda p, ctx: (p.turn(ctx) and p.settle(ctx)) or p.settle(ctx))


@app.command()
def signal(
    day: Day,
    strategy: Annotated[str, typer.Option(help="One strategy; default: all.")] = "",
    book: Book = "",
    bar: Bar = 0,
    as_json: Json = False,
) -> None:
    """Score the strategies at a session's close.

    Example: python -m tradecore signal 2005-02-28 --strategy ma_crossover
    """

    def call(p: Any, ctx: Context) -> dict[str, object]:
        names = p.strategies(ctx)
        if strategy and strategy not in names:
            raise ConfigError(
                f"strategy {strategy!r} is not enabled; enabled: {', '.join(names)}.",
                next_step="name one of these, or enable it in trading.yaml",
            )
        return {name: p.signal(ctx, name) for name in names if not strategy or name == strategy}

    run_stage("signal", day, book, bar, as_json, call)


@app.command()
def risk(day: Day, book: Book = "", bar: Bar = 0, as_json: Json = False) -> None:
    """Turn scores into targets within the limits. Example: python -m tradecore risk 2005-02-28"""
    run_stage("risk", day, book, bar, as_json, lambda p, ctx: p.risk(ctx))


@app.command()
def plan(day: Day, book: Book = "", bar: Bar = 0, as_json: Json = False) -> None:
    """Write the order sheet for the next bar. Example: python -m tradecore plan 2005-02-28"""
    run_stage("plan", day, book, bar, as_json, lambda p, ctx: p.plan(ctx))


@app.command()
def report(day: Day, book: Book = "", bar: Bar = 0, as_json: Json = False) -> None:
    """Write a session's HTML report and print its path. Example: python -m tradecore report 2005-02-28"""
    run_stage("report", day, book, bar, as_json, lambda p, ctx: p.report(ctx))


@app.command()
def submit(day: Day, book: Book = "", bar: Bar = 0, as_json: Json = False) -> None:
    """Send a session's approved sheet, each order once. Example: python -m tradecore submit 2005-02-28"""
    run_stage("submit", day, book, bar, as_json, lambda p, ctx: p.submit(ctx))


@app.command()
def close(day: Day, book: Book = "", bar: Bar = 0, as_json: Json = False) -> None:
    """Close a session's bar without a decision if none was made. Example: python -m tradecore close 2005-02-28"""
    run_stage("close", day, book, bar, as_json, lambda p, ctx: p.close(ctx))
