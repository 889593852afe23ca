"""What a universe's returns are like, over a range that is wholly known: a description, never a signal.

`analyse` is pure: adjusted closes in, figures out. Its sources stand beside each figure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg

from tradecore import indicators as ta
from tradecore import market
from tradecore.bars import adjusted
from tradecore.context import book_calendar
from tradecore.errors import ConfigError, SessionError
from tradecore.reports import metrics
from tradecore.reports.metrics import Floats
from tradecore.reports.metrics.tables import Days
from tradecore.settings import Settings
from tradecore.units import to_day

LAGS = 20
LEAST_SESSIONS = 60
DECAY = 0.94
REGIMES = ("calm", "middle", "wild")


@dataclass(frozen=True, slots=True, kw_only=True)
class Season:
    """Mean return of a session within a month or on a weekday; t of the mean against 0; how many sessions."""

    name: str
    mean_frac: float
    t: float
    sessions: int
    up_frac: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Regime:
    """The sessions of one third of the volatility that was known at the close before."""

    name: str
    sessions: int
    mean_frac: float
    volatility_frac: float
    sharpe: float
    worst_frac: float
    correlation: float
    stay_frac: float  # sessions after which the next one is in the same regime


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """Everything the page shows. returns [T, n] NaN where a name did not trade; index [T]: the names' plain mean."""

    symbols: tuple[str, ...]
    day: Days
    returns: Floats
    index: Floats
    autocorrelation: Floats  # [LAGS] of the index
    autocorrelation_abs: Floats  # [LAGS] of its absolute returns: volatility that clusters
    months: tuple[Season, ...]
    weekdays: tuple[Season, ...]
    order: tuple[int, ...]  # of the names, similar ones beside each other
    correlation: Floats  # [n, n] in the names' own order, NaN where two have too few sessions in common
    volatility: Floats  # [T] EWMA of the index, annual, as known at the close
    regime: npt.NDArray[np.int64]  # [T] 0, 1, 2, or -1 while the volatility is not known
    regimes: tuple[Regime, ...]


def load(
    settings: Settings, conn: psycopg.Connection, *, symbols: Sequence[str], first: date, last: date
) -> tuple[tuple[str, ...], Days, Floats]:
    """Read symbols (none: the universe), session labels and adjusted closes [T, n] of the sessions first..last.

    Of several bars a session has, the last one counts. Raises ConfigError for a symbol outside the universe, and
    SessionError for a range without sessions or without bars.
    """
    trading, calendar = settings.trading, book_calendar(settings)
    wanted = tuple(dict.fromkeys(symbols)) or trading.universe.symbols
    unknown = [s for s in wanted if s not in trading.universe.symbols]
    if unknown:
        raise ConfigError(
            f"the universe has no {', '.join(unknown)}; it has {', '.join(trading.universe.symbols)}.",
            next_step="name some of these, or add the symbol to trading.yaml and load its history",
            value=unknown,
        )
    days = calendar.sessions_in_range(first, last) if first <= last else ()
    if len(days) < LEAST_SESSIONS:
        raise SessionError(
            f"there are {len(days)} sessions of {calendar.name} from {first} to {last}; "
            f"{LEAST_SESSIONS} are the least.",
            next_step="give a longer range",
        )
    with conn.transaction():
        members = market.sync_members(conn, settings, calendar)
    chosen = [m.instrument for s in wanted for m in members if m.instrument.symbol == s]
    panel = market.read_panel(
        conn,
        timeframe=trading.book.timeframe,
        source=trading.data.feed,
        instruments=chosen,
        ends=[(d, calendar.bar_ends(d, trading.book.timeframe)[-1]) for d in days],
    )
    close = adjusted(panel.close, panel)
    if (~np.isnan(close)).sum(axis=0).max(initial=0) < LEAST_SESSIONS:
        raise SessionError(
            f"the database has too few bars of {', '.join(wanted)} from {first} to {last}.",
            next_step=f"python -m tradecore load-history {first} {last}",
        )
    return wanted, np.array([to_day(d) for d in days], np.int64), close


