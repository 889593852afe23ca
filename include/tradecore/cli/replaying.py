"""The past as it was known then: a day computed again, the daily proof, what was restated. Nothing is sent.

Exit codes as diff's: 0 equal, 1 different, 2 an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tradecore.cli.shell import (
    Bar,
    Book,
    Day,
    Json,
    app,
    compiling,
    connection,
    fail,
    load_settings,
    now,
    parse_day,
    show,
)
from tradecore.errors import ConfigError, ProofDiffers, SessionError, TradecoreError

if TYPE_CHECKING:
    import psycopg

    from tradecore.config_models import Trading
    from tradecore.context import Context
    from tradecore.settings import Settings

EXIT_DIFFERENT, EXIT_TROUBLE = 1, 2
data = typer.Typer(no_args_is_help=True, help="What the database knows, and knew, of the market.")
app.add_typer(data, name="data")


@contextmanager
def trouble_is_2() -> Iterator[None]:
    """Let errors of ours end a command with 2: 1 says that something differs."""
    try:
        yield
    except TradecoreError as error:
        fail(error, EXIT_TROUBLE)


def _bars(found: Settings, conn: psycopg.Connection, book: str, day: str, bar: int) -> list[Context]:
    from tradecore import pipeline

    bars = pipeline.contexts(found, conn, book=book or found.trading.book.name, session_date=parse_day(day), now=now())
    if not 0 <= bar <= len(bars):
        raise SessionError(
            f"session {day} has {len(bars)} bar(s), not {bar}.", next_step="count them from 1, or leave --bar out"
        )
    return [bars[bar - 1]] if bar else bars


def time_of(text: str) -> datetime | None:
    """Return a time, or None for 'now'. Without an offset it is UTC; a date alone is its end."""
    if text == "now":
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise SessionError(f"{text!r} is no time.", next_step="write 2005-02-28T22:00, or now", value=text) from error
    if "T" not in text and " " not in text:
        at = at.replace(hour=23, minute=59, second=59, microsecond=999_999)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


@app.command()
def replay(
    day: Day,
    book: Book = "",
    bar: Bar = 0,
    code: Annotated[str, typer.Option("--code", help="A git revision to compute with.")] = "",
    config: Annotated[str, typer.Option("--config", help="A profile or file in the place of the one of then.")] = "",
    limits: Annotated[
        str, typer.Option("--limits", help="max_exposure=0.5,max_turnover=0.1 or a file with keys of `risk`.")
    ] = "",
    as_of: Annotated[
        str, typer.Option("--as-of", help="Data as known then, or now; default: as of the decision.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Compute a past session again and show what differs from what happened. Writes nothing, sends nothing.

    Exit 0: equal; 1: different; 2: error. Example: python -m tradecore replay 2005-02-28 --limits max_exposure=0.5
    """
    from tradecore.research.replay import run

    with trouble_is_2():
        found, as_now = load_settings(), as_of == "now"
        at, wanted = time_of(as_of) if as_of else None, _limits(limits) if limits else {}
        changing = bool(config or limits)
        results = []
        with compiling(), connection(found) as conn:
            for ctx in _bars(found, conn, book, day, bar):
                result = run.replay(
                    ctx,
                    as_of=at,
                    as_now=as_now,
                    change=(lambda then: _changed(then, config, wanted)) if changing else None,
                    code=code,
                )
                results.append(result)
    show(results if len(results) > 1 else results[0], as_json, "\n".join(run.text(r) for r in results))
    if not all(r["equal"] for r in results):
        raise SystemExit(EXIT_DIFFERENT)


def _changed(then: Trading, config: str, limits: dict[str, Any]) -> Trading:
    """Return the configuration of a profile or file, or that of then, with other limits."""
    from pydantic import ValidationError

    from tradecore import settings
    from tradecore.config_models import Trading
    from tradecore.config_source import YamlSource, config_error, problems_of

    trading = settings.load(config=config).trading if config else then
    if not limits:
        return trading
    plain = trading.model_dump(mode="json")
    plain["risk"] |= limits
    try:
        return Trading.model_validate(plain)
    except ValidationError as error:
        source = YamlSource(name="--limits", data=plain)
        raise config_error(problems_of(error, Trading, source)) from error


