"""Read-only answers about orders, checks, breaks, lots and the venue, for people and machines."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date, datetime
from typing import Any

import psycopg

from tradecore import tax_lots
from tradecore.errors import BookError
from tradecore.lot_matching import Method
from tradecore.settings import Settings
from tradecore.storage import books, queries
from tradecore.units import PRICE_SCALE, from_quanta, shares, usd

SQL = queries.load("views")


def venue(found: Settings, conn: psycopg.Connection, name: str) -> dict[str, Any]:
    """Return where a book trades, and which keys of live trading are missing; the broker's own word is asked at submit.

    A book of alpaca-live with a key missing sends nothing: it stays simulated, and says so.
    """
    record = books.find(conn, name)
    kind = record.kind if record else found.trading.book.broker
    account = record.account if record else found.trading.book.account
    row = conn.execute(SQL["broker_account"], {"account": account}).fetchone()
    missing = []
    if kind != "simulated" and found.alpaca is None:
        missing.append("keys: ALPACA_API_KEY and ALPACA_SECRET_KEY in .env")
    if kind == "alpaca-live":
        if found.paper_trading or found.demo_mode:
            missing.append("the environment: PAPER_TRADING=false and DEMO_MODE=false in .env")
        if row is None or not row[1]:
            missing.append("the database: python -m tradecore live enable --account-number N --reason TEXT")
        if row is None or not row[0]:
            missing.append("the account number that the broker reports")
    number = f" {row[0]}" if row else ""
    text = {
        "simulated": "simulated: no order leaves this machine",
        "alpaca-paper": f"paper: orders go to Alpaca's paper account{number}",
        "alpaca-live": f"LIVE: real money, account{number}",
    }[kind]
    if kind != "simulated" and found.alpaca is not None and found.alpaca.base_url:
        text += f", at {found.alpaca.base_url} in the place of Alpaca's own address"
    if missing:
        what = "live" if kind == "alpaca-live" else "paper"
        text = f"{what}, but it stays simulated: no order leaves. Missing: {'; '.join(missing)}"
        if found.alpaca is None:  # from here nobody sees Airflow's connections
            text += ". This is what commands see: a DAG trades with the keys of Airflow's connection alpaca_default"
    return {"kind": kind, "account": account, "number": row[0] if row else None, "missing": missing, "text": text}


def trouble(conn: psycopg.Connection, name: str) -> dict[str, Any]:
    """Return what stops a book's orders or leaves one in doubt: open breaks, unknown orders."""
    unknown = [str(row[0]) for row in conn.execute(SQL["unknown_orders"], {"book": name}).fetchall()]
    return {"open_breaks": breaks(conn, name), "unknown_orders": unknown}


def breaks(conn: psycopg.Connection, name: str, now: datetime | None = None) -> list[dict[str, Any]]:
    """Return the open breaks of a book, the oldest first; age in hours where `now` is given."""
    names = ("id", "kind", "subject", "ledger", "broker", "cause", "owner", "opened_at")
    found = [dict(zip(names, row, strict=True)) for row in conn.execute(SQL["breaks"], {"book": name}).fetchall()]
    if now is not None:
        for one in found:
            one["age_h"] = round((now - one["opened_at"]).total_seconds() / 3600, 1)
    return found


def breaks_text(found: list[dict[str, Any]]) -> str:
    """Return breaks in a few lines."""
    lines = [
        f"{b['id']:>5}  {b['kind']:<10} {b['subject']:<12} ledger {b['ledger']}  broker {b['broker']}  open for "
        f"{b['age_h']} h{', with ' + b['owner'] if b['owner'] else ''}\n       {b['cause']}"
        for b in found
    ]
    return "\n".join([*lines, "Until they are gone or accepted nothing is sent."] if lines else ["no open breaks"])


def orders(
    conn: psycopg.Connection, name: str, session_date: date | None = None, *, events: bool = False
) -> list[dict[str, Any]]:
    """Return the orders decided at a session's close (None: the last decision), with their events if asked for.

    Raises BookError for a book that is not open.
    """
    names = (
        "id",
        "session",
        "version",
        "symbol",
        "qty",
        "filled",
        "type",
        "tif",
        "limit_usd",
        "status",
        "detail",
        "at",
    )
    books.get(conn, name)
    key = {"book": name, "session": session_date}
    found = [dict(zip(names, row, strict=True)) for row in conn.execute(SQL["book_orders"], key).fetchall()]
    for order in found:
        order["qty"], order["filled"] = shares(order["qty"]), shares(order["filled"])
        order["limit_usd"] = usd(order["limit_usd"]) if order["limit_usd"] else None
        if events:
            rows = conn.execute(SQL["order_life"], (order["id"],)).fetchall()
            order["events"] = [dict(zip(("no", "status", "at", "detail"), row, strict=True)) for row in rows]
    return found


