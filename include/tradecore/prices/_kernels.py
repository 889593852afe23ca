"""Adjusted price series, point in time: factors from the actions that count up to a session and were known by then."""

from __future__ import annotations

import numpy as np

from tradecore._kernels import kernel


@kernel
def adjustment_factors(close, traded, day, begin, actions, as_of_day, as_of_ns, previous_close, out):
    """Write the forward factors [T, n] of bars: 1 at an instrument's first, NaN where it did not trade or after
    as_of_day.

    close [T, n] e4; begin [n + 1]: where each instrument's rows begin in actions [A, 5], which are in order of
    ex-dates: ex_day, known_ns, num, den, dividend e6. Of these count the ones with ex_day up to as_of_day that were
    known at as_of_ns, each at the first bar from its day on; those before the first bar do not. A dividend multiplies
    by 1 + dividend / close of that bar (previous_close 0), or by 1 / (1 - dividend / close of the bar before, in this
    bar's shares) (1), as CRSP and most vendors do; one as large as that close then counts for nothing.
    """
    n_bars, n = close.shape
    for i in range(n):
        factor, last, k = 1.0, -1, begin[i]
        for t in range(n_bars):
            out[t, i] = np.nan
            if day[t] > as_of_day or not traded[t, i]:
                continue
            num, den, dividend = 1, 1, 0
            while k < begin[i + 1] and actions[k, 0] <= day[t]:
                if last >= 0 and actions[k, 1] <= as_of_ns:
                    num *= actions[k, 2]
                    den *= actions[k, 3]
                    dividend += actions[k, 4]
                k += 1
            if num != den:
                factor = factor * (num / den)
            if dividend > 0 and previous_close == 0:
                factor = factor * (1.0 + (dividend / 1e6) / (close[t, i] / 1e4))
            elif dividend > 0:
                kept = 1.0 - (dividend / 1e6) / (close[last, i] / 1e4 * den / num)
                if kept > 0.0:
                    factor = factor / kept
            out[t, i] = factor
            last = t
