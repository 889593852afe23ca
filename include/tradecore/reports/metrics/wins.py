"""Winning and losing periods: how often, how much, how long in a row. Returns are simple, one per period.

NaN in gives NaN out, and so does a figure that is not defined (no loss to divide by); quantstats says 0 or infinity in
some of these cases.
"""

from __future__ import annotations

import math

import numpy as np

from tradecore.reports.metrics._kernels import longest_run
from tradecore.reports.metrics.curve import Floats, cagr, growth, hit_rate
from tradecore.reports.metrics.spread import tail_ratio


def average_return(returns: Floats) -> float:
    """Return the mean of the periods that moved. Source: quantstats avg_return."""
    return _mean(returns[returns != 0.0])


def average_win(returns: Floats) -> float:
    """Return the mean of the positive periods. Source: quantstats avg_win."""
    return _mean(returns[_known(returns) > 0.0])


def average_loss(returns: Floats) -> float:
    """Return the mean of the negative periods, a negative number. Source: quantstats avg_loss."""
    return _mean(returns[_known(returns) < 0.0])


def payoff_ratio(returns: Floats) -> float:
    """Return the average win over the average loss. Source: quantstats payoff_ratio, win_loss_ratio."""
    return average_win(returns) / -average_loss(returns)


def profit_factor(returns: Floats) -> float:
    """Return the sum of the gains over the sum of the losses. Source: quantstats profit_factor."""
    losses = -_sum(returns, returns < 0.0)
    return _sum(returns, returns > 0.0) / losses if losses != 0.0 else math.nan


def profit_ratio(returns: Floats) -> float:
    """Return average gain per gain over average loss per loss. Source: quantstats profit_ratio (0 counts as a gain)."""
    gains, losses = returns[_known(returns) >= 0.0], returns[returns < 0.0]
    if not gains.size or not losses.size:
        return math.nan
    return abs(float(np.mean(gains)) / gains.size) / abs(float(np.mean(losses)) / losses.size)


def gain_to_pain(returns: Floats) -> float:
    """Return the sum of all returns over the sum of the losses. Source: Schwager, Hedge Fund Market Wizards, 2012;
    quantstats gain_to_pain_ratio."""
    pain = -_sum(returns, returns < 0.0)
    return float(np.sum(returns)) / pain if pain != 0.0 else math.nan


def kelly(returns: Floats) -> float:
    """Return the fraction of capital to bet, p - (1 - p) / payoff, p the hit rate.

    Source: Kelly, "A New Interpretation of Information Rate", Bell System Technical Journal 35(4), 1956; quantstats
    kelly_criterion.
    """
    p, payoff = hit_rate(returns), payoff_ratio(returns)
    return p - (1.0 - p) / payoff if payoff != 0.0 else math.nan


def common_sense_ratio(returns: Floats) -> float:
    """Return profit factor times tail ratio. Source: quantstats common_sense_ratio."""
    return profit_factor(returns) * tail_ratio(returns)


def cpc_index(returns: Floats) -> float:
    """Return profit factor times hit rate times payoff ratio. Source: quantstats cpc_index."""
    return profit_factor(returns) * hit_rate(returns) * payoff_ratio(returns)


def risk_of_ruin(returns: Floats) -> float:
    """Return ((1 - p) / (1 + p)) ** n, p the hit rate. Source: quantstats risk_of_ruin."""
    p = hit_rate(returns)
    return float(((1.0 - p) / (1.0 + p)) ** returns.size)


def exposure(returns: Floats) -> float:
    """Return the share of periods that moved.

    quantstats exposure rounds it up to a whole percent; a rounded figure cannot be compared, so this one is not.
    """
    return float(np.mean(_known(returns) != 0.0)) if returns.size and not np.isnan(returns).any() else math.nan


def return_over_exposure(returns: Floats, periods_per_year: float = 252.0) -> float:
    """Return CAGR over exposure. Source: quantstats rar, but for its rounded exposure."""
    share = exposure(returns)
    return cagr(returns, periods_per_year) / share if share != 0.0 else math.nan


def geometric_mean(returns: Floats) -> float:
    """Return the constant return per period that gives the same growth. Source: quantstats expected_return, ghpr."""
    return float(growth(returns)[-1] ** (1.0 / returns.size) - 1.0) if returns.size else math.nan


def longest_wins(returns: Floats) -> int:
    """Return the most positive periods in a row. Source: quantstats consecutive_wins."""
    return int(longest_run(returns > 0.0))


def longest_losses(returns: Floats) -> int:
    """Return the most negative periods in a row. Source: quantstats consecutive_losses."""
    return int(longest_run(returns < 0.0))


def _known(returns: Floats) -> Floats:
    """Return the returns, all NaN if one is: no comparison holds then, and a mean over none is NaN."""
    return np.full_like(returns, np.nan) if np.isnan(returns).any() else returns


def _mean(values: Floats) -> float:
    return float(np.mean(values)) if values.size else math.nan


def _sum(returns: Floats, where: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> float:
    return math.nan if np.isnan(returns).any() else float(np.sum(returns[where]))
