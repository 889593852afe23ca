"""The numbers of a tear sheet: tables of figures, drawdowns, periods and round trips, ready to be shown.

Annual figures count 252 sessions a year; the risk-free rate is 0. What a figure means: reports/metrics.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from tradecore.reports import formats, metrics
from tradecore.reports.metrics import Floats
from tradecore.reports.metrics.tables import Days, Drawdown
from tradecore.reports.tearsheet_model import RoundTrip, TearSheet
from tradecore.units import from_day

ROLLING = 126  # half a year of sessions

# Spans that people ask about, first and last day: shown where the backtest covers all of it.
CRISES = (
    ("Dot-com slide", date(2000, 3, 10), date(2002, 10, 9)),
    ("11 September", date(2001, 9, 4), date(2001, 9, 21)),
    ("Quant quake", date(2007, 8, 1), date(2007, 8, 31)),
    ("Lehman", date(2008, 8, 29), date(2008, 11, 20)),
    ("Crisis to the low", date(2007, 10, 9), date(2009, 3, 9)),
    ("Flash crash", date(2010, 5, 5), date(2010, 5, 20)),
    ("US downgrade", date(2011, 7, 22), date(2011, 8, 19)),
    ("Yuan shock", date(2015, 8, 10), date(2015, 8, 25)),
    ("Volatility spike", date(2018, 2, 1), date(2018, 2, 9)),
    ("Q4 2018", date(2018, 9, 20), date(2018, 12, 24)),
    ("Covid crash", date(2020, 2, 19), date(2020, 3, 23)),
    ("2022 bear market", date(2022, 1, 3), date(2022, 10, 12)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A figure by name: of the book, of the benchmark ('' where it has none), and what it is."""

    name: str
    book: str
    benchmark: str
    note: str = ""


Figure = Callable[[Floats], float]


def _pct(value: float) -> str:
    return formats.percent(value)


def _sessions(value: float) -> str:
    return formats.NOTHING if math.isnan(value) else f"{value:,.0f}"


GROUPS: tuple[tuple[str, tuple[tuple[str, Figure, Callable[[float], str], str], ...]], ...] = (
    (
        "Return",
        (
            ("Total return", metrics.total_return, _pct, ""),
            ("CAGR", metrics.cagr, _pct, "a year, compounded"),
            ("Mean a session", lambda r: float(np.mean(r)), lambda v: formats.percent(v, 3), ""),
            ("Best session", lambda r: float(np.max(r)), _pct, ""),
            ("Worst session", lambda r: float(np.min(r)), _pct, ""),
            ("Winning sessions", metrics.hit_rate, _pct, "of those that moved"),
            ("Most wins in a row", metrics.longest_wins, _sessions, ""),
            ("Most losses in a row", metrics.longest_losses, _sessions, ""),
        ),
    ),
    (
        "Risk",
        (
            ("Volatility", metrics.annual_volatility, _pct, "annual"),
            ("Downside risk", metrics.downside_risk, _pct, "annual, below 0"),
            ("Deepest drawdown", metrics.max_drawdown, _pct, ""),
            ("Longest below a peak", lambda r: float(metrics.longest_drawdown(r)), _sessions, "sessions"),
            ("Ulcer index", metrics.ulcer_index, _pct, "root mean square drawdown"),
            ("Value at risk, 5 %", metrics.value_at_risk, _pct, "a session, historical"),
            ("Expected shortfall, 5 %", metrics.conditional_value_at_risk, _pct, "a session, historical"),
            ("Skewness", metrics.skewness, formats.ratio, ""),
            ("Excess kurtosis", metrics.kurtosis, formats.ratio, "0 is normal"),
            ("Tail ratio", metrics.tail_ratio, formats.ratio, "95th over 5th percentile"),
        ),
    ),
    (
        "Return for risk",
        (
            ("Sharpe", metrics.sharpe, formats.ratio, "annual"),
            ("Probabilistic Sharpe", metrics.probabilistic_sharpe, _pct, "that it is above 0"),
            ("Smart Sharpe", metrics.smart_sharpe, formats.ratio, "less autocorrelation"),
            ("Sortino", metrics.sortino, formats.ratio, "annual, target 0"),
            ("Calmar", metrics.calmar, formats.ratio, "CAGR over drawdown"),
            ("Omega", metrics.omega, formats.ratio, "threshold 0"),
            ("Ulcer performance", metrics.ulcer_performance, formats.ratio, ""),
            ("Serenity", metrics.serenity, formats.ratio, ""),
            ("Recovery factor", metrics.recovery_factor, formats.ratio, "return over drawdown"),
            ("Stability", metrics.stability, formats.ratio, "R² of the log curve"),
        ),
    ),
    (
        "Wins and losses",
        (
            ("Average win", metrics.average_win, lambda v: formats.percent(v, 3), "sessions"),
            ("Average loss", metrics.average_loss, lambda v: formats.percent(v, 3), "sessions"),
            ("Payoff ratio", metrics.payoff_ratio, formats.ratio, ""),
            ("Profit factor", metrics.profit_factor, formats.ratio, ""),
            ("Gain to pain", metrics.gain_to_pain, formats.ratio, ""),
            ("Common sense ratio", metrics.common_sense_ratio, formats.ratio, ""),
            ("CPC index", metrics.cpc_index, formats.ratio, ""),
            ("Kelly fraction", metrics.kelly, _pct, ""),
        ),
    ),
)