def _limits(text: str) -> dict[str, Any]:
    """Return keys of `risk` from 'a=1,b=2' or a YAML file, which may hold them below `risk`."""
    if "=" not in text:
        path = Path(text)
        if not path.is_file():
            raise ConfigError(f"--limits: there is no file {text}.", next_step="name one, or write key=value,...")
        read = _yaml(path.read_text(encoding="utf-8"), text) or {}
        found = read.get("risk", read) if isinstance(read, dict) else read
        if not isinstance(found, dict):
            raise ConfigError(f"--limits: {text} has no keys of `risk`.", next_step="write them as key: value")
        return {**found}
    pairs = [part.partition("=") for part in text.split(",")]
    if not all(key.strip() and sign for key, sign, _ in pairs):
        raise ConfigError(f"--limits {text!r} is no key=value,...", next_step="write max_exposure=0.5,max_turnover=0.1")
    return {key.strip(): _yaml(value, text) for key, _, value in pairs}


def _yaml(text: str, said: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(
            f"--limits {said!r}: {text!r} cannot be read.", next_step="write max_exposure=0.5,max_turnover=0.1"
        ) from error


@app.command("prove-day")
def prove_day(day: Day, book: Book = "", bar: Bar = 0, as_json: Json = False) -> None:
    """Compute a session again as of its decision: the hashes of every stage must be those of then. Keeps the verdict.

    Exit 0: equal; 1: different, with an alert that names the stage; 2: error.
    Example: python -m tradecore prove-day 2005-02-28
    """
    from tradecore import pipeline

    with trouble_is_2():
        found = load_settings()
        results, differs = [], False
        with compiling(), connection(found) as conn:
            for ctx in _bars(found, conn, book, day, bar):
                try:
                    results.append(pipeline.prove(ctx))
                except ProofDiffers as error:
                    results.append(error.details["result"])
                    differs = True
    several = len(results) > 1
    lines = [f"bar {k}: {_proof_text(r)}" if several else _proof_text(r) for k, r in enumerate(results, start=1)]
    show(results if several else results[0], as_json, "\n".join(lines))
    if differs:
        raise SystemExit(EXIT_DIFFERENT)


def _proof_text(result: dict[str, Any]) -> str:
    if not result.get("stage"):
        changed = ", ".join(result.get("changed_inputs", ()))
        return f"proof: {result['proof']}" + (f" ({changed} changed since, same results)" if changed else "")
    changed = ", ".join(result["changed_inputs"]) or "no input"
    return f"proof: DIFFERENT from stage {result['stage']} on; changed since: {changed}\n{result['detail']}"


@data.command("diff")
def data_diff(
    day: Day,
    as_of: Annotated[list[str], typer.Option("--as-of", help="Twice: the two times; 'now' is one.")],
    as_json: Json = False,
) -> None:
    """Show which bars and corporate actions of a session are known otherwise at another time: field, values, sources.

    Exit 0: none; 1: some; 2: error. Example: python -m tradecore data diff 2005-02-28 --as-of 2005-03-01 --as-of now
    """
    from tradecore.context import book_calendar
    from tradecore.research.replay import changed

    with trouble_is_2():
        found = load_settings()
        if len(as_of) != 2:
            raise ConfigError("two times are compared: --as-of A --as-of B.", next_step="give both; 'now' is one")
        session = parse_day(day)
        book_calendar(found).session(session)
        with connection(found) as conn:
            differs = changed.session_changes(found, conn, session, before=time_of(as_of[0]), after=time_of(as_of[1]))
            conn.rollback()
    show(differs, as_json, changed.text(differs) or "  nothing differs")
    if differs:
        raise SystemExit(EXIT_DIFFERENT)
