"""The page of one session: everything that happened, what will be sent, what needs a person. One file, no network.

`render` is a pure function of its data (templates beside this module are part of the code): same data, same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np

from tradecore.report_model import ZERO, FillLine, PositionLine, SessionReport
from tradecore.reports import formats, metrics
from tradecore.reports.attention import attention
from tradecore.reports.changes import contributions, price_gain_usd
from tradecore.reports.charts import candle_chart, equity_chart
from tradecore.reports.happened import event_text, limit_text
from tradecore.reports.pages import TEMPLATES, environment
from tradecore.reports.palette import palette_css

LIMIT_AT = Decimal("0.8")  # where on a meter its limit stands
METRICS_FROM_RETURNS = 60
ROWS_OF_NAMES = 40
WIDE, NARROW = (1040, 320), (358, 250)
CANDLES = (420, 240)


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """A value against its limit, as percentages of the meter's length; `over` is beyond the limit."""

    label: str
    text: str
    limit_text: str
    fill_pct: float
    limit_pct: float
    over: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    """A row of the table of names: what is held, where it should go, and each strategy's score (None: no row)."""

    symbol: str
    scores: tuple[tuple[bool, float | None, float | None], ...]
    weight_frac: Decimal | None
    target_shares: Decimal | None
    held_shares: Decimal
    has_opinion: bool


def render(report: SessionReport) -> str:
    """Return the report as one self-contained HTML document that ends with a newline."""
    names = _names(report)
    shown = names if len(names) <= ROWS_OF_NAMES else [name for name in names if _says_something(name)]
    return (
        environment()
        .get_template("session_report.html.j2")
        .render(
            r=report,
            css=palette_css() + (TEMPLATES / "report.css").read_text(encoding="utf-8"),
            items=attention(report),
            contributions=_bars(report),
            events=[(line.symbol, event_text(line)) for line in report.events if event_text(line)],
            limit_events=[(line.symbol, limit_text(line)) for line in report.limit_events],
            equity_gain=_equity_gain(report),
            meters=_meters(report),
            position_meters={line.symbol: _position_meter(report, line) for line in report.positions},
            gains={line.symbol: price_gain_usd(line) for line in report.positions},
            names=shown,
            names_left_out=len(names) - len(shown),
            ratios_from=METRICS_FROM_RETURNS,
            fill_totals=_fill_totals(report.fills),
            figures=_figures(report),
            equity_svgs=_equity_svgs(report),
            candle_svgs=[(chart, _last_change(chart.candles), _candles(chart)) for chart in report.charts],
        )
        + "\n"
    )


def _equity_gain(report: SessionReport) -> Decimal | None:
    """Return the change of equity since the last session, deposits left out."""
    before = report.previous_account
    return None if before is None else report.account.equity_usd - before.equity_usd - report.flow_usd


def _bars(report: SessionReport) -> list[dict[str, Any]]:
    """Return the contributions with the place of their bar: left and width in percent around a middle line."""
    lines = contributions(report)
    largest = max((abs(line.amount_usd) for line in lines), default=ZERO) or Decimal(1)
    bars = []
    for line in lines:
        width = float(abs(line.amount_usd) / largest * 50)
        left = 50.0 if line.amount_usd > 0 else 50.0 - width
        bars.append({"label": line.label, "amount": line.amount_usd, "left": f"{left:.2f}", "width": f"{width:.2f}"})
    return bars


def _meters(report: SessionReport) -> tuple[Meter, ...]:
    """Return the book's meters: what the limits of a whole book are measured on."""
    limits = report.limits
    loss = max(ZERO, -report.daily_return_frac)
    meters = [
        _meter("Gross exposure", report.gross_frac, limits.max_exposure_frac),
        _meter("Session loss", loss, limits.max_daily_loss_frac),
        _meter("Drawdown", report.drawdown_frac, limits.max_drawdown_frac),
    ]
    if report.turnover_frac is not None:
        meters.append(_meter("Order turnover", report.turnover_frac, limits.max_turnover_frac))
    return tuple(meters)


def _position_meter(report: SessionReport, line: PositionLine) -> Meter:
    equity = report.account.equity_usd
    weight = abs(line.value_usd) / equity if equity > 0 else ZERO
    return _meter(line.symbol, weight, report.limits.max_position_frac)


def _meter(label: str, value: Decimal, limit: Decimal) -> Meter:
    filled = min(Decimal(1), value / limit * LIMIT_AT) if limit > 0 else ZERO
    return Meter(
        label=label,
        text=formats.percent(value),
        limit_text=formats.percent(limit, 0 if limit * 100 == (limit * 100).to_integral_value() else 1),
        fill_pct=round(float(filled) * 100, 2),
        limit_pct=float(LIMIT_AT) * 100,
        over=value > limit,
    )


