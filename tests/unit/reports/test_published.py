"""A published table on identical data and span, within print rounding: docs/published.md."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from arch.data import frenchdata

from tradecore.reports import metrics

PAGE = Path(__file__).resolve().parents[3] / "docs" / "published.md"
FACTORS = ("Mkt-RF", "SMB", "HML", "RF")
# Sheppard, arch documentation, "Bootstrap Examples": ff.describe(), and the Sharpe ratio of the excess market return.
TABLE = {
    "count": ("1109.000000", "1109.000000", "1109.000000", "1109.000000"),
    "mean": ("0.659946", "0.206555", "0.368864", "0.274220"),
    "std": ("5.327524", "3.191132", "3.482352", "0.253377"),
    "min": ("-29.130000", "-16.870000", "-13.280000", "-0.060000"),
    "25%": ("-1.970000", "-1.560000", "-1.320000", "0.030000"),
    "50%": ("1.020000", "0.070000", "0.140000", "0.230000"),
    "75%": ("3.610000", "1.730000", "1.740000", "0.430000"),
    "max": ("38.850000", "36.700000", "35.460000", "1.350000"),
}
SHARPE = {"mu": "7.919351", "sigma": "18.455084", "SR": "0.429115"}
# Fama & French, Journal of Financial Economics 33, 1993, table 2: July 1963 to December 1991, percent a month.
FAMA_FRENCH_1993 = {"Mkt-RF": (0.43, 4.54, 1.76), "SMB": (0.27, 2.89, 1.73), "HML": (0.40, 2.54, 2.91)}


def months(first: int = 0, last: int = 999_999) -> dict[str, np.ndarray]:
    """Return the factors' returns in percent, of months first to last as 196307."""
    data = frenchdata.load()
    label = data.index.asi8  # the file's months are read as that many nanoseconds
    inside = (label >= first) & (label <= last)
    return {name: data[name].to_numpy(np.float64)[inside] for name in FACTORS}


def ours(percent: np.ndarray) -> dict[str, float]:
    r = percent / 100.0
    quantiles = {f"{q}%": 100.0 * metrics.quantile(r, q / 100.0) for q in (25, 50, 75)}
    ends = {"min": 100.0 * metrics.quantile(r, 0.0), "max": 100.0 * metrics.quantile(r, 1.0)}
    deviation = 100.0 * metrics.annual_volatility(r, 1.0)
    return {"count": float(r.size), "mean": 100.0 * float(np.mean(r)), "std": deviation, **quantiles, **ends}


def test_the_statistics_of_the_fama_french_factors_are_those_that_are_published():
    data = months()
    for k, name in enumerate(FACTORS):
        found = ours(data[name])
        assert {row: f"{found[row]:.6f}" for row in TABLE} == {row: TABLE[row][k] for row in TABLE}, name
    print("proof: 32 of 32 figures of the published table, all six decimals")


def test_the_sharpe_ratio_of_the_market_is_the_published_one():
    r = months()["Mkt-RF"] / 100.0
    volatility, sharpe = metrics.annual_volatility(r, 12.0), metrics.sharpe(r, 12.0)
    found = {"mu": 100.0 * volatility * sharpe, "sigma": 100.0 * volatility, "SR": sharpe}
    assert {name: f"{value:.6f}" for name, value in found.items()} == SHARPE
    print("proof: mean, deviation and Sharpe ratio of the market, all six decimals")


def test_the_table_of_1993_is_near_and_not_reproduced_as_the_data_were_revised_since():
    data = months(196307, 199112)
    page = PAGE.read_text(encoding="utf-8")
    for name, (mean, deviation, t) in FAMA_FRENCH_1993.items():
        r = data[name]
        assert r.size == 342
        found = (float(r.mean()), float(r.std(ddof=1)), float(r.mean() / r.std(ddof=1) * np.sqrt(r.size)))
        assert found == pytest.approx((mean, deviation, t), abs=0.13)
        assert (
            "| {} | {:.2f}, {:.2f}, {:.2f} | {:.2f}, {:.2f}, {:.2f} |".format(name, mean, deviation, t, *found) in page
        )
    assert re.search("not reproduced", page)
