"""What all commands share: their options, settings and connection, how they answer and how they fail."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime
from enum import StrEnum
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


class LotMethod(StrEnum):
    """Which lots a sale closes: first in, last in, or the dearest first."""

    fifo = "fifo"
    lifo = "lifo"
    hifo = "hifo"


Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Book = Annotated[str, typer.Option("--book", help="Name of the book; default: the configured one.")]
Bar = Annotated[int, typer.Option("--bar", help="Which bar of the session, from 1; default: the one that is next.")]
Lots = Annotated[LotMethod, typer.Option("--lot-method", help="Which lots a sale closes.")]
Day = Annotated[str, typer.Argument(metavar="SESSION", help="A session's date, YYYY-MM-DD.")]
EXIT_ERROR, EXIT_UNHEALTHY = 1, 2
WORTH_TELLING_S = 3.0  # a kernel or two of a strategy are nobody's business


def main() -> None:
    """Run the CLI; a TradecoreError becomes one message and exit code 1."""
    try:
        app()
    except TradecoreError as error:
        fail(error)
    except psycopg.OperationalError as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        fail(
            NoDatabase(
                f"the connection to the database was lost: {said}.",
                next_step="`make status`, then run the same command again: what was committed is not done twice",
            )
        )


def fail(error: TradecoreError, code: int = EXIT_ERROR) -> None:
    message = error.message.rstrip()
    if "--json" in sys.argv:
        typer.echo(json.dumps({"error": type(error).__name__, "message": message, "next_step": error.next_step}))
    typer.echo(f"error: {message}", err=True)
    if error.next_step:
        typer.echo(f"  next: {error.next_step}", err=True)
    raise SystemExit(code)


def writable(path: Path | None) -> Path | None:
    """Return a path that a file can be written to, its folder made. Raises ConfigError: before the work, not after."""
    if path is None:
        return None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        was_there = path.exists()
        with path.open("ab"):
            pass
        if not was_there:
            path.unlink()
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {error.strerror}.", next_step="name another file", value=str(path)
        ) from error
    return path


def show(result: object, as_json: bool, human: str = "") -> None:
    if as_json:
        typer.echo(json.dumps(plain(result), indent=2, default=str, allow_nan=False))
    elif human:
        typer.echo(human)
    elif isinstance(result, dict):
        for key, value in result.items():
            typer.echo(f"{key:<16} {value}")
    else:
        typer.echo(str(result))


def plain(value: Any) -> Any:
    """Return a value as JSON has it: null for a figure that is not defined. NaN and infinity are no JSON."""
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def now() -> datetime:
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
def connection(found: settings.Settings, *, migrated: bool = True, new: bool = False) -> Iterator[psycopg.Connection]:
    """Open the configured database, or the embedded one; refuse one whose schema is not this release's.

    new: one that has none yet gets it.
    """
    from tradecore.storage import connection as storage
    from tradecore.storage import embedded, migrate

    url = found.database_url or embedded.ensure(found.home)
    with storage.connect(url) as conn:
        if new and migrate.is_new(conn):
            migrate.upgrade(conn)
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


@contextmanager
def compiling() -> Iterator[None]:
    """Tell, on stderr, of kernels that are compiled inside: the wait of the first time. It counts for no figure."""
    from tradecore import compiling as compiler

    on_terminal, said = sys.stderr.isatty(), [False]

    def say(seconds: float, functions: int, ended: bool) -> None:
        if seconds < WORTH_TELLING_S:
            return
        if ended:
            text = f"  kernels are compiled: {functions} functions in {seconds:.0f} s; the next time they are there"
            typer.echo(f"\r{text:<78}" if on_terminal else text, err=True)
        elif on_terminal:
            text = f"  compiling kernels, once, about a minute (several on a Pi): {seconds:.0f} s, {functions} so far"
            typer.echo(f"\r{text:<78}", err=True, nl=False)
        elif not said[0]:
            typer.echo("  compiling kernels, once: about a minute, several on a Pi", err=True)
        said[0] = True

    with compiler.told(say):
        yield


def run_stage(
    name: str, day: str, book: str, bar: int, as_json: bool, call: Callable[[Any, Context], dict[str, object]]
) -> None:
    """Run one stage for one bar of a session: the bar-th, or the first that is not closed, or the last."""
    from tradecore import pipeline

    found = load_settings()
    with compiling(), connection(found) as conn:
        bars = pipeline.contexts(
            found, conn, book=book or found.trading.book.name, session_date=parse_day(day), now=now()
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
            result = call(pipeline, pipeline.at_venue(ctx, now, time.sleep))
    show(result, as_json)
