"""The audit log: what people and breakers changed, and whether the chain of its seals holds."""

from __future__ import annotations

from typing import Annotated

import typer

from tradecore.cli.shell import EXIT_UNHEALTHY, Json, app, connection, load_settings, show

audit = typer.Typer(no_args_is_help=True, help="Who changed what may trade, sealed row by row.")
app.add_typer(audit, name="audit")


@audit.command("verify")
def verify(
    head: Annotated[str, typer.Option(help="A seal that you wrote down: it must still be in the chain.")] = "",
    as_json: Json = False,
) -> None:
    """Compute every seal again; exit code 2 at the first row that was altered, removed or put in between.

    The last seal, written down elsewhere, also finds a log that was cut. Example: python -m tradecore audit verify
    """
    from tradecore.storage import audit as log

    with connection(load_settings()) as conn:
        found = log.verify(conn, head)
    good = found.broken_at is None and found.has_known
    problem = found.problem or ("" if found.has_known else f"seal {head} is not in the chain: it was cut, or made anew")
    show(
        {"rows": found.rows, "head": found.head, "broken_at": found.broken_at, "problem": problem, "verified": good},
        as_json,
        f"{found.rows} rows, every seal fits; the last is {found.head or 'none'}"
        if good
        else f"NOT VERIFIED: {problem}",
    )
    if not good:
        raise typer.Exit(EXIT_UNHEALTHY)


@audit.command("list")
def newest(
    count: Annotated[int, typer.Option(help="How many rows.")] = 20,
    as_json: Json = False,
) -> None:
    """Show the newest rows, the newest first. Example: python -m tradecore audit list --count 5"""
    from tradecore.storage import audit as log

    with connection(load_settings()) as conn:
        rows = log.newest(conn, count)
    records = [
        {
            "row": e.entry_no,
            "at": f"{e.happened_at:%Y-%m-%d %H:%M:%S}Z",
            "kind": e.kind,
            "subject": e.subject,
            "actor": e.actor,
            "detail": e.detail,
        }
        for e in rows
    ]
    lines = [f"{r['row']:>6} {r['at']} {r['kind']:<14} {r['subject']:<12} {r['actor']}: {r['detail']}" for r in records]
    show(records, as_json, "\n".join(lines) or "nothing was changed yet")
