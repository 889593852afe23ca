"""Old raw data: into files, out of the database and back; and what maintenance does in its quiet hours."""

from __future__ import annotations

from datetime import UTC, datetime, time
from pathlib import Path
from typing import Annotated

import typer

from tradecore.cli.replaying import data
from tradecore.cli.shell import Json, app, connection, load_settings, now, parse_day, show
from tradecore.errors import ConfigError

series = typer.Typer(no_args_is_help=True, help="Fundamentals, sentiment, macro: values that strategies read as known.")
data.add_typer(series, name="series")


@app.command()
def maintain(
    step: Annotated[
        list[str] | None, typer.Option("--step", help="Only this: aggregates, retention, compression, vacuum, logs.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Do what the DAG ops_maintenance does in quiet hours. Any step may run again at any time.

    Example: python -m tradecore maintain --step retention
    """
    from tradecore import maintenance

    wanted = list(step or maintenance.STEPS)
    unknown = sorted(set(wanted) - set(maintenance.STEPS))
    if unknown:
        raise ConfigError(
            f"no step of maintenance is called {unknown[0]!r}.", next_step=f"one of: {', '.join(maintenance.STEPS)}"
        )
    found, results = load_settings(), {}
    with connection(found) as conn:
        for name in wanted:
            results[name] = maintenance.run(found, conn, name, now(), now)
    show(results, as_json, "\n".join(f"{name:<12} {result}" for name, result in results.items()))


@data.command("archive")
def data_archive(
    table: Annotated[str, typer.Option("--table", help="minute_bars or trades.")] = "minute_bars",
    before: Annotated[str, typer.Option("--before", help="A date; default: now. Whole weeks, or days of trades.")] = "",
    as_json: Json = False,
) -> None:
    """Write raw data to Parquet files (maintenance.archive_folder); the database keeps them.

    Example: python -m tradecore data archive --table trades --before 2024-03-01
    """
    from tradecore import archiving

    until = datetime.combine(parse_day(before), time(), tzinfo=UTC) if before else now()
    found = load_settings()
    with connection(found) as conn:
        done = archiving.archive_before(found, conn, table=table, before=until, now=now())
    lines = [f"{a.rows:>12,} rows  {a.file}" for a in done]
    record = [{"table": a.table, "rows": a.rows, "file": str(a.file), "hash": a.content_hash} for a in done]
    show(record, as_json, "\n".join(lines) or f"no whole slice of {table} ends by {until:%Y-%m-%d %H:%M} UTC")


@data.command("archives")
def data_archives(as_json: Json = False) -> None:
    """List the files that raw data were written to. Example: python -m tradecore data archives"""
    from tradecore.storage import keeping

    with connection(load_settings()) as conn:
        found = conn.execute(keeping.SQL["archives"]).fetchall()
    names = ("table", "first", "until", "rows", "file", "archived_at", "dropped_at", "held_until")
    lines = [
        f"{r[0]:<12} {r[1]:%Y-%m-%d} to {r[2]:%Y-%m-%d} {r[3]:>12,} rows  {'out of' if r[6] else 'in':<6} "
        f"the database  {r[4]}"
        for r in found
    ]
    show([dict(zip(names, r, strict=True)) for r in found], as_json, "\n".join(lines) or "no archives yet")


@data.command("import")
def data_import(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files of `data archives`.")],
    days: Annotated[int, typer.Option("--days", help="Days that retention leaves them alone.", min=1)] = 30,
    as_json: Json = False,
) -> None:
    """Bring archived raw data back into the database, for some days. Rows that are there stay as they are.

    Example: python -m tradecore data import .local/archive/minute_bars/2023-01-05_2023-01-12_0f3a.parquet
    """
    from tradecore import archiving

    with connection(load_settings()) as conn:
        results = [archiving.import_file(conn, path, now(), days) for path in files]
    lines = [f"{r['table']}: {r['new']:,} of {r['rows']:,} rows are new, held for {days} days" for r in results]
    show(results, as_json, "\n".join(lines))


@data.command("minutes")
def data_minutes(
    first: Annotated[str, typer.Argument(metavar="FIRST", help="First session, YYYY-MM-DD.")],
    last: Annotated[str, typer.Argument(metavar="LAST", help="Last session.")],
    symbols: Annotated[str, typer.Option("--symbols", help="AAPL,MSFT; default: the members.")] = "",
    as_json: Json = False,
) -> None:
    """Load raw minute bars of past sessions from the configured feed, and make 5 m, 1 h and 1 d bars of them.

    Example: python -m tradecore data minutes 2024-01-02 2024-01-31 --symbols AAPL
    """
    from tradecore import minutes

    found = load_settings()
    with connection(found) as conn:
        done = minutes.load(
            found,
            conn,
            first=parse_day(first),
            last=parse_day(last),
            symbols=[s.strip() for s in symbols.split(",") if s.strip()] or None,
            now=now(),
            progress=lambda text: typer.echo(text, err=True),
        )
    show(done, as_json, f"{done['bars']:,} minute bars of {done['sessions']} sessions, {done['changed']:,} of them new")


@series.command("load")
def series_load(
    file: Annotated[Path, typer.Argument(help="CSV or Parquet: value, value_at, known_at, symbol, series.")],
    name: Annotated[str, typer.Option("--series", help="The series of all lines; default: the column `series`.")] = "",
    source: Annotated[str, typer.Option("--source", help="Where the values come from; default: the file's name.")] = "",
    lag_days: Annotated[
        float | None, typer.Option("--lag-days", help="Without known_at: known so many days after value_at.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Load fundamentals, sentiment or macro figures for `window.series(NAME)`. What is there is not added again.

    Example: python -m tradecore data series load earnings.csv --series eps --source my-vendor
    """
    from tradecore import alternative

    with connection(load_settings()) as conn:
        new = alternative.load_file(conn, file, name=name, source=source or file.name, lag_days=lag_days, now=now())
    show(new, as_json, "\n".join(f"{key}: {count:,} new values" for key, count in new.items()) or "the file is empty")


@series.command("list")
def series_list(as_json: Json = False) -> None:
    """List the alternative series of the database. Example: python -m tradecore data series list"""
    from tradecore.storage import series as stored

    with connection(load_settings()) as conn:
        rows = conn.execute(stored.SQL["list"]).fetchall()
    names = ("series", "statements", "instruments", "first", "last", "known_until", "source")
    lines = [
        f"{r[0]:<20} {r[1]:>9,} statements of {r[2]:,} names, {r[3]:%Y-%m-%d} to {r[4]:%Y-%m-%d}, from {r[6]}"
        for r in rows
    ]
    show([dict(zip(names, r, strict=True)) for r in rows], as_json, "\n".join(lines) or "no alternative series yet")
