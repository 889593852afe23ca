"""The same stages from a shell. Every command has --help with an example and --json for machines.

Heavy imports stay inside the commands: `watch` runs for months on a small machine without numpy.
"""

from __future__ import annotations

import getpass
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import psycopg
import typer

from tradecore import logs, settings
from tradecore.errors import ConfigError, NoDatabase, SessionError, TradecoreError

if TYPE_CHECKING:
    from tradecore.context import Context

app = typer.Typer(
    name="tradecore",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A trading day as one function: the stages of a session, one by one or together.",
)
db = typer.Typer(no_args_is_help=True, help="The database's schema.")
alert = typer.Typer(no_args_is_help=True, help="Alerts.")
app.add_typer(db, name="db")
app.add_typer(alert, name="alert")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Book = Annotated[str, typer.Option("--book", help="Name of the book; default: the configured one.")]
Bar = Annotated[int, typer.Option("--bar", help="Which bar of the session, from 1; default: the one that is next.")]
Day = Annotated[str, typer.Argument(metavar="SESSION", help="A session's date, YYYY-MM-DD.")]
EXIT_ERROR, EXIT_UNHEALTHY = 1, 2


def main() -> None:
    """Run the CLI; a TradecoreError becomes one message and exit code 1."""
    try:
        app()
    except TradecoreError as error:
        _fail(error)
    except psycopg.OperationalError as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        _fail(
            NoDatabase(
                f"the connection to the database was lost: {said}.",
                next_step="`make status`, then run the same command again: what was committed is not done twice",
            )
        )


def _fail(error: TradecoreError) -> None:
    message = error.message.rstrip()
    if "--json" in sys.argv:
        typer.echo(json.dumps({"error": type(error).__name__, "message": message, "next_step": error.next_step}))
    typer.echo(f"error: {message}", err=True)
    if error.next_step:
        typer.echo(f"  next: {error.next_step}", err=True)
    raise SystemExit(EXIT_ERROR)


def _show(result: object, as_json: bool, human: str = "") -> None:
    if as_json:
        typer.echo(json.dumps(result, indent=2, default=str))
    elif human:
        typer.echo(human)
    elif isinstance(result, dict):
        for key, value in result.items():
            typer.echo(f"{key:<16} {value}")
    else:
        typer.echo(str(result))


def _now() -> datetime:
    return datetime.now(UTC)


def parse_day(text: str) -> date:
    """Return a date. Raises SessionError that shows the form."""
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise SessionError(f"{text!r} is no date.", next_step="write it as 2005-02-28", value=text) from error


def load_settings() -> settings.Settings:
    """Load the settings and set up logging."""
    found = settings.load()
    logs.configure(found.log_level, found.secrets())
    return found


@contextmanager
def connection(found: settings.Settings, *, migrated: bool = True) -> Iterator[psycopg.Connection]:
    """Open the configured database, or the embedded one; refuse one whose schema is not this release's."""
    from tradecore.storage import connection as storage
    from tradecore.storage import embedded, migrate

    url = found.database_url or embedded.ensure(found.home)
    with storage.connect(url) as conn:
        if migrated:
            missing = migrate.pending(conn)
            conn.rollback()
            if missing:
                raise ConfigError(
                    f"the database lacks {len(missing)} migration(s): {', '.join(missing)}.",
                    next_step="python -m tradecore db upgrade",
                    missing=missing,
                )
        yield conn


def _stage(
    name: str, day: str, book: str, bar: int, as_json: bool, call: Callable[[Any, Context], dict[str, object]]
) -> None:
    """Run one stage for one bar of a session: the bar-th, or the first that is not closed, or the last."""
    from tradecore import pipeline

    found = load_settings()
    with connection(found) as conn:
        bars = pipeline.contexts(
            found, conn, book=book or found.trading.book.name, session_date=parse_day(day), now=_now()
        )
        if not 0 <= bar <= len(bars):
            raise SessionError(
                f"session {day} has {len(bars)} bar(s) of {bars[0].record.timeframe}, not {bar}.",
                next_step="count them from 1, or leave --bar out",
                value=bar,
            )
        ctx = bars[bar - 1] if bar else next((b for b in bars if b.status() != "closed"), bars[-1])
        conn.rollback()
        with logs.bind(run="cli", session=day, stage=name):
            result = call(pipeline, ctx)
    _show(result, as_json)


