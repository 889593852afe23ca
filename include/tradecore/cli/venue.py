"""Orders, checks and breaks at the venue; the database's key of live trading."""

from __future__ import annotations

import getpass
import time
from typing import Annotated

import typer

from tradecore.cli.people import Reason
from tradecore.cli.shell import Book, Json, app, connection, load_settings, now, parse_day, show

live = typer.Typer(no_args_is_help=True, help="The database's key of live trading: one of three that must agree.")
app.add_typer(live, name="live")

OrderId = Annotated[str, typer.Argument(metavar="CLIENT_ORDER_ID", help="As `python -m tradecore orders` shows it.")]


@app.command()
def orders(
    day: Annotated[str, typer.Argument(metavar="[SESSION]", help="Of which session; default: the last decision.")] = "",
    events: Annotated[bool, typer.Option("--events", help="With every event of each order.")] = False,
    book: Book = "",
    as_json: Json = False,
) -> None:
    """Show orders and where they stand. Example: python -m tradecore orders 2005-02-28 --events"""
    from tradecore import execution_views

    found = load_settings()
    with connection(found) as conn:
        name = book or found.trading.book.name
        rows = execution_views.orders(conn, name, parse_day(day) if day else None, events=events)
    show(rows, as_json, execution_views.orders_text(rows))


@app.command()
def checks(order_id: OrderId, as_json: Json = False) -> None:
    """Show every pre-trade check of an order. Example: python -m tradecore checks tc-1f0c..."""
    from tradecore import execution_views

    with connection(load_settings()) as conn:
        rows = execution_views.checks(conn, order_id)
    show(rows, as_json, execution_views.checks_text(rows))


@app.command()
def cancel(order_id: OrderId, as_json: Json = False) -> None:
    """Cancel an order: it is never sent, or cancelled at its venue. Example: python -m tradecore cancel tc-1f0c..."""
    from tradecore import interventions

    found = load_settings()
    with connection(found) as conn:
        ctx = interventions.order_context(found, conn, order_id, now())
        ctx = interventions.at_venue(ctx, now, time.sleep)
        result = interventions.cancel(ctx, order_id, f"cli:{getpass.getuser()}")
    show(result, as_json)


@app.command()
def breaks(book: Book = "", as_json: Json = False) -> None:
    """List the differences between ledger and broker that nobody has explained. Example: python -m tradecore breaks"""
    from tradecore import execution_views
    from tradecore.storage import books

    found = load_settings()
    with connection(found) as conn:
        name = books.get(conn, book or found.trading.book.name).book
        rows = execution_views.breaks(conn, name, now())
    show(rows, as_json, execution_views.breaks_text(rows))


@app.command("accept-break")
def accept_break(
    break_id: Annotated[int, typer.Argument(help="Its number: python -m tradecore breaks")],
    reason: Reason,
    as_json: Json = False,
) -> None:
    """Accept a break by your name: it becomes an explained difference, and stops nothing any more.

    Example: python -m tradecore accept-break 7 --reason "a fee of last year"
    """
    from tradecore import reconciliation

    with connection(load_settings()) as conn:
        reconciliation.accept_break(conn, break_id, f"cli:{getpass.getuser()}", reason, now=now())
    show({"break": break_id, "now": "accepted"}, as_json)


@app.command("own-break")
def own_break(
    break_id: Annotated[int, typer.Argument(help="Its number: python -m tradecore breaks")],
    owner: Annotated[str, typer.Argument(help="Who looks after it.")],
    as_json: Json = False,
) -> None:
    """Say who looks after a break. Example: python -m tradecore own-break 7 ann"""
    from tradecore import reconciliation

    with connection(load_settings()) as conn:
        reconciliation.own_break(conn, break_id, owner)
    show({"break": break_id, "owner": owner}, as_json)


@live.command("enable")
def live_enable(
    account_number: Annotated[str, typer.Option("--account-number", help="The number on the broker's dashboard.")],
    reason: Reason,
    as_json: Json = False,
) -> None:
    """Turn the database's key on; the broker must report this number.

    Example: python -m tradecore live enable --account-number 123456789 --reason "tried on paper"
    """
    _set_live(True, account_number, reason, as_json)


@live.command("disable")
def live_disable(reason: Reason, as_json: Json = False) -> None:
    """Turn the database's key off: no order leaves any more.

    Example: python -m tradecore live disable --reason "holidays"
    """
    _set_live(False, "", reason, as_json)


def _set_live(enabled: bool, account_number: str, reason: str, as_json: bool) -> None:
    from tradecore import execution_views, interventions

    found = load_settings()
    with connection(found) as conn:
        result = interventions.set_live(
            found,
            conn,
            enabled=enabled,
            account_number=account_number,
            actor=f"cli:{getpass.getuser()}",
            reason=reason,
            now=now(),
        )
        result["venue"] = execution_views.venue(found, conn, found.trading.book.name)["text"]
    show(result, as_json)