def _names(report: SessionReport) -> list[Name]:
    """Return a row per name that has a score, a target or a holding, in the order of the targets."""
    targets = {line.symbol: line for line in report.targets}
    held = {line.symbol: line.qty_shares for line in report.positions}
    scores = {(line.strategy, line.symbol): line.score for line in report.signals}
    symbols = dict.fromkeys(
        [*targets, *(line.symbol for line in report.signals), *(s for s, qty in held.items() if qty != 0)]
    )
    return [
        Name(
            symbol=symbol,
            scores=tuple(
                ((s.name, symbol) in scores, scores.get((s.name, symbol)), s.threshold) for s in report.strategies
            ),
            weight_frac=targets[symbol].weight_frac if symbol in targets else None,
            target_shares=targets[symbol].qty_shares if symbol in targets else None,
            held_shares=held.get(symbol, ZERO),
            has_opinion=targets[symbol].has_opinion if symbol in targets else True,
        )
        for symbol in symbols
    ]


def _says_something(name: Name) -> bool:
    return bool(name.held_shares or name.target_shares or any(score for _, score, _ in name.scores))


def _fill_totals(fills: tuple[FillLine, ...]) -> Mapping[str, Decimal | None]:
    """Return the totals of the session's fills; slippage in bps is weighted by notional."""
    at_open = sum((abs(fill.qty_shares * fill.open_price_usd) for fill in fills), ZERO)
    at_ref = sum((abs(fill.qty_shares * fill.ref_price_usd) for fill in fills), ZERO)
    slippage = sum((fill.slippage_usd for fill in fills), ZERO)
    shortfall = sum((fill.shortfall_usd for fill in fills), ZERO)
    return {
        "notional": sum((abs(fill.qty_shares * fill.price_usd) for fill in fills), ZERO),
        "fees": sum((fill.fee_usd for fill in fills), ZERO),
        "slippage": slippage,
        "slippage_bps": slippage / at_open * 10_000 if at_open else None,
        "shortfall": shortfall,
        "shortfall_bps": shortfall / at_ref * 10_000 if at_ref else None,
    }


def _returns(report: SessionReport) -> metrics.Floats:
    equity = np.array([float(point.equity_usd) for point in report.equity])
    flow = np.array([float(point.flow_usd) for point in report.equity])
    return metrics.simple_returns(equity, flow)


def _figures(report: SessionReport) -> list[tuple[str, str, str]]:
    """Return (name, figure, convention) of the book since inception; annual ones only when they mean something."""
    returns = _returns(report)
    figures = [
        ("Return", formats.signed_percent(metrics.total_return(returns)), "net of deposits"),
        ("Deepest drawdown", formats.percent(metrics.max_drawdown(returns)), "of the time-weighted index"),
        ("Longest below a peak", f"{metrics.longest_drawdown(returns)} sessions", ""),
    ]
    if len(returns) < METRICS_FROM_RETURNS:
        return figures
    ratios = [
        ("CAGR", formats.signed_percent(metrics.cagr(returns)), "252 sessions a year"),
        ("Volatility", formats.percent(metrics.annual_volatility(returns)), "annual, of session returns"),
        ("Sharpe", formats.ratio(metrics.sharpe(returns)), "annual, risk-free rate 0"),
        ("Sortino", formats.ratio(metrics.sortino(returns)), "annual, target 0"),
        ("Calmar", formats.ratio(metrics.calmar(returns)), "CAGR over deepest drawdown"),
        ("Winning sessions", formats.percent(metrics.hit_rate(returns), 0), "of those that moved"),
    ]
    return figures + ratios


def _equity_svgs(report: SessionReport) -> tuple[str, str] | None:
    """Return the curve for wide and for narrow pages; None at the first bar, when there is no curve."""
    if len(report.equity) < 2:
        return None
    drawdown = metrics.drawdowns(_returns(report))
    wide, narrow = (
        equity_chart(report.equity, drawdown, width=width, height=height) for width, height in (WIDE, NARROW)
    )
    return wide, narrow


def _candles(chart: Any) -> str:
    return candle_chart(chart, width=CANDLES[0], height=CANDLES[1])


def _last_change(candles: Any) -> Decimal | None:
    """Return the last bar's change of the adjusted close as a fraction; None for a single bar."""
    if len(candles) < 2:
        return None
    last, before = candles[-1], candles[-2]
    now = float(last.close_usd) * last.adj_factor
    return Decimal(str(now / (float(before.close_usd) * before.adj_factor) - 1.0))
