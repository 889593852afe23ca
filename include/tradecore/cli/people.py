"""What a person orders: kept with a name and a reason."""

from __future__ import annotations

import getpass
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tradecore.cli.shell import Bar, Book, Day, Json, app, connection, load_settings, now, run_stage, show
from tradecore.errors import ConfigError

if TYPE_CHECKING:
    from tradecore.context import Context

Reason = Annotated[str, typer.Option("--reason", help="Why; it is kept with your name.")]


def _change_state(state: str, reason: str, book: str, as_json: bool) -> None:
    from tradecore import cancelling, interventions, pipeline

    found = load_settings()
    with connection(found) as conn:
        name = book or found.trading.book.name
        result = pipeline.change_state(
            found,
            conn,
            book=name,
            state=state,
            actor=f"cli:{getpass.getuser()}",
            reason=reason,
            now=now(),
        )
        if state == "HALTED":
            ctx = interventions.newest_bar(found, conn, name, now())
            result |= cancelling.end_forbidden(interventions.at_venue(ctx, now, time.sleep))
    show(result, as_json)


@app.command()
def halt(reason: Reason, book: Book = "", as_json: Json = False) -> None:
    """Stop: nothing more is sent, and what works at a real broker is cancelled, but for the stops of a bracket. In a
    simulated book what was sent before may fill at the next open; carried orders then end. Only `resume` lifts it:
    risk.halt_lifts_after_sessions is for the halts of the breakers.

    Example: python -m tradecore halt --reason "broker maintenance"
    """
    _change_state("HALTED", reason, book, as_json)


@app.command()
def resume(reason: Reason, book: Book = "", as_json: Json = False) -> None:
    """Trade again from the next bar that settles; the drawdown counts anew from its equity.

    Example: python -m tradecore resume --reason "checked the loss of 2005-04-15"
    """
    _change_state("ACTIVE", reason, book, as_json)


@app.command()
def flatten(
    reason: Reason,
    confirm: Annotated[str, typer.Option("--confirm", help="Name of the book again: everything it holds is sold.")],
    book: Book = "",
    as_json: Json = False,
) -> None:
    """Sell everything: cancel what adds to a position, then close each one with the next orders, through the same
    sheet, checks and ledger. The book stays REDUCING until `resume`.

    A bar that has sent its orders leaves closing to the next one; a halted book closes one bar later.
    Example: python -m tradecore flatten --reason "moving the account" --confirm sim
    """
    from tradecore import cancelling, interventions, pipeline

    found = load_settings()
    name = book or found.trading.book.name
    if confirm != name:
        raise ConfigError(
            f"--confirm {confirm!r} is not the book {name!r}: nothing was done.",
            next_step=f"--confirm {name} sells everything that it holds",
        )
    with connection(found) as conn:
        actor = f"cli:{getpass.getuser()}"
        result = pipeline.flatten(found, conn, book=name, actor=actor, reason=reason, now=now())
        ctx = interventions.newest_bar(found, conn, name, now())
        result |= cancelling.end_forbidden(interventions.at_venue(ctx, now, time.sleep))
    show(result, as_json)


@app.command()
def approve(
    day: Day,
    sheet: Annotated[str, typer.Option(help="Hash of the sheet that you have read, or its first 12 characters.")] = "",
    by: Annotated[str, typer.Option(help="Your name; default: your user on this machine.")] = "",
    reject: Annotated[bool, typer.Option("--reject", help="Do not send it.")] = False,
    reason: Annotated[str, typer.Option(help="Kept with your name.")] = "",
    book: Book = "",
    bar: Bar = 0,
    as_json: Json = False,
) -> None:
    """Sign a session's order sheet, or reject it. Without --sheet: show the sheet, its hash and how it stands.

    Example: python -m tradecore approve 2005-02-28 --sheet 3f2a91bc04de --by ann
    """
    if reject and not sheet:
        raise ConfigError("--reject needs --sheet HASH.", next_step="leave both out to see the sheet and its hash")

    def call(p: Any, ctx: Context) -> dict[str, object]:
        if sheet:
            verdict, actor = "rejected" if reject else "approved", f"cli:{by or getpass.getuser()}"
            return dict(p.approve(ctx, verdict=verdict, actor=actor, sheet_hash=sheet, note=reason))
        stands = dict(p.approve(ctx))
        if stands["approval"] == "pending" and not as_json:
            typer.echo(p.question(ctx, stands["sheet"])["text"])
        return stands

    run_stage("approve", day, book, bar, as_json, call)