def groups(sheet: TearSheet) -> list[tuple[str, list[Line]]]:
    """Return the table of figures by group; with a benchmark one more, of the book against it."""
    other = sheet.benchmark.returns if sheet.benchmark else None
    found = [
        (
            title,
            [
                Line(
                    name=name,
                    book=show(of(sheet.returns)),
                    benchmark="" if other is None else show(of(other)),
                    note=note,
                )
                for name, of, show, note in lines
            ],
        )
        for title, lines in GROUPS
    ]
    if other is not None:
        found.insert(2, ("Against the benchmark", _against(sheet.returns, other)))
    return found


def _against(r: Floats, b: Floats) -> list[Line]:
    lines = (
        ("Beta", formats.ratio(metrics.beta(r, b)), ""),
        ("Alpha", _pct(metrics.alpha(r, b)), "annual, compounded"),
        ("R²", formats.ratio(metrics.r_squared(r, b)), ""),
        ("Correlation", formats.ratio(_correlation(r, b)), ""),
        ("Tracking error", _pct(metrics.tracking_error(r, b)), "annual"),
        ("Information ratio", formats.ratio(metrics.information_ratio(r, b), 3), "a session"),
        ("Treynor", formats.ratio(metrics.treynor(r, b)), ""),
        ("Up capture", _pct(metrics.up_capture(r, b)), ""),
        ("Down capture", _pct(metrics.down_capture(r, b)), ""),
        ("Sessions ahead", _pct(float(np.mean(r > b))), ""),
    )
    return [Line(name=name, book=value, benchmark="", note=note) for name, value, note in lines]


def _correlation(r: Floats, b: Floats) -> float:
    return float(np.corrcoef(r, b)[0, 1]) if r.size > 1 and r.std() > 0.0 and b.std() > 0.0 else math.nan


def periods(returns: Floats, day: Days) -> list[tuple[str, list[float], int]]:
    """Return worst, quartiles and best of sessions, weeks, months, quarters and years, and how many there are."""
    spans = [("Session", returns)]
    spans += [
        (name.capitalize(), metrics.by_span(returns, day, name)[1]) for name in ("week", "month", "quarter", "year")
    ]
    return [(name, [float(q) for q in np.quantile(r, [0.0, 0.25, 0.5, 0.75, 1.0])], r.size) for name, r in spans]


def drawdown_rows(returns: Floats, day: Days, most: int = 10) -> list[tuple[Drawdown, date, date, date, int]]:
    """Return the worst drawdowns with the days of their begin, valley and end, and sessions from begin to valley."""
    place = {int(d): k for k, d in enumerate(day)}
    return [
        (
            d,
            from_day(d.start_day),
            from_day(d.valley_day),
            from_day(d.end_day),
            place[d.valley_day] - place[d.start_day] + 1,
        )
        for d in metrics.worst_drawdowns(returns, day, most)
    ]


def crises(sheet: TearSheet) -> list[tuple[str, date, date, float, float | None]]:
    """Return the compounded return of book and benchmark over the known crises that the backtest covers."""
    rows = []
    first, last = from_day(int(sheet.day[0])), from_day(int(sheet.day[-1]))
    epoch = date(1970, 1, 1)
    for name, begin, end in CRISES:
        if begin < first or end > last:
            continue
        inside = (sheet.day > (begin - epoch).days) & (sheet.day <= (end - epoch).days)
        other = None if sheet.benchmark is None else metrics.total_return(sheet.benchmark.returns[inside])
        rows.append((name, begin, end, metrics.total_return(sheet.returns[inside]), other))
    return rows


def trip_lines(trips: Sequence[RoundTrip]) -> list[Line]:
    """Return what the closed round trips say together; of those still open only their number."""
    closed = [t for t in trips if t.closed_on is not None]
    gains = np.array([t.gain_usd for t in closed])
    returns = np.array([t.return_frac for t in closed])
    still = len(trips) - len(closed)
    lines = [("Round trips", f"{len(closed)}" + (f" and {still} still open" if still else ""), "")]
    if closed:
        won, lost = gains[gains > 0.0], gains[gains < 0.0]
        factor = won.sum() / -lost.sum() if lost.size else math.nan
        lines += [
            ("Won", formats.percent(float(np.mean(gains > 0.0)), 1), "of those that are closed"),
            ("Profit factor", formats.ratio(float(factor)), "gains over losses"),
            ("Average return", formats.signed_percent(float(returns.mean())), "of what was entered"),
            ("Average win", formats.signed_percent(_mean(returns[gains > 0.0])), ""),
            ("Average loss", formats.signed_percent(_mean(returns[gains < 0.0])), ""),
            ("Held", f"{np.median([t.sessions for t in closed]):.0f} sessions", "median"),
            ("Fees", f"${sum(t.fees_usd for t in trips):,.0f}", "of all of them"),
        ]
    return [Line(name=name, book=value, benchmark="", note=note) for name, value, note in lines]


def _mean(values: Floats) -> float:
    return float(values.mean()) if values.size else math.nan


def capacity_usd(sheet: TearSheet) -> float:
    """Return the equity at which 95 of 100 fills still stay within the participation limit; NaN without a fill.

    The book's first equity, scaled by the limit over the 95th percentile of what the fills took of their bar's volume:
    sizes grow with the equity, volumes do not. Nothing is said about the price that so much trading would move.
    """
    took = sheet.participation_frac
    if took.size == 0 or np.quantile(took, 0.95) <= 0.0:
        return math.nan
    return float(sheet.equity_usd[0] * sheet.participation_limit_frac / np.quantile(took, 0.95))
