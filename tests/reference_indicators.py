"""Naive twins of the indicators: plain Python over lists, each window summed anew with math.fsum.

Nothing here imports tradecore or numpy. A row is a tuple of floats, one series a place. The two NaN rules are the two
functions `windowed` and `recursive`; everything else is the textbook's formula.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from itertools import pairwise

NAN = math.nan
Row = tuple[float, ...]


def windowed(rows: Sequence[Row], period: int, figure: Callable[[list[Row]], float]) -> list[float]:
    """Apply figure to each window of `period` rows; NaN where it is not complete or holds a NaN."""
    out = []
    for t in range(len(rows)):
        window = list(rows[t - period + 1 : t + 1]) if t >= period - 1 else []
        holes = not window or any(math.isnan(v) for row in window for v in row)
        out.append(NAN if holes else figure(window))
    return out


def recursive(rows: Sequence[Row], figures: Callable[[list[Row]], list[float]]) -> list[float]:
    """Apply figures to the rows without those that hold a NaN, and put the results back in their places."""
    places = [t for t, row in enumerate(rows) if not any(math.isnan(v) for v in row)]
    out = [NAN] * len(rows)
    for t, value in zip(places, figures([rows[t] for t in places]), strict=True):
        out[t] = value
    return out


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def column(rows: Sequence[Row], place: int = 0) -> list[float]:
    return [row[place] for row in rows]


def typical(row: Row) -> float:
    return (row[0] + row[1] + row[2]) / 3.0


# ------------------------------------------------------------------------------------------------------- averages


def sma(rows: Sequence[Row], period: int) -> list[float]:
    return windowed(rows, period, lambda w: mean(column(w)))


def wma(rows: Sequence[Row], period: int) -> list[float]:
    weight = period * (period + 1) / 2
    return windowed(rows, period, lambda w: math.fsum((k + 1) * v for k, (v,) in enumerate(w)) / weight)


def seeded(values: Sequence[float], period: int, step: Callable[[float, float], float]) -> list[float]:
    """Return NaN, then the mean of the first `period` values, then step(previous, value)."""
    out = [NAN] * min(period - 1, len(values))
    for t in range(period - 1, len(values)):
        out.append(mean(values[:period]) if t == period - 1 else step(out[-1], values[t]))
    return out


def exponential(values: Sequence[float], period: int) -> list[float]:
    a = 2.0 / (period + 1)
    return seeded(values, period, lambda before, v: (1.0 - a) * before + a * v)


def wilder(values: Sequence[float], period: int) -> list[float]:
    return seeded(values, period, lambda before, v: (before * (period - 1) + v) / period)


def ema(rows: Sequence[Row], period: int) -> list[float]:
    return recursive(rows, lambda r: exponential(column(r), period))


def vwap(rows: Sequence[Row], period: int) -> list[float]:
    """Rows of high, low, close, volume."""

    def figure(window: list[Row]) -> float:
        shares = math.fsum(column(window, 3))
        return math.fsum(typical(row) * row[3] for row in window) / shares if shares else NAN

    return windowed(rows, period, figure)


def session_vwap(rows: Sequence[Row], days: Sequence[int]) -> list[float]:
    out = []
    for t, row in enumerate(rows):
        seen = [r for r, d in zip(rows[: t + 1], days, strict=False) if d == days[t]]
        seen = [r for r in seen if not any(map(math.isnan, r))]
        shares = math.fsum(column(seen, 3))
        gone = any(map(math.isnan, row)) or not shares
        out.append(NAN if gone else math.fsum(typical(r) * r[3] for r in seen) / shares)
    return out


# -------------------------------------------------------------------------------------------------------- rolling


def deviation(values: Sequence[float], ddof: int) -> float:
    centre = mean(values)
    return math.sqrt(math.fsum((v - centre) ** 2 for v in values) / (len(values) - ddof))


def stddev(rows: Sequence[Row], period: int, ddof: int = 0) -> list[float]:
    return windowed(rows, period, lambda w: deviation(column(w), ddof))


def var(rows: Sequence[Row], period: int, ddof: int = 0) -> list[float]:
    return windowed(rows, period, lambda w: deviation(column(w), ddof) ** 2)


def zscore(rows: Sequence[Row], period: int, ddof: int = 0) -> list[float]:
    def figure(window: list[Row]) -> float:
        values = column(window)
        return NAN if len(set(values)) == 1 else (values[-1] - mean(values)) / deviation(values, ddof)

    return windowed(rows, period, figure)


def rolling_min(rows: Sequence[Row], period: int) -> list[float]:
    return windowed(rows, period, lambda w: min(column(w)))


def rolling_max(rows: Sequence[Row], period: int) -> list[float]:
    return windowed(rows, period, lambda w: max(column(w)))


def rolling_median(rows: Sequence[Row], period: int) -> list[float]:
    return windowed(rows, period, lambda w: statistics.median(column(w)))


def products(window: list[Row]) -> tuple[float, float, float]:
    x, y = column(window, 0), column(window, 1)
    mx, my = mean(x), mean(y)
    pairs = list(zip(x, y, strict=True))
    return (
        math.fsum((a - mx) ** 2 for a in x),
        math.fsum((b - my) ** 2 for b in y),
        math.fsum((a - mx) * (b - my) for a, b in pairs),
    )


def correl(rows: Sequence[Row], period: int) -> list[float]:
    def figure(window: list[Row]) -> float:
        xx, yy, xy = products(window)
        varies = len(set(column(window, 0))) > 1 and len(set(column(window, 1))) > 1
        return xy / math.sqrt(xx * yy) if varies else NAN

    return windowed(rows, period, figure)


def beta(rows: Sequence[Row], period: int) -> list[float]:
    def figure(window: list[Row]) -> float:
        _, yy, xy = products(window)
        return xy / yy if len(set(column(window, 1))) > 1 else NAN

    return windowed(rows, period, figure)


# ---------------------------------------------------------------------------------------------------- oscillators


def rsi(rows: Sequence[Row], period: int) -> list[float]:
    def figures(kept: list[Row]) -> list[float]:
        changes = [b - a for a, b in pairwise(column(kept))]
        gains = wilder([max(c, 0.0) for c in changes], period)
        losses = wilder([max(-c, 0.0) for c in changes], period)
        both = zip(gains, losses, strict=True)
        return [NAN, *(100.0 * g / (g + loss) if g + loss > 0.0 else NAN for g, loss in both)][: len(kept)]

    return recursive(rows, figures)


def roc(rows: Sequence[Row], period: int) -> list[float]:
    values = column(rows)
    return [NAN if t < period else 100.0 * (v - values[t - period]) / values[t - period] for t, v in enumerate(values)]


def stoch(rows: Sequence[Row], fastk: int, slowk: int, slowd: int) -> tuple[list[float], list[float]]:
    """Rows of high, low, close."""

    def figure(window: list[Row]) -> float:
        top, bottom = max(column(window, 0)), min(column(window, 1))
        return NAN if top == bottom else 100.0 * (window[-1][2] - bottom) / (top - bottom)

    # Close needs to be known at the last row alone: earlier ones stand for something that is.
    ranges = [(h, lo, 0.0) for h, lo, _ in rows]
    fast = [
        windowed([*ranges[max(0, t - fastk + 1) : t], row], fastk, figure)[-1] if t >= fastk - 1 else NAN
        for t, row in enumerate(rows)
    ]
    k = sma([(v,) for v in fast], slowk)
    return k, sma([(v,) for v in k], slowd)


def cci(rows: Sequence[Row], period: int) -> list[float]:
    def figure(window: list[Row]) -> float:
        values = [typical(row) for row in window]
        centre = mean(values)
        spread = mean([abs(v - centre) for v in values])
        return (values[-1] - centre) / (0.015 * spread) if len(set(values)) > 1 else NAN

    return windowed(rows, period, figure)


def obv(rows: Sequence[Row]) -> list[float]:
    """Rows of close, volume."""

    def figures(kept: list[Row]) -> list[float]:
        out: list[float] = []
        for t, (close, volume) in enumerate(kept):
            sign = 1 if t == 0 or close > kept[t - 1][0] else -1 if close < kept[t - 1][0] else 0
            out.append((out[-1] if out else 0.0) + sign * volume)
        return out

    return recursive(rows, figures)


def mfi(rows: Sequence[Row], period: int) -> list[float]:
    """Rows of high, low, close, volume."""

    def figure(window: list[Row]) -> float:
        moves = [(typical(b) - typical(a), typical(b) * b[3]) for a, b in pairwise(window)]
        up = math.fsum(flow for change, flow in moves if change > 0)
        down = math.fsum(flow for change, flow in moves if change < 0)
        return 100.0 * up / (up + down) if up + down else NAN

    # The first row of a window gives a price only; its volume need not be known.
    return [
        NAN
        if t < period
        else windowed([(*rows[t - period][:3], 0.0), *rows[t - period + 1 : t + 1]], period + 1, figure)[-1]
        for t in range(len(rows))
    ]


# ---------------------------------------------------------------------------------------------- ranges and trends


def ranges_of(kept: Sequence[Row]) -> list[float]:
    return [max(h, a[2]) - min(lo, a[2]) for a, (h, lo, _) in pairwise(kept)]


def trange(rows: Sequence[Row]) -> list[float]:
    """Rows of high, low, close."""
    return recursive(rows, lambda kept: [NAN, *ranges_of(kept)][: len(kept)])


def atr(rows: Sequence[Row], period: int) -> list[float]:
    return recursive(rows, lambda kept: [NAN, *wilder(ranges_of(kept), period)][: len(kept)])


def parkinson(rows: Sequence[Row], period: int, bars_per_year: float) -> list[float]:
    """Rows of high, low."""
    return windowed(
        rows,
        period,
        lambda w: math.sqrt(mean([math.log(h / lo) ** 2 for h, lo in w]) / (4 * math.log(2)) * bars_per_year),
    )


def garman_klass(rows: Sequence[Row], period: int, bars_per_year: float) -> list[float]:
    """Rows of open, high, low, close."""

    def figure(window: list[Row]) -> float:
        squares = [0.5 * math.log(h / lo) ** 2 - (2 * math.log(2) - 1) * math.log(c / o) ** 2 for o, h, lo, c in window]
        return math.sqrt(mean(squares) * bars_per_year) if mean(squares) >= 0 else NAN

    return windowed(rows, period, figure)


def ewma_volatility(rows: Sequence[Row], decay: float, seed: int, bars_per_year: float) -> list[float]:
    def figures(kept: list[Row]) -> list[float]:
        squares = [math.log(b / a) ** 2 for a, b in pairwise(column(kept))]
        variances = seeded(squares, seed, lambda before, s: decay * before + (1 - decay) * s)
        return [NAN, *(math.sqrt(v * bars_per_year) for v in variances)][: len(kept)]

    return recursive(rows, figures)


def macd(rows: Sequence[Row], fast: int, slow: int, signal: int) -> tuple[list[float], list[float], list[float]]:
    def figures(kept: list[Row]) -> tuple[list[float], list[float], list[float]]:
        values = column(kept)
        late = [NAN] * (slow - fast) + exponential(values[slow - fast :], fast)
        line = [a - b for a, b in zip(late, exponential(values, slow), strict=False)][: len(values)]
        line += [NAN] * (len(values) - len(line))
        smooth = ([NAN] * (slow - 1) + exponential(line[slow - 1 :], signal))[: len(values)]
        line = [NAN if math.isnan(s) else v for v, s in zip(line, smooth, strict=True)]
        return line, smooth, [v - s for v, s in zip(line, smooth, strict=True)]

    return tuple(recursive(rows, lambda kept, k=k: figures(kept)[k]) for k in range(3))  # type: ignore[return-value]


def bbands(rows: Sequence[Row], period: int, n_std: float) -> tuple[list[float], list[float], list[float]]:
    middle, std = sma(rows, period), stddev(rows, period)
    upper = [m + n_std * s for m, s in zip(middle, std, strict=True)]
    return upper, middle, [m - n_std * s for m, s in zip(middle, std, strict=True)]


def donchian(rows: Sequence[Row], period: int) -> tuple[list[float], list[float], list[float]]:
    """Rows of high, low."""
    upper, lower = rolling_max([(r[0],) for r in rows], period), rolling_min([(r[1],) for r in rows], period)
    return upper, [(a + b) / 2 for a, b in zip(upper, lower, strict=True)], lower


def keltner(rows: Sequence[Row], period: int, atr_period: int, n_atr: float) -> tuple[list[float], ...]:
    """Rows of high, low, close."""
    middle, width = ema([(r[2],) for r in rows], period), atr(rows, atr_period)
    upper = [m + n_atr * w for m, w in zip(middle, width, strict=True)]
    return upper, middle, [m - n_atr * w for m, w in zip(middle, width, strict=True)]


def adx(rows: Sequence[Row], period: int) -> tuple[list[float], list[float], list[float]]:
    """Rows of high, low, close. Wilder's sums: the first over period - 1 moves, then sum - sum / period + move."""

    def sums(moves: list[float]) -> list[float]:
        out: list[float] = []
        for t, move in enumerate(moves):
            before = out[-1] if out else 0.0
            out.append(before - (before / period if t >= period - 1 else 0.0) + move)
        return out

    def figures(kept: list[Row]) -> tuple[list[float], list[float], list[float]]:
        ups = [b[0] - a[0] for a, b in pairwise(kept)]
        downs = [a[1] - b[1] for a, b in pairwise(kept)]
        plus = sums([u if u > d and u > 0 else 0.0 for u, d in zip(ups, downs, strict=True)])
        minus = sums([d if d > u and d > 0 else 0.0 for u, d in zip(ups, downs, strict=True)])
        spans = sums(ranges_of(kept))
        plus_di = [NAN if t < period - 1 else 100 * p / s for t, (p, s) in enumerate(zip(plus, spans, strict=True))]
        minus_di = [NAN if t < period - 1 else 100 * m / s for t, (m, s) in enumerate(zip(minus, spans, strict=True))]
        both = zip(plus_di, minus_di, strict=True)
        dx = [NAN if math.isnan(p) else 100 * abs(p - m) / (p + m) if p + m else 0.0 for p, m in both]
        index = [NAN] * (period - 1) + wilder(dx[period - 1 :], period)
        return tuple([NAN, *f][: len(kept)] for f in (index, plus_di, minus_di))  # type: ignore[return-value]

    return tuple(recursive(rows, lambda kept, k=k: figures(kept)[k]) for k in range(3))  # type: ignore[return-value]