@db.command("upgrade")
def db_upgrade(as_json: Json = False) -> None:
    """Apply the migrations that are missing. Safe to run at any time, also twice at once.

    Example: python -m tradecore db upgrade
    """
    from tradecore.storage import migrate

    with connection(load_settings(), migrated=False) as conn:
        applied = migrate.upgrade(conn)
        tsdb = migrate.has_timescaledb(conn)
    _show(
        {"applied": applied, "timescaledb": tsdb},
        as_json,
        f"applied: {', '.join(applied) or 'nothing, all is there'} ({'TimescaleDB' if tsdb else 'plain PostgreSQL'})",
    )


@app.command()
def init(
    book: Book = "",
    before: Annotated[
        str, typer.Option(help="Open the book before this session; default: the last session that has closed.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Check configuration and keys, load the warm-up history, open the book. Sends nothing.

    Example: python -m tradecore init --before 2004-09-01
    """
    from tradecore import ingestion, market, pipeline
    from tradecore.context import book_calendar

    found = load_settings()
    calendar, trading = book_calendar(found), found.trading
    with connection(found) as conn:
        first = parse_day(before) if before else pipeline.last_available_session(found, conn, _now())
        rows = max([r.lookback_bars for r in market.rules(found)] + [trading.risk.volatility_lookback_bars + 1])
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
            now=_now(),
            progress=lambda text: typer.echo(f"  {text}", err=True),
        )
        record = pipeline.open_book(found, conn, book=book or trading.book.name, before=first, now=_now())
    _show(
        {"book": record.book, "inception": str(record.inception_at), "history": loaded},
        as_json,
        f"book {record.book} is open since {record.inception_at:%Y-%m-%d}; its next session is {first}",
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
            now=_now(),
            symbols=symbols.split(",") if symbols else None,
            progress=lambda text: typer.echo(f"  {text}", err=True),
        )
    _show(result, as_json)


@app.command("run-session")
def run_session(day: Day, book: Book = "", as_json: Json = False) -> None:
    """Run every stage of a session, in order. A session that is done changes nothing.

    Example: python -m tradecore run-session 2005-02-28
    """
    from tradecore import pipeline

    found = load_settings()

    def say(stage: str, result: dict[str, object]) -> None:
        if not as_json:
            typer.echo(f"{stage:<22} " + "  ".join(f"{k}={v}" for k, v in result.items()))

    with connection(found) as conn, logs.bind(run="cli", session=day, stage="run-session"):
        done = pipeline.run_session(
            found, conn, book=book or found.trading.book.name, session_date=parse_day(day), now=_now(), say=say
        )
    if as_json:
        _show(done, True)


@app.command()
def ingest(day: Day, book: Book = "", bar: Bar = 0, as_json: Json = False) -> None:
    """Fetch a session's bars and the corporate actions up to the next one. Example: tradecore ingest 2005-02-28"""
    _stage("ingest", day, book, bar, as_json, lambda p, ctx: p.ingest(ctx))


@app.command()
def validate(day: Day, book: Book = "", bar: Bar = 0, as_json: Json = False) -> None:
    """Check a session's bars and say whether the gate is open. Example: tradecore validate 2005-02-28"""
    _stage("validate", day, book, bar, as_json, lambda p, ctx: p.validate(ctx))


@app.command()
def settle(day: Day, book: Book = "", bar: Bar = 0, as_json: Json = False) -> None:
    """Let a session's bar happen to the book. Example: tradecore settle 2005-02-28"""
    _stage("settle", day, book, bar, as_json, lambda p, ctx: (p.turn(ctx) and p.settle(ctx)) or p.settle(ctx))


@app.command()
def signal(
    day: Day,
    strategy: Annotated[str, typer.Option(help="One strategy; default: all.")] = "",
    book: Book = "",
    bar: Bar = 0,
    as_json: Json = False,
) -> None:
    """Score the strategies at a session's close. Example: tradecore signal 2005-02-28 --strategy ma_crossover"""

    def call(p: Any, ctx: Context) -> dict[str, object]:
        names = p.strategies(ctx)
        if strategy and strategy not in names:
            raise ConfigError(
                f"strategy {strategy!r} is not enabled; enabled: {', '.join(names)}.",
                next_step="name one of these, or enable it in trading.yaml",
            )
        return {name: p.signal(ctx, name) for name in names if not strategy or name == strategy}

    _stage("signal", day, book, bar, as_json, call)


@app.command()
def risk(day: Day, book: Book = "", bar: Bar = 0, as_json: Json = False) -> None:
    """Turn scores into targets within the limits. Example: tradecore risk 2005-02-28"""
    _stage("risk", day, book, bar, as_json, lambda p, ctx: p.risk(ctx))


@app.command()
def plan(day: Day, book: Book = "", bar: Bar = 0, as_json: Json = False) -> None:
    """Write the order sheet for the next bar. Example: tradecore plan 2005-02-28"""
    _stage("plan", day, book, bar, as_json, lambda p, ctx: p.plan(ctx))


@app.command()
def report(day: Day, book: Book = "", bar: Bar = 0, as_json: Json = False) -> None:
    """Write a session's HTML report and print its path. Example: tradecore report 2005-02-28"""
    _stage("report", day, book, bar, as_json, lambda p, ctx: p.report(ctx))


@app.command()
def approve(day: Day, book: Book = "", bar: Bar = 0, as_json: Json = False) -> None:
    """Record the approval of a session's sheet. Example: tradecore approve 2005-02-28"""
    _stage("approve", day, book, bar, as_json, lambda p, ctx: p.approve(ctx))


@app.command()
def submit(day: Day, book: Book = "", bar: Bar = 0, as_json: Json = False) -> None:
    """Send a session's approved sheet, each order once. Example: tradecore submit 2005-02-28"""
    _stage("submit", day, book, bar, as_json, lambda p, ctx: p.submit(ctx))


@app.command()
def close(day: Day, book: Book = "", bar: Bar = 0, as_json: Json = False) -> None:
    """Close a session's bar without a decision if none was made. Example: tradecore close 2005-02-28"""
    _stage("close", day, book, bar, as_json, lambda p, ctx: p.close(ctx))


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
            now=_now(),
        )
    _show(result, as_json)


Reason = Annotated[str, typer.Option("--reason", help="Why; it is kept with your name.")]


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


@app.command()
def backtest(first: Day, last: Day, as_json: Json = False) -> None:
    """Fold the same step over history: what production would have done. Nothing is stored.

    Example: python -m tradecore backtest 2004-09-01 2005-09-01
    """
    from tradecore.research import backtest as research

    found = load_settings()
    with connection(found) as conn:
        result = research.run(found, conn, first=parse_day(first), last=parse_day(last))
    _show(research.as_records(result), as_json, research.summary(result))


@app.command("book")
def show_book(book: Book = "", as_json: Json = False) -> None:
    """Show a book: cash, equity, state, positions. Example: python -m tradecore book"""
    from tradecore import views

    found = load_settings()
    with connection(found) as conn:
        record = views.book(conn, book or found.trading.book.name)
    _show(record, as_json, views.book_text(record))


@app.command()
def status(book: Book = "", as_json: Json = False) -> None:
    """Say where the book stands, whether a session is late, and whether alerts were delivered. Exit 2 when not well.

    Example: python -m tradecore status
    """
    from tradecore import views

    found = load_settings()
    with connection(found) as conn:
        record = views.status(found, conn, book or found.trading.book.name, _now())
    _show(record, as_json, views.status_text(record))
    if not record["well"]:
        raise SystemExit(EXIT_UNHEALTHY)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check machine, settings, database, data and book; each finding with its next step. Exit 2 when one is bad.

    Example: python -m tradecore doctor
    """
    from tradecore import views

    findings = views.doctor(_now())
    _show(
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
    _show(record, as_json, views.session_text(record))


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

    while True:
        troubles = operations.watch_once(found, connect, _now())
        if troubles or not loop:
            _show({"troubles": troubles}, as_json, "\n".join(troubles) or "all is well")
        if not loop:
            raise SystemExit(EXIT_UNHEALTHY if troubles else 0)
        time.sleep(30)


@alert.command("test")
def alert_test(as_json: Json = False) -> None:
    """Send a test message over every configured channel. Example: python -m tradecore alert test"""
    from tradecore import operations

    found = load_settings()
    result = operations.send_directly(found, operations.sample_alert(_now()))
    _show(result, as_json, "\n".join(f"{name:<10} {error or 'sent'}" for name, error in result.items()))
    if any(result.values()):
        raise SystemExit(EXIT_UNHEALTHY)


@app.command("env")
def write_env(
    force: Annotated[bool, typer.Option("--force", help="Overwrite; the old file is kept.")] = False,
    as_json: Json = False,
) -> None:
    """Write .env from .env.example with generated secrets. Example: python -m tradecore env"""
    home = Path(__file__).resolve().parents[2]
    keys = settings.write_env(home / ".env", home / ".env.example", force=force)
    _show(
        {"written": str(home / ".env"), "generated": list(keys)},
        as_json,
        f"wrote {home / '.env'}; generated: {', '.join(keys) or 'nothing'}",
    )
