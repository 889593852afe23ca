"""What there is to see: book, state, health, a session. Nothing is changed."""

from __future__ import annotations

from typing import Annotated

import typer

from tradecore.cli.shell import (
    EXIT_UNHEALTHY,
    Bar,
    Book,
    Day,
    Json,
    LotMethod,
    Lots,
    app,
    connection,
    load_settings,
    now,
    parse_day,
    run_stage,
    show,
)


@app.command("book")
def show_book(
    book: Book = "",
    lots: Annotated[bool, typer.Option("--lots", help="With the tax lots: since when, at what cost.")] = False,
    closed_lots: Annotated[bool, typer.Option("--closed-lots", help="With what was sold of which lot.")] = False,
    lot_method: Lots = LotMethod.fifo,
    as_json: Json = False,
) -> None:
    """Show a book: cash, equity, state, positions, tax lots.

    Example: python -m tradecore book --lots --closed-lots --lot-method hifo
    """
    from tradecore import execution_views, views

    found = load_settings()
    with connection(found) as conn:
        record = views.book(conn, book or found.trading.book.name)
        if lots:
            record["lots"] = execution_views.lots(conn, record["book"])
        if closed_lots:
            record["closed_lots"] = execution_views.closed_lots(conn, record["book"], lot_method.value)
    text = views.book_text(record) + ("\n" + execution_views.lots_text(record["lots"]) if lots else "")
    if closed_lots:
        text += f"\nclosed lots, {lot_method}:\n" + execution_views.closed_lots_text(record["closed_lots"])
    show(record, as_json, text)


@app.command()
def status(book: Book = "", as_json: Json = False) -> None:
    """Say where the book stands, whether a session is late, and whether alerts were delivered. Exit 2 when not well.

    Example: python -m tradecore status
    """
    from tradecore import views
    from tradecore.storage import books

    found = load_settings()
    with connection(found) as conn:
        if book:  # named, so it is meant: a slip of the pen is no book that is well
            books.get(conn, book)
        record = views.status(found, conn, book or found.trading.book.name, now())
    show(record, as_json, views.status_text(record))
    if not record["well"]:
        raise SystemExit(EXIT_UNHEALTHY)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check machine, settings, database, data and book; each finding with its next step. Exit 2 when one is bad.

    Example: python -m tradecore doctor
    """
    from tradecore import views

    findings = views.doctor(now())
    show(
        findings,
        as_json,
        "\n".join(
            f"{'ok ' if f['ok'] else 'BAD'} {f['what']:<14} {f['found']}"
            + ("" if f["ok"] else f"\n    next: {f['next_step']}")
            for f in findings
        ),
    )
    if not all(f["ok"] for f in findings):
        raise SystemExit(EXIT_UNHEALTHY)


@app.command()
def summary(day: Day, book: Book = "", as_json: Json = False) -> None:
    """Say in a few lines what a session did: signals, targets, orders, fills, equity, data quality.

    Example: python -m tradecore summary 2005-02-28
    """
    from tradecore import views

    found = load_settings()
    with connection(found) as conn:
        record = views.session(found, conn, book or found.trading.book.name, parse_day(day))
    show(record, as_json, views.session_text(record))


@app.command()
def window(day: Day, book: Book = "", bar: Bar = 0, as_json: Json = False) -> None:
    """Say when a session's orders may be sent, what they wait for. Example: python -m tradecore window 2005-02-28"""
    run_stage("window", day, book, bar, as_json, lambda p, ctx: p.window(ctx))
