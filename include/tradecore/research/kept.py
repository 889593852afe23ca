"""A backtest that is kept: run with its overrides, its page written, its result in the database."""

from __future__ import annotations

import math
from datetime import date, datetime
from pathlib import Path
from typing import Any

import psycopg

from tradecore import provenance
from tradecore.context import book_calendar
from tradecore.reports import metrics
from tradecore.reports.tearsheet_model import TearSheet
from tradecore.research import backtest, sheet
from tradecore.research.backtest import Backtest
from tradecore.research.overrides import Overrides, apply
from tradecore.settings import Settings
from tradecore.storage import backtests
from tradecore.storage.backtests import StoredBacktest

FIGURES = {
    "total_return": metrics.total_return,
    "cagr": metrics.cagr,
    "volatility": metrics.annual_volatility,
    "sharpe": metrics.sharpe,
    "sortino": metrics.sortino,
    "max_drawdown": metrics.max_drawdown,
    "calmar": metrics.calmar,
    "hit_rate": metrics.hit_rate,
    "profit_factor": metrics.profit_factor,
    "value_at_risk": metrics.value_at_risk,
    "expected_shortfall": metrics.conditional_value_at_risk,
    "skewness": metrics.skewness,
    "kurtosis": metrics.kurtosis,
    "ulcer_index": metrics.ulcer_index,
    "probabilistic_sharpe": metrics.probabilistic_sharpe,
}
RELATIVE = {
    "beta": metrics.beta,
    "alpha": metrics.alpha,
    "information_ratio": metrics.information_ratio,
    "tracking_error": metrics.tracking_error,
}


def run(
    settings: Settings,
    conn: psycopg.Connection,
    *,
    first: date,
    last: date,
    overrides: Overrides,
    benchmark: str = sheet.UNIVERSE,
    now: datetime,
    allow_gaps: bool = False,
) -> StoredBacktest:
    """Run a backtest, write its page below the local folder, and keep it. Running it again changes no row.

    Commits. Raises what the backtest and the overrides raise.
    """
    wanted = apply(settings, overrides)
    result = backtest.run(wanted, conn, first=first, last=last, allow_gaps=allow_gaps)
    return keep(result, wanted, conn, overrides=overrides, benchmark=benchmark, now=now)


def keep(
    result: Backtest,
    wanted: Settings,
    conn: psycopg.Connection,
    *,
    overrides: Overrides,
    benchmark: str = sheet.UNIVERSE,
    now: datetime,
) -> StoredBacktest:
    """Keep a backtest that was run with settings `wanted`: its page, and its row. Commits."""
    shown = sheet.tear_sheet(result, wanted, benchmark=benchmark)
    path = wanted.local_dir / "reports" / "backtests" / f"{backtest_id(result, wanted, benchmark)[:16]}.html"
    write_page(shown, path)
    row = as_row(result, shown, wanted, overrides, benchmark=benchmark, now=now, report=path)
    with conn.transaction():
        backtests.save(conn, row)
    conn.commit()
    return row


def write_page(shown: TearSheet, path: Path) -> None:
    """Write the tear sheet; a reader never sees half of it."""
    from tradecore.reports.tearsheet import render  # matplotlib: 60 MB that only a page needs

    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(path.name + ".part")
    half.write_text(render(shown), encoding="utf-8")
    half.replace(path)


def backtest_id(result: Backtest, settings: Settings, benchmark: str) -> str:
    """Return the hash of what a backtest is made of."""
    found, days = sheet.hashes(result, settings), result.inputs.days
    return provenance.hash_of(found["data"], found["config"], found["code"], str(days[0]), str(days[-1]), benchmark)


