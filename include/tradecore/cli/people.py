"""What a person orders: kept with a name and a reason."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer

from tradecore.cli.shell import Book, Json, app, connection, load_settings, now, show

Reason = Annotated[str, typer.Option("--reason", help="Why; it is kept with your name.")]


def _change_state(state: str, reason: str, book: str, as_json: bool) -> None:
    from tradecore import pipeline

    found = load_settings()
    with connection(found) as conn:
        result = pipeline.change_state(
            found,
            conn,
            book=book or found.trading.book.name,
            state=state,
            actor=f"cli:{getpass.getuser()}",
            reason=reason,
            now=now(),
        )
    show(result, as_json)


@app.command()
def halt(reason: Reason, book: Book = "", as_json: Json = False) -> None:
    """Stop: nothing more is sent. What was sent before may fill at the next open; carried orders then end. Only
    `resume` lifts it: risk.halt_lifts_after_sessions is for the halts of the breakers.

    Example: python -m tradecore halt --reason "broker maintenance"
    """
    _change_state("HALTED", reason, book, as_json)


@app.command()
def resume(reason: Reason, book: Book = "", as_json: Json = False) -> None:
    """Trade again from the next bar that settles; the drawdown counts anew from its equity.

    Example: python -m tradecore resume --reason "checked the loss of 2005-04-15"
    """
    _change_state("ACTIVE", reason, book, as_json)
