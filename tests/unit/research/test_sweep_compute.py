"""A chunk's rows are a function of the job and its number, to the bit: whatever the workers, the threads, the order.

The fold's rows do not depend on the size of the chunks either; the screening kernel shares sums among the pairs of a
chunk, so that other chunks differ in the last bits. The size is part of a sweep's id.
"""

from __future__ import annotations

import numpy as np
import pytest

import sample_sweep
from tradecore.bars import adjusted
from tradecore.research.screening import screen_ma_crossover
from tradecore.research.sweep import evaluate, running
from tradecore.research.sweep.evaluate import FIGURES, compute

CROSSOVER = ("ma_crossover", "short_period=2:20:3", "long_period=5:50:5")


def rows_of(job):
    """All rows of a job, joined."""
    parts = [compute(job, c) for c in range(job.spec.n_chunks)]
    joined = [np.concatenate([getattr(p, name) for p in parts]) for name in ("set_no", "figures", "n_trades")]
    return [*joined, [text for p in parts for text in p.params]]


@pytest.mark.parametrize("engine", ["fold", "screen"])
def test_chunks_do_not_matter(engine):
    whole = rows_of(sample_sweep.job(*CROSSOVER, rows=120, engine=engine, chunk_size=70))
    assert whole[0].size == len({(s, n) for s in range(2, 21, 3) for n in range(5, 51, 5) if s < n})
    assert (whole[2] > 0).sum() > 10, "not exercised"
    for size in (1, 9):
        parts = rows_of(sample_sweep.job(*CROSSOVER, rows=120, engine=engine, chunk_size=size))
        for a, b in zip(whole[2:], parts[2:], strict=True):
            assert np.array_equal(a, b)
        np.testing.assert_array_equal(whole[0], parts[0])
        np.testing.assert_allclose(whole[1], parts[1], rtol=0.0, atol=0.0 if engine == "fold" else 1e-12)


def test_workers_and_their_order_do_not_matter():
    job = sample_sweep.job(*CROSSOVER, rows=120, engine="screen", chunk_size=5)
    one = {r.chunk_no: r.hash() for r in running.computed(job, iter(range(job.spec.n_chunks)), 1, "loky")}
    two = {r.chunk_no: r.hash() for r in running.computed(job, iter(range(job.spec.n_chunks)), 2, "threading")}
    assert two == one
    assert len(set(one.values())) == job.spec.n_chunks > 10


def test_a_screened_figure_is_the_mean_over_the_symbols():
    job = sample_sweep.job(*CROSSOVER, engine="screen", chunk_size=70)
    rows = job.panel.rows(job.back - 1, job.panel.day.size)
    opens, closes = adjusted(rows.open, rows), adjusted(rows.close, rows)
    here = [k for k in range(closes.shape[1]) if np.isfinite(closes[:, k]).any()]
    assert len(here) > 1
    found, at = compute(job, 0), 17
    pair = [int(x) for x in (evaluate.json.loads(found.params[at])[n] for n in ("short_period", "long_period"))]
    each = [
        screen_ma_crossover(opens[:, k], closes[:, k], [pair[0]], [pair[1]], cost_bps=3.0, bars_per_year=252.0)
        for k in here
    ]
    for name in ("total_return", "sharpe", "max_drawdown"):
        mean = np.mean([np.nan_to_num(getattr(seen, name)[0]) for seen in each])
        assert found.figures[at, FIGURES.index(name)] == pytest.approx(mean, abs=1e-12)
    assert found.n_trades[at] == sum(int(seen.n_trades[0]) for seen in each) > 0
    assert np.isnan(found.figures[:, FIGURES.index("cagr")]).all()


def test_a_set_that_looks_back_further_than_the_ends_of_its_ranges_is_an_error_and_not_a_wrong_row():
    job = sample_sweep.job("donchian_breakout", "entry_period=10:80:10", rows=60)
    with pytest.raises(evaluate.StrategyError, match="looks back 61 bars"):
        compute(job, 0)