def orders_text(found: list[dict[str, Any]]) -> str:
    """Return orders, one a line, and their events below."""
    lines = []
    for o in found:
        detail = f"  {o['detail']}" if o["detail"] else ""
        price = f" at {o['limit_usd']:,.2f}" if o["limit_usd"] else ""
        lines.append(
            f"{o['session']}  {'buy' if o['qty'] > 0 else 'sell':<4} {abs(o['qty']):>8} {o['symbol']:<6} "
            f"{o['type']} {o['tif']}{price}  {o['status']:<10} filled {abs(o['filled'])}{detail}\n    {o['id']}"
        )
        lines += [
            f"      {e['at']:%Y-%m-%d %H:%M:%S}Z  {e['status']:<10} {e['detail']}".rstrip() for e in o.get("events", ())
        ]
    return "\n".join(lines) if lines else "no orders"


def checks(conn: psycopg.Connection, client_order_id: str) -> list[dict[str, Any]]:
    """Return every pre-trade check of an order, each time that it was made. Raises BookError for an unknown order."""
    if conn.execute(SQL["order_state"], (client_order_id,)).fetchone() is None:
        raise unknown_order(client_order_id)
    names = ("run", "no", "name", "passed", "detail", "at")
    return [dict(zip(names, row, strict=True)) for row in conn.execute(SQL["checks"], (client_order_id,)).fetchall()]


def unknown_order(client_order_id: str) -> BookError:
    """Return the error of an order that nobody knows."""
    return BookError(
        f"there is no order {client_order_id!r}.",
        next_step="list them: python -m tradecore orders",
        client_order_id=client_order_id,
    )


def checks_text(found: list[dict[str, Any]]) -> str:
    """Return checks, one a line."""
    lines = [
        f"{c['at']:%Y-%m-%d %H:%M:%S}Z  {'ok ' if c['passed'] else 'NO '} {c['no']:>2} {c['name']:<12} {c['detail']}"
        for c in found
    ]
    return "\n".join(lines) if lines else "no checks: the order was not examined (simulated books are not)"


def lots(conn: psycopg.Connection, name: str) -> list[dict[str, Any]]:
    """Return the tax lots that a book holds, oldest first a name: quantity, whole cost, cost a share, since when."""
    found: list[dict[str, Any]] = []
    for lot in tax_lots.open_lots(conn, name):
        price = (lot.cost_usd / lot.qty).quantize(from_quanta(1, PRICE_SCALE))
        number = sum(1 for other in found if other["symbol"] == lot.symbol)
        found.append(
            {
                "symbol": lot.symbol,
                "lot": number,
                "qty": lot.qty,
                "cost_usd": lot.cost_usd,
                "price_usd": price,
                "opened_at": lot.opened_at,
            }
        )
    return found


def closed_lots(conn: psycopg.Connection, name: str, method: Method) -> list[dict[str, Any]]:
    """Return what a book sold of which lot, without fees, in the order of its fills, by a method of matching."""
    return [{**asdict(lot), "gain_usd": lot.gain_usd} for lot in tax_lots.closed_lots(conn, name, method=method)]


def lots_text(found: list[dict[str, Any]]) -> str:
    """Return lots, one a line."""
    lines = [
        f"  {lot['symbol']:<6} lot {lot['lot']:>3}  {lot['qty']:>12} x {lot['price_usd']:>12,.4f} = "
        f"{lot['cost_usd']:>14,.2f}  since {lot['opened_at']:%Y-%m-%d}"
        for lot in found
    ]
    return "\n".join(lines) if lines else "  no lots"


def closed_lots_text(found: list[dict[str, Any]]) -> str:
    """Return closed lots, one a line, and the sum of their gains."""
    lines = [
        f"  {lot['symbol']:<6} {lot['qty']:>12}  {lot['opened_at']:%Y-%m-%d} to {lot['closed_at']:%Y-%m-%d}  cost "
        f"{lot['cost_usd']:>14,.2f}  proceeds {lot['proceeds_usd']:>14,.2f}  gain {lot['gain_usd']:>12,.2f}"
        for lot in found
    ]
    if not lines:
        return "  nothing was sold yet"
    return "\n".join([*lines, f"  gain without fees {sum(lot['gain_usd'] for lot in found):,.2f} USD"])
