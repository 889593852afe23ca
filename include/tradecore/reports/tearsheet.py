"""The tear sheet of a backtest: one self-contained page, light and dark, made to be printed too. No network, no script.

`render` is a pure function of its records: same data, same bytes.
"""

from __future__ import annotations

import math
from datetime import date
from typing import Any

import numpy as np

from tradecore.reports import formats, metrics
from tradecore.reports import tearsheet_charts as draw
from tradecore.reports import tearsheet_figures as figures
from tradecore.reports.metrics import Floats
from tradecore.reports.pages import research_page, shade
from tradecore.reports.tearsheet_model import Part, TearSheet
from tradecore.units import from_day

WIDE, NARROW = (1040, 350), (358, 280)
ROWS_OF_TRIPS = 8
ROWS_OF_NAMES = 20
STATES = ("active", "reduce-only", "halted")


def render(sheet: TearSheet) -> str:
    """Return the page. Raises ValueError for a backtest without a session."""
    if sheet.day.size == 0:
        raise ValueError("a tear sheet needs at least one session")
    days = [from_day(int(d)) for d in sheet.day]
    trips = [t for t in sheet.trips if t.closed_on is not None]
    by_gain = sorted(trips, key=lambda t: -t.gain_usd)
    half = min(ROWS_OF_TRIPS, len(by_gain) // 2)
    return research_page(
        "tearsheet.html.j2",
        s=sheet,
        first=days[0],
        last=days[-1],
        tiles=_tiles(sheet),
        groups=figures.groups(sheet),
        growth=_growth(sheet, days),
        drawdowns=figures.drawdown_rows(sheet.returns, sheet.day),
        months=_months(sheet),
        month_names=formats.MONTHS,
        years_svg=_years(sheet),
        rolling=_rolling(sheet, days),
        spread=_spread(sheet),
        periods=figures.periods(sheet.returns, sheet.day),
        crises=figures.crises(sheet),
        use=_use(sheet, days),
        strategy_rows=_bars(sheet.strategies),
        strategy_svg=_strategy_curves(sheet, days),
        name_rows=_bars(sheet.names[:ROWS_OF_NAMES]),
        names_left_out=max(0, len(sheet.names) - ROWS_OF_NAMES),
        unexplained=float(sheet.equity_usd[-1] - sheet.equity_usd[0]) - sum(p.total_usd for p in sheet.names),
        trip_lines=figures.trip_lines(sheet.trips),
        trip_rows=[*by_gain[:half], *by_gain[len(by_gain) - half :]] if half else by_gain,
        trip_svg=_trip_histogram(trips),
        costs=_costs(sheet),
        stopped=[(STATES[k], int((sheet.state == k).sum())) for k in (1, 2)],
    )


def _tiles(sheet: TearSheet) -> list[tuple[str, str, str, str]]:
    """Return (name, figure, class, what stands below) of the first row."""
    r, other = sheet.returns, sheet.benchmark.returns if sheet.benchmark else None

    def beside(of: Any, show: Any) -> str:
        return "" if other is None else f"benchmark {show(of(other))}"

    depth = metrics.max_drawdown
    return [
        (
            "Total return",
            formats.signed_percent(metrics.total_return(r), 1),
            formats.sign_class(metrics.total_return(r)),
            beside(metrics.total_return, lambda v: formats.signed_percent(v, 1)),
        ),
        (
            "CAGR",
            formats.signed_percent(metrics.cagr(r), 1),
            formats.sign_class(metrics.cagr(r)),
            beside(metrics.cagr, lambda v: formats.signed_percent(v, 1)),
        ),
        ("Sharpe", formats.ratio(metrics.sharpe(r)), "", beside(metrics.sharpe, formats.ratio)),
        (
            "Volatility",
            formats.percent(metrics.annual_volatility(r), 1),
            "",
            beside(metrics.annual_volatility, lambda v: formats.percent(v, 1)),
        ),
        ("Deepest drawdown", formats.percent(depth(r), 1), "", beside(depth, lambda v: formats.percent(v, 1))),
        ("Equity", f"${sheet.equity_usd[-1]:,.0f}", "", f"from ${sheet.equity_usd[0]:,.0f}"),
    ]


def _growth(sheet: TearSheet, days: list[date]) -> dict[str, str]:
    """Return the curve for wide and narrow pages, and on a logarithmic scale where it says something else."""
    curves = [("Backtest", metrics.growth(sheet.returns))]
    if sheet.benchmark:
        curves.append((sheet.benchmark.label, metrics.growth(sheet.benchmark.returns)))
    arguments = (days, curves, metrics.drawdowns(sheet.returns), np.concatenate([[False], sheet.state == 2]))
    found = {
        "wide": draw.growth_chart(*arguments, width=WIDE[0], height=WIDE[1], log=False),
        "narrow": draw.growth_chart(*arguments, width=NARROW[0], height=NARROW[1], log=False),
        "log": "",
    }
    every = np.concatenate([values for _, values in curves])
    if every.min() > 0.0 and every.max() / every.min() > 2.0:
        found["log"] = draw.growth_chart(*arguments, width=WIDE[0], height=WIDE[1], log=True)
    return found


def _months(sheet: TearSheet) -> list[tuple[int, list[tuple[str, str]], str, str]]:
    """Return a row a year: twelve (shade, text), the year's own text, and the benchmark's."""
    years, table = metrics.monthly_table(sheet.returns, sheet.day)
    other = None if sheet.benchmark is None else metrics.monthly_table(sheet.benchmark.returns, sheet.day)[1]
    known = np.abs(table[:, :12][~np.isnan(table[:, :12])])
    full = float(np.quantile(known, 0.95)) if known.size else 0.0
    rows = []
    for k, year in enumerate(years):
        cells = [(shade(float(v), full), "" if math.isnan(v) else _short(float(v))) for v in table[k, :12]]
        beside = "" if other is None else _short(float(other[k, 12]))
        rows.append((int(year), cells, _short(float(table[k, 12])), beside))
    return rows


def _short(value: float) -> str:
    """Return a fraction as percent without its sign, as in a heatmap: 4.2, or -0.7 with a real minus."""
    text = f"{abs(value) * 100:.1f}"
    return f"{formats.MINUS}{text}" if value < 0.0 and text != "0.0" else text


def _years(sheet: TearSheet) -> str:
    numbers, own = metrics.by_span(sheet.returns, sheet.day, "year")
    series = [own]
    if sheet.benchmark:
        series.append(metrics.by_span(sheet.benchmark.returns, sheet.day, "year")[1])
    names = [str(1970 + int(k)) for k in numbers]
    label = "Return by year: " + ", ".join(
        f"{n} {formats.percent(float(v), 1)}" for n, v in zip(names, own, strict=True)
    )
    return draw.bar_chart(names, series, salt="years", label=label, every=1 + len(names) // 9)


def _rolling(sheet: TearSheet, days: list[date]) -> list[tuple[str, str]]:
    """Return (caption, chart) of the rolling figures; none when there are fewer sessions than a window."""
    window = figures.ROLLING
    if sheet.day.size <= window:
        return []
    r, b = sheet.returns, sheet.benchmark.returns if sheet.benchmark else None
    found = []
    for name, of, options in (
        ("Sharpe", metrics.rolling_sharpe, {"base": 0.0}),
        ("Volatility", metrics.rolling_volatility, {"percents": True}),
        ("Sortino", metrics.rolling_sortino, {"base": 0.0}),
    ):
        curves = [_finite(of(r, window))] + ([] if b is None else [_finite(of(b, window))])
        label = f"Rolling {name.lower()} over {window} sessions, last {formats.ratio(float(curves[0][-1]))}"
        found.append((name, draw.line_chart(days, curves, salt=f"rolling-{name}", label=label, **options)))
    if b is not None:
        beta = _finite(metrics.rolling_beta(r, b, window))
        label = f"Rolling beta over {window} sessions, last {formats.ratio(float(beta[-1]))}"
        found.append(("Beta", draw.line_chart(days, [beta], salt="rolling-beta", label=label, base=0.0)))
    return found


def _finite(curve: Floats) -> Floats:
    return np.where(np.isfinite(curve), curve, np.nan)


def _spread(sheet: TearSheet) -> list[tuple[str, str]]:
    months = metrics.by_span(sheet.returns, sheet.day, "month")[1]
    return [
        (
            name,
            draw.histogram(
                values, salt=f"spread-{name}", label=f"Distribution of {values.size} returns, {name.lower()}"
            ),
        )
        for name, values in (("Sessions", sheet.returns), ("Months", months))
    ]


def _use(sheet: TearSheet, days: list[date]) -> list[tuple[str, str]]:
    """Return the charts of how the capital was used: exposure, names, turnover and what it cost."""
    gross, net = sheet.gross_frac, sheet.net_frac
    short = bool(np.any(gross - net > 1e-9))
    turnover = sheet.traded_usd / sheet.equity_usd[1:] / 2.0
    month = metrics.span_of(sheet.day, "month")
    starts = np.flatnonzero(np.concatenate([[True], month[1:] != month[:-1]]))
    monthly = np.repeat(np.add.reduceat(turnover, starts), np.diff(np.append(starts, month.size)))
    return [
        (
            "Exposure, gross and net" if short else "Exposure, gross",
            draw.line_chart(
                days,
                [gross, net] if short else [gross],
                salt="exposure",
                label=f"Exposure, on average {formats.percent(float(gross.mean()), 1)} gross",
                percents=True,
                base=0.0,
                filled=True,
            ),
        ),
        (
            "Names held",
            draw.line_chart(
                days,
                [sheet.names_held],
                salt="names",
                label=f"Names held, on average {sheet.names_held.mean():.1f}",
                base=0.0,
            ),
        ),
        (
            "Turnover a month",
            draw.line_chart(
                days,
                [monthly],
                salt="turnover",
                label=f"One-sided turnover a month, on average {formats.percent(float(monthly.mean()), 1)}",
                percents=True,
                base=0.0,
                filled=True,
            ),
        ),
        (
            "Costs so far, of the opening equity",
            draw.line_chart(
                days,
                [
                    np.cumsum(sheet.fees_usd + sheet.slippage_usd) / sheet.equity_usd[0],
                    np.cumsum(sheet.fees_usd) / sheet.equity_usd[0],
                ],
                salt="costs",
                label=f"Costs so far, ${(sheet.fees_usd + sheet.slippage_usd).sum():,.0f} in the end",
                percents=True,
                base=0.0,
            ),
        ),
    ]


def _costs(sheet: TearSheet) -> list[figures.Line]:
    """Return what trading took, in dollars and against what was traded and earned."""
    fees, slippage, traded = (float(v.sum()) for v in (sheet.fees_usd, sheet.slippage_usd, sheet.traded_usd))
    turnover = metrics.annual_turnover(sheet.traded_usd, sheet.equity_usd[1:])
    took = sheet.participation_frac
    of_bar = formats.percent(float(np.quantile(took, 0.95)), 3) if took.size else formats.NOTHING
    room = figures.capacity_usd(sheet)
    rows = (
        ("Orders and fills", f"{sheet.orders:,} and {sheet.fills:,}", ""),
        ("Traded", f"${traded:,.0f}", ""),
        ("Turnover", formats.percent(turnover, 0), "a year, one-sided, of the equity"),
        ("Fees", f"${fees:,.0f}", f"{fees / traded * 1e4:.1f} bps of what was traded" if traded else ""),
        ("Slippage", f"${slippage:,.0f}", f"{slippage / traded * 1e4:.1f} bps of what was traded" if traded else ""),
        ("Exposure", formats.percent(float(sheet.gross_frac.mean()), 1), "gross, on average"),
        ("Fill against its bar's volume", of_bar, "95th percentile"),
        (
            "Capacity",
            formats.NOTHING if math.isnan(room) else f"${room / 1e6:,.1f}M",
            f"opening equity at which 95 of 100 fills stay within {formats.percent(sheet.participation_limit_frac, 0)} "
            "of the volume",
        ),
    )
    return [figures.Line(name=name, book=value, benchmark="", note=note) for name, value, note in rows]


def _bars(parts: tuple[Part, ...]) -> list[tuple[Part, float, float]]:
    """Return parts with the place of their bar: left and width in percent around a middle line."""
    largest = max((abs(p.total_usd) for p in parts), default=0.0) or 1.0
    found = []
    for part in parts:
        width = abs(part.total_usd) / largest * 50.0
        found.append((part, round(50.0 if part.total_usd > 0.0 else 50.0 - width, 2), round(width, 2)))
    return found


def _strategy_curves(sheet: TearSheet, days: list[date]) -> str:
    if len(sheet.strategies) < 2:
        return ""
    curves = [np.cumsum(p.gain_usd) / sheet.equity_usd[0] for p in sheet.strategies[: len(draw.COLOURS)]]
    label = "Gain so far by strategy: " + ", ".join(f"{p.name} ${p.total_usd:,.0f}" for p in sheet.strategies)
    return draw.line_chart(
        days, curves, salt="strategies", label=label, percents=True, base=0.0, width=WIDE[0], height=220
    )


def _trip_histogram(trips: list[Any]) -> str:
    returns = np.array([t.return_frac for t in trips])
    if returns.size < 8:
        return ""
    label = f"Distribution of the returns of {returns.size} round trips"
    return draw.histogram(returns, salt="trips", label=label, normal=False)
