"""What is said of a universe: planted structure is found, definitions hold, the page is whole."""

from __future__ import annotations

import numpy as np
import pytest

from page_parts import Page
from sample_market import panel
from tradecore.bars import adjusted
from tradecore.reports.analysis_page import render
from tradecore.research import analysis as a

MONDAY = 14_004  # 2008-05-05
DAYS = np.array([MONDAY + 7 * (k // 5) + k % 5 for k in range(1500)])


def closes(returns: np.ndarray) -> np.ndarray:
    return np.vstack([np.full(returns.shape[1], 50.0), 50.0 * np.cumprod(1.0 + returns, axis=0)])


def test_names_that_move_together_stand_beside_each_other():
    rng = np.random.default_rng(4)
    group = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2])
    returns = 0.01 * rng.normal(size=(1499, 3))[:, group] + 0.005 * rng.normal(size=(1499, 9))
    found = a.analyse([f"N{k}" for k in range(9)], DAYS, closes(returns))
    ordered = group[list(found.order)]
    assert sorted(found.order) == list(range(9))
    assert np.count_nonzero(np.diff(ordered)) == 2, ordered
    np.testing.assert_allclose(found.correlation, np.corrcoef(returns.T), atol=1e-12)


def test_correlations_use_the_sessions_in_common_and_need_enough_of_them():
    rng = np.random.default_rng(5)
    returns = rng.normal(size=(200, 3))
    returns[:150, 1] = np.nan
    returns[20:, 2] = np.nan
    found = a.correlations(returns)
    assert found[0, 1] == pytest.approx(np.corrcoef(returns[150:, 0], returns[150:, 1])[0, 1])
    assert np.isnan(found[0, 2])
    assert np.isnan(found[1, 2])
    assert np.array_equal(np.diag(found), np.ones(3))


def test_a_planted_month_weekday_and_memory_are_found():
    rng = np.random.default_rng(6)
    noise = rng.normal(0.0, 0.001, 1499)
    for t in range(1, noise.size):
        noise[t] += 0.6 * noise[t - 1]
    tuesday = (DAYS[1:] + 3) % 7 == 1
    found = a.analyse(["X"], DAYS, closes((noise + 0.004 * tuesday)[:, None]))
    best = max(found.weekdays, key=lambda s: s.t)
    assert (best.name, best.sessions) == ("Tue", int(tuesday.sum()))
    assert best.t > 10.0
    assert [s.name for s in found.weekdays] == ["Mon", "Tue", "Wed", "Thu", "Fri"]
    assert len(found.months) == 12
    assert a.autocorrelation(noise)[0] == pytest.approx(0.6, abs=0.06)
    assert np.isnan(a.autocorrelation(np.ones(50))).all()


def test_regimes_are_thirds_of_the_volatility_known_at_the_close_before():
    rng = np.random.default_rng(7)
    scale = np.repeat([0.004, 0.02, 0.004], [500, 500, 499])
    found = a.analyse(["X"], DAYS, closes((scale * rng.normal(size=1499))[:, None]))
    assert [r.name for r in found.regimes] == ["calm", "middle", "wild"]
    known = found.regime[found.regime >= 0]
    assert np.ptp(np.bincount(known)) <= 1
    assert found.regimes[2].volatility_frac > 3 * found.regimes[0].volatility_frac
    assert (found.regime[540:990] == 2).mean() > 0.6
    assert found.regimes[0].stay_frac > 0.8
    before = found.volatility[:-1]
    high = np.nanquantile(before, 2 / 3)
    assert set(found.regime[1:][before > high]) == {2}


def test_a_name_that_does_not_trade_keeps_its_last_close():
    close = np.array([[np.nan, 10.0], [20.0, np.nan], [22.0, 11.0]])
    found = a.returns_of(close)
    assert np.isnan(found[0]).all()
    np.testing.assert_allclose(found[1], [0.1, 0.1])


def test_shapes_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="closes have shape"):
        a.analyse(["X"], DAYS, np.ones((1500, 2)))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("count", [5, 1, 30], ids=["the sample", "one name", "too many for a table"])
def test_page_is_whole_and_fetches_nothing(count: int):
    if count == 5:
        market = panel()
        found = a.analyse(market.symbols, market.day, adjusted(market.close, market))
    else:
        returns = np.random.default_rng(8).normal(0.0003, 0.01, (1499, count))
        found = a.analyse([f"<b>{k}" for k in range(count)], DAYS, closes(returns))
    page = Page(render(found))
    page.assert_fetches_nothing()
    assert {"spread", "memory", "season", "correlation", "regimes"} <= set(page.ids)
    assert "nan" not in " ".join(page.text).lower().split()
    assert ("data:image/png" in page.html) == (count == 30)
    assert len(page.html) < 250_000
    record = a.as_record(found)
    assert record["sessions"] == found.day.size
    assert a.summary(record | {"report": "x"}).endswith("report x")