def as_row(
    result: Backtest,
    shown: TearSheet,
    settings: Settings,
    overrides: Overrides,
    *,
    benchmark: str,
    now: datetime,
    report: Path | None,
) -> StoredBacktest:
    """Return a backtest as it is stored; settings are those it was run with."""
    trading, found = settings.trading, dict(shown.hashes)
    days = tuple(dict.fromkeys(result.inputs.days))
    bars = result.inputs.days
    last = [t for t in range(len(bars)) if t + 1 == len(bars) or bars[t + 1] != bars[t]]
    other = shown.benchmark.returns if shown.benchmark else None
    return StoredBacktest(
        backtest_id=backtest_id(result, settings, benchmark),
        created_at=now,
        first_session=days[0],
        last_session=days[-1],
        calendar=book_calendar(settings).name,
        timeframe=trading.book.timeframe,
        source=trading.data.feed,
        universe=trading.universe.name,
        symbols=result.inputs.symbols,
        strategies={
            name: trading.strategies[name].model_dump(mode="json", include={"kind", "capital_share", "params"})
            for name in result.inputs.strategies
        },
        overrides=overrides.as_record(),
        initial_cash_e4=result.inputs.cash_e4,
        benchmark=benchmark,
        config_hash=found["config"],
        code_hash=found["code"],
        data_hash=found["data"],
        book_hash=found["book"],
        orders=shown.orders,
        fills=shown.fills,
        metrics=figures(shown),
        session_dates=days,
        equity_e4=[int(v) for v in result.fold.equity_e4[last]],
        benchmark_growth=None if other is None else [float(v) for v in metrics.growth(other)[1:]],
        fold_s=result.seconds,
        report_path="" if report is None else _below(report, settings.home),
    )


def figures(shown: TearSheet) -> dict[str, float | None]:
    """Return the figures that are kept, rounded to 1e-9; what is not defined is None."""
    found: dict[str, Any] = {name: of(shown.returns) for name, of in FIGURES.items()}
    if shown.benchmark:
        found |= {name: of(shown.returns, shown.benchmark.returns) for name, of in RELATIVE.items()}
        found["benchmark_total_return"] = metrics.total_return(shown.benchmark.returns)
    found["turnover"] = metrics.annual_turnover(shown.traded_usd, shown.equity_usd[1:])
    found["exposure"] = float(shown.gross_frac.mean())
    found["costs_usd"] = float(shown.fees_usd.sum() + shown.slippage_usd.sum())
    found["round_trips"] = float(len(shown.trips))
    return {name: round(float(value), 9) if math.isfinite(value) else None for name, value in found.items()}


def _below(path: Path, home: Path) -> str:
    return str(path.relative_to(home)) if path.is_relative_to(home) else str(path)


def summary(row: StoredBacktest) -> str:
    """Return a kept backtest in a few lines for people."""
    lines = [
        f"backtest {row.backtest_id[:16]}: {', '.join(row.strategies)}, {row.first_session} to {row.last_session}, "
        f"{len(row.symbols)} symbols, benchmark {row.benchmark or 'none'}",
        f"equity {row.initial_cash_e4 / 1e4:,.2f} -> {row.equity_e4[-1] / 1e4:,.2f} USD, {row.orders} orders, "
        f"{row.fills} fills, report {row.report_path or 'none'}",
    ]
    if row.overrides:
        lines.append(f"overrides {row.overrides}")
    lines += [f"{name:<24} {'not defined' if v is None else f'{v:>14.4f}'}" for name, v in row.metrics.items()]
    lines += [
        f"{name:<24} {value}"
        for name, value in (("data", row.data_hash), ("config", row.config_hash), ("code", row.code_hash))
    ]
    return "\n".join(lines)


def listing(rows: list[dict[str, Any]]) -> str:
    """Return kept backtests, one a line."""
    if not rows:
        return "no backtest is kept yet: python -m tradecore backtest FIRST LAST --keep"
    return "\n".join(
        f"{r['backtest_id'][:16]}  {r['created_at']:%Y-%m-%d %H:%M}  {r['first_session']} to {r['last_session']}  "
        f"Sharpe {_two(r['metrics'].get('sharpe'))}  return {_two(r['metrics'].get('total_return'))}  "
        f"{', '.join(r['strategies'])}"
        for r in rows
    )


def _two(value: float | None) -> str:
    return "   n/a" if value is None else f"{value:6.2f}"