def analyse(symbols: Sequence[str], day: Days, close: Floats) -> Analysis:
    """Describe adjusted closes [T, n] of sessions day [T]; a name without a bar keeps its last close for the next one.

    Raises ValueError when shapes do not match.
    """
    if close.shape != (day.size, len(symbols)):
        raise ValueError(f"closes have shape {close.shape}, wanted ({day.size}, {len(symbols)})")
    returns = returns_of(close)
    day = day[1:]
    known = ~np.isnan(returns)
    index = np.where(known, returns, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    correlation = correlations(returns)
    volatility = ta.ewma_volatility(np.concatenate([[1.0], np.cumprod(1.0 + index)]), decay=DECAY)[1:]
    regime = terciles(volatility)
    dates = day.astype("datetime64[D]")
    month = dates.astype("datetime64[M]").astype(np.int64) % 12
    weekday = (day + 3) % 7  # 1970-01-01 was a Thursday
    return Analysis(
        symbols=tuple(symbols),
        day=day,
        returns=returns,
        index=index,
        autocorrelation=autocorrelation(index),
        autocorrelation_abs=autocorrelation(np.abs(index)),
        months=_seasons(
            index, month, ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
        ),
        weekdays=_seasons(index, weekday, ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")),
        order=similar_order(correlation),
        correlation=correlation,
        volatility=volatility,
        regime=regime,
        regimes=_regimes(returns, index, regime),
    )


def returns_of(close: Floats) -> Floats:
    """Return simple returns [T - 1, n] from each name's last known close; NaN where it did not trade."""
    last = close[0].copy()
    out = np.full((close.shape[0] - 1, close.shape[1]), np.nan)
    for t in range(1, close.shape[0]):
        out[t - 1] = close[t] / last - 1.0
        last = np.where(np.isnan(close[t]), last, close[t])
    return out


def autocorrelation(values: Floats, lags: int = LAGS) -> Floats:
    """Return the autocorrelation [lags] from lag 1; NaN without variance.

    Source: Box & Jenkins, Time Series Analysis, 1970: autocovariances over the whole variance, divisor n.
    """
    d = values - values.mean()
    whole = float(d @ d)
    if whole == 0.0:
        return np.full(lags, math.nan)
    return np.array([float(d[k:] @ d[:-k]) / whole if k < d.size else math.nan for k in range(1, lags + 1)])


def correlations(returns: Floats, least: int = LEAST_SESSIONS // 2) -> Floats:
    """Return the correlation [n, n] of names over the sessions that both traded; NaN below `least` of them."""
    known = ~np.isnan(returns)
    x, k = np.where(known, returns, 0.0), known.astype(np.float64)
    count = k.T @ k
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = (x.T @ k) / count  # of the row's name over the sessions in common with the column's
        cross = x.T @ x - count * mean * mean.T
        square = (x**2).T @ k - count * mean**2
        found = cross / np.sqrt(square * square.T)
    found[count < least] = np.nan
    np.fill_diagonal(found, 1.0)
    return np.asarray(np.clip(found, -1.0, 1.0))


def similar_order(correlation: Floats) -> tuple[int, ...]:
    """Return the names in an order that puts similar ones beside each other: the leaves of average linkage.

    The distance is sqrt((1 - correlation) / 2) (Mantegna, "Hierarchical structure in financial markets", European
    Physical Journal B 11, 1999); an unknown correlation counts as 0.
    """
    n = correlation.shape[0]
    if n < 3:
        return tuple(range(n))
    distance = np.sqrt((1.0 - np.nan_to_num(correlation)) / 2.0)
    np.fill_diagonal(distance, np.inf)
    leaves: list[list[int]] = [[i] for i in range(n)]
    for _ in range(n - 1):
        a, b = sorted(divmod(int(np.argmin(distance)), n))
        size_a, size_b = len(leaves[a]), len(leaves[b])
        merged = (distance[a] * size_a + distance[b] * size_b) / (size_a + size_b)
        distance[a], distance[:, a] = merged, merged
        distance[b], distance[:, b] = np.inf, np.inf
        distance[a, a] = np.inf
        leaves[a], leaves[b] = leaves[a] + leaves[b], []
    (found,) = [leaf for leaf in leaves if leaf]
    return tuple(found)


def terciles(volatility: Floats) -> npt.NDArray[np.int64]:
    """Return the third of each session: 0 the calm one, 2 the wild one, by the volatility at the close before.

    The bounds are the terciles of the whole range: the regimes describe it, and could not have been known within it.
    """
    before = np.concatenate([[np.nan], volatility[:-1]])
    known = before[~np.isnan(before)]
    if known.size < 3:
        return np.full(volatility.size, -1, np.int64)
    low, high = np.quantile(known, [1.0 / 3.0, 2.0 / 3.0])
    third = (before > low).astype(np.int64) + (before > high)
    return np.where(np.isnan(before), -1, third)


def _seasons(index: Floats, place: npt.NDArray[np.int64], names: Sequence[str]) -> tuple[Season, ...]:
    found = []
    for k, name in enumerate(names):
        r = index[place == k]
        if r.size == 0:
            continue
        deviation = float(r.std(ddof=1)) if r.size > 1 else 0.0
        t = float(r.mean()) / deviation * math.sqrt(r.size) if deviation > 0.0 else math.nan
        season = Season(name=name, mean_frac=float(r.mean()), t=t, sessions=r.size, up_frac=float(np.mean(r > 0.0)))
        found.append(season)
    return tuple(found)


def _regimes(returns: Floats, index: Floats, regime: npt.NDArray[np.int64]) -> tuple[Regime, ...]:
    found = []
    for k, name in enumerate(REGIMES):
        inside = regime == k
        if inside.sum() < 2:
            continue
        r, after = index[inside], regime[1:][inside[:-1]]
        pairs = correlations(returns[inside])[np.triu_indices(returns.shape[1], 1)]
        found.append(
            Regime(
                name=name,
                sessions=int(inside.sum()),
                mean_frac=float(r.mean()),
                volatility_frac=metrics.annual_volatility(r),
                sharpe=metrics.sharpe(r),
                worst_frac=float(r.min()),
                correlation=float(np.nanmean(pairs)) if np.isfinite(pairs).any() else math.nan,
                stay_frac=float(np.mean(after == k)) if after.size else math.nan,
            )
        )
    return tuple(found)


def run(
    settings: Settings,
    conn: psycopg.Connection,
    *,
    symbols: Sequence[str],
    first: date,
    last: date,
    out: Path | None = None,
) -> dict[str, Any]:
    """Write the page (default: below the local folder) and return its path and a record of what it says."""
    from tradecore.reports.analysis_page import render  # matplotlib: 60 MB that only a page needs

    found = analyse(*load(settings, conn, symbols=symbols, first=first, last=last))
    path = out or settings.local_dir / "reports" / "analysis" / f"{settings.trading.universe.name}-{first}-{last}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(path.name + ".part")
    half.write_text(render(found), encoding="utf-8")
    half.replace(path)
    return {"report": str(path), **as_record(found)}


def as_record(found: Analysis) -> dict[str, Any]:
    """Return the figures for machines; what is not defined is None."""

    def plain(value: float) -> float | None:
        return round(float(value), 9) if math.isfinite(value) else None

    pairs = found.correlation[np.triu_indices(len(found.symbols), 1)]
    known = pairs[np.isfinite(pairs)]
    return {
        "symbols": [found.symbols[k] for k in found.order],
        "sessions": int(found.day.size),
        "volatility": plain(metrics.annual_volatility(found.index)),
        "skewness": plain(metrics.skewness(found.index)),
        "kurtosis": plain(metrics.kurtosis(found.index)),
        "autocorrelation_1": plain(found.autocorrelation[0]),
        "autocorrelation_abs_1": plain(found.autocorrelation_abs[0]),
        "mean_correlation": plain(float(known.mean())) if known.size else None,
        "months": {s.name: plain(s.mean_frac) for s in found.months},
        "weekdays": {s.name: plain(s.mean_frac) for s in found.weekdays},
        "regimes": {r.name: {"sessions": r.sessions, "volatility": plain(r.volatility_frac)} for r in found.regimes},
    }


def summary(record: dict[str, Any]) -> str:
    """Return what a run found, in a few lines."""
    regimes = ", ".join(
        f"{n} {r['volatility']:.1%}" for n, r in record["regimes"].items() if r["volatility"] is not None
    )
    lines = [
        f"{len(record['symbols'])} names, {record['sessions']} sessions; similar ones beside each other: "
        + " ".join(record["symbols"]),
        f"volatility of the equal-weight index {record['volatility']:.1%}; by regime {regimes}",
    ]
    for name in ("skewness", "kurtosis", "autocorrelation_1", "autocorrelation_abs_1", "mean_correlation"):
        value = record[name]
        lines.append(f"{name:<22} {'not defined' if value is None else f'{value:8.3f}'}")
    return "\n".join([*lines, f"report {record['report']}"])
