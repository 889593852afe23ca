"""Keeping it going: schema, configuration file, watch, alerts."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import psycopg
import typer

from tradecore import logs, settings
from tradecore.cli.shell import EXIT_UNHEALTHY, Json, app, connection, load_settings, now, show

db = typer.Typer(no_args_is_help=True, help="The database's schema.")
alert = typer.Typer(no_args_is_help=True, help="Alerts.")
app.add_typer(db, name="db")
app.add_typer(alert, name="alert")


@db.command("upgrade")
def db_upgrade(as_json: Json = False) -> None:
    """Apply the migrations that are missing. Safe to run at any time, also twice at once.

    Example: python -m tradecore db upgrade
    """
    from tradecore.storage import migrate

    with connection(load_settings(), migrated=False) as conn:
        applied = migrate.upgrade(conn)
        tsdb = migrate.has_timescaledb(conn)
    show(
        {"applied": applied, "timescaledb": tsdb},
        as_json,
        f"applied: {', '.join(applied) or 'nothing, all is there'} ({'TimescaleDB' if tsdb else 'plain PostgreSQL'})",
    )


@app.command()
def watch(
    loop: Annotated[bool, typer.Option("--loop", help="Look every 30 s until stopped.")] = False, as_json: Json = False
) -> None:
    """Look for what nobody else would notice: a late session, a dead scheduler or database; deliver due alerts.

    Example, from cron: */5 * * * * cd PROJECT && .venv/bin/python -m tradecore watch
    """
    from tradecore import operations
    from tradecore.storage import connection as storage
    from tradecore.storage import embedded

    found = load_settings()

    def connect() -> psycopg.Connection:
        return storage.connect(found.database_url or embedded.describe(found.home))

    logs.tell_service_manager("READY=1")
    while True:
        troubles = operations.watch_once(found, connect, now())
        logs.tell_service_manager("WATCHDOG=1")
        if troubles or not loop:
            show({"troubles": troubles}, as_json, "\n".join(troubles) or "all is well")
        if not loop:
            raise SystemExit(EXIT_UNHEALTHY if troubles else 0)
        time.sleep(30)


@alert.command("test")
def alert_test(as_json: Json = False) -> None:
    """Send a test message over every configured channel. Example: python -m tradecore alert test"""
    from tradecore import operations

    found = load_settings()
    result = operations.send_directly(found, operations.sample_alert(now()))
    show(result, as_json, "\n".join(f"{name:<10} {error or 'sent'}" for name, error in result.items()))
    if any(result.values()):
        raise SystemExit(EXIT_UNHEALTHY)


@app.command("env")
def write_env(
    force: Annotated[bool, typer.Option("--force", help="Overwrite; the old file is kept.")] = False,
    as_json: Json = False,
) -> None:
    """Write .env from .env.example with generated secrets. Example: python -m tradecore env"""
    home = Path(__file__).resolve().parents[3]
    keys = settings.write_env(home / ".env", home / ".env.example", force=force)
    show(
        {"written": str(home / ".env"), "generated": list(keys)},
        as_json,
        f"wrote {home / '.env'}; generated: {', '.join(keys) or 'nothing'}",
    )
