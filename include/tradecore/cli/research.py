"""Research from a shell: what is kept of backtests, and what a universe is like."""

from __future__ import annotations

from dataclasses import asdict
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tradecore.cli.shell import (
    Day,
    Json,
    LotMethod,
    Lots,
    app,
    compiling,
    connection,
    load_settings,
    now,
    parse_day,
    show,
    writable,
)
from tradecore.errors import ConfigError

if TYPE_CHECKING:
    from tradecore.research.backtest import Backtest
    from tradecore.research.overrides import Overrides


backtests = typer.Typer(no_args_is_help=True, help="Backtests that were kept.")
app.add_typer(backtests, name="backtests")


@app.command()
def backtest(
    first: Day,
    last: Day,
    report: Annotated[str, typer.Option(help="Write the tear sheet, a self-contained HTML page, to this file.")] = "",
    keep: Annotated[bool, typer.Option("--keep", help="Keep the result and its page: `backtests list`.")] = False,
    benchmark: Annotated[str, typer.Option(help="'universe' (equal weights), one of its symbols, or ''.")] = "universe",
    cash: Annotated[str, typer.Option(help="USD that the book opens with; default: the configured cash.")] = "",
    strategies: Annotated[str, typer.Option(help="Only these, by comma; default: those that are on.")] = "",
    params: Annotated[str, typer.Option(help="Parameters by strategy, as JSON.")] = "",
    cost_bps: Annotated[float | None, typer.Option(help="Slippage and commission together, in bps.")] = None,
    allow_gaps: Annotated[
        bool, typer.Option("--allow-gaps", help="Take sessions without any bar as days without a trade.")
    ] = False,
    equity: Annotated[Path | None, typer.Option("--equity", help="Write equity and cash of each bar as CSV.")] = None,
    trades: Annotated[Path | None, typer.Option("--trades", help="Write each fill as CSV.")] = None,
    round_trips: Annotated[Path | None, typer.Option("--round-trips", help="Write each round trip as CSV.")] = None,
    lots: Annotated[Path | None, typer.Option("--lots", help="Write each tax lot as CSV.")] = None,
    lot_method: Lots = LotMethod.fifo,
    as_json: Json = False,
) -> None:
    """Fold the same step over history: what production would have done. Nothing is stored without --keep.

    Example: python -m tradecore backtest 2004-09-01 2005-09-01 --report tearsheet.html --trades trades.csv
    """
    from tradecore.research import backtest as research
    from tradecore.research import kept, sheet
    from tradecore.research.overrides import apply

    found, days = load_settings(), (parse_day(first), parse_day(last))
    wanted = _overrides(cash, strategies, params, cost_bps)
    for path in (Path(report) if report else None, equity, trades, round_trips, lots):
        writable(path)
    chosen, row = apply(found, wanted), None
    with compiling(), connection(found) as conn:
        result = research.run(chosen, conn, first=days[0], last=days[1], allow_gaps=allow_gaps)
        if keep:
            row = kept.keep(result, chosen, conn, overrides=wanted, benchmark=benchmark, now=now())
    relative = sheet.relative(result, benchmark)
    _write_frames(result, {"equity": equity, "trades": trades, "round_trips": round_trips}, lots, lot_method)
    text = research.summary(result)
    text += "".join(f"\n{name:<22} {value:>12.4f}" for name, value in _against(relative).items())
    record: dict[str, object] = research.as_records(result) | ({"relative": relative} if relative else {})
    if row is not None:
        record, text = asdict(row), kept.summary(row)
    if report:
        kept.write_page(sheet.tear_sheet(result, chosen, benchmark=benchmark), Path(report))
        record |= {"report": report}
        text += f"\nreport {report}"
    show(record, as_json, text)


@backtests.command("list")
def list_backtests(
    most: Annotated[int, typer.Option(min=1, max=1000, help="How many, the newest first.")] = 20, as_json: Json = False
) -> None:
    """List the backtests that were kept. Example: python -m tradecore backtests list"""
    from tradecore.research import kept
    from tradecore.storage import backtests as stored

    with connection(load_settings()) as conn:
        rows = stored.newest(conn, most)
    show(rows, as_json, kept.listing(rows))


@backtests.command("show")
def show_backtest(
    start: Annotated[str, typer.Argument(metavar="ID", help="Its id, or how it begins.")], as_json: Json = False
) -> None:
    """Show a backtest that was kept: figures, hashes, page; with --json its equity too.

    Example: python -m tradecore backtests show 3f2a91bc
    """
    from tradecore.research import kept
    from tradecore.storage import backtests as stored

    with connection(load_settings()) as conn:
        row = stored.find(conn, start)
    show(asdict(row), as_json, kept.summary(row))


def _against(relative: dict[str, float | str]) -> dict[str, float]:
    """Return the figures of a benchmark for people: its own, and how the book stands to it."""
    own = ("total_return", "cagr", "sharpe", "max_drawdown")
    numbers = {name: float(value) for name, value in relative.items() if name != "benchmark"}
    return {f"benchmark {name}" if name in own else name: value for name, value in numbers.items()}


def _write_frames(result: Backtest, paths: dict[str, Path | None], lots: Path | None, method: LotMethod) -> None:
    """Write what was asked for as CSV, one row a record."""
    from tradecore.research import frames

    for name, path in paths.items():
        if path is not None:
            getattr(frames, name)(result).to_csv(path, index=name == "equity")
    if lots is not None:
        frames.tax_lots(result, method.value).to_csv(lots, index=False)


def _overrides(cash: str, strategies: str, params: str, cost_bps: float | None) -> Overrides:
    from tradecore.research.overrides import Overrides, parse_params

    try:
        amount = Decimal(cash) if cash else None
    except InvalidOperation as error:
        raise ConfigError(f"{cash!r} is no amount of money.", next_step="write it as 100000.00", value=cash) from error
    return Overrides(
        cash_usd=amount,
        strategies=tuple(name.strip() for name in strategies.split(",") if name.strip()),
        params=parse_params(params),
        cost_bps=cost_bps,
    )


@app.command()
def analyse(
    symbols: Annotated[str, typer.Option(help="By comma; default: the whole universe.")] = "",
    first: Annotated[str, typer.Option(help="First session; default: five years before the last.")] = "",
    last: Annotated[str, typer.Option(help="Last session; default: the feed's last.")] = "",
    out: Annotated[str, typer.Option(help="File of the page; default: below .local/reports/analysis.")] = "",
    as_json: Json = False,
) -> None:
    """Write a page on a universe: distribution, autocorrelation, seasonality, correlation, volatility regimes.

    Example: python -m tradecore analyse --first 2004-01-02 --last 2008-12-31 --out universe.html
    """
    from datetime import timedelta

    from tradecore import pipeline
    from tradecore.research import analysis

    found = load_settings()
    page = writable(Path(out) if out else None)
    with compiling(), connection(found) as conn:
        until = parse_day(last) if last else pipeline.last_available_session(found, conn, now())
        since = parse_day(first) if first else until - timedelta(days=5 * 365)
        names = tuple(name.strip() for name in symbols.split(",") if name.strip())
        if not as_json:
            typer.echo(f"reading {len(names) or 'all'} names from {since} to {until}", err=True)
        record = analysis.run(found, conn, symbols=names, first=since, last=until, out=page)
    show(record, as_json, analysis.summary(record))
