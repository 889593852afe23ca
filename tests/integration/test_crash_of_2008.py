"""2008 on the sample, fully invested, with the shipped 3 % daily loss and 15 % drawdown: the book reduces, then halts,
on the very sessions that its own marks say, and nothing but reductions leaves afterwards: in the fold and in the
stages."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pytest
from parity_case import NOW, REPO, compare_with_fold, configure, run_fold, run_stages

from tradecore import pipeline
from tradecore.context import book_calendar
from tradecore.model import ACTIVE, H_NS, HALTED, O_DECIDED_NS, O_INSTR, O_QTY, REDUCING

pytestmark = pytest.mark.db
FIRST_BAR, FIRST, LAST = date(2007, 11, 26), date(2007, 12, 24), date(2008, 2, 29)
DAILY_LOSS, DRAWDOWN = 0.03, 0.15


def test_reduce_only_and_halt_come_on_the_right_sessions(tmp_path, database_url, conn):
    changes: dict[str, Any] = {
        "data": {"options": {"folder": str(REPO / "include/sample_data")}, "restate_sessions": 1},
        "strategies": {"ma_crossover": {"enabled": False}, "buy_and_hold": {"capital_share": 1.0}},
        "risk": {
            "position_sizing_method": "equal_weight",
            "max_position_size": 0.3,
            "max_exposure": 0.95,
            "max_daily_loss": DAILY_LOSS,
            "max_drawdown": DRAWDOWN,
            "reduce_lifts_after_sessions": 2,
            "volatility_lookback_bars": 10,
        },
    }
    found = configure(tmp_path, database_url, changes)
    pipeline.load_history(found, conn, first=FIRST_BAR, last=LAST, now=NOW)
    sessions = book_calendar(found).sessions_in_range(FIRST, LAST)
    stages = run_stages(found, conn, sessions)
    inputs, fold = run_fold(found, conn, sessions)
    compare_with_fold(stages, inputs, fold)

    equity = np.concatenate([[inputs.cash_e4], fold.equity_e4]).astype(float)
    lost = 1.0 - equity[1:] / equity[:-1] >= DAILY_LOSS
    down = 1.0 - equity[1:] / np.maximum.accumulate(equity)[1:] >= DRAWDOWN
    assert lost[: int(np.argmax(down))].any(), "not exercised: no bad day before the halt"
    assert down.any(), "not exercised: no drawdown of 15 %"
    expected, since = [], 0
    for bad, deep in zip(lost, down, strict=True):
        before = expected[-1] if expected else ACTIVE
        since = 0 if bad else since + 1
        lasts = before == REDUCING and since < 2
        expected.append(HALTED if deep or before == HALTED else REDUCING if bad or lasts else ACTIVE)
    assert fold.table[:, 2].tolist() == expected
    assert [book["state"] for book in stages.books] == expected

    at = {int(ns): t for t, ns in enumerate(inputs.market.head[:-1, H_NS])}
    sent = 0
    for order in fold.journal.orders:
        t = at[int(order[O_DECIDED_NS])]
        held = int(fold.qty_e6[t, order[O_INSTR]])
        state = expected[t]
        assert state != HALTED, f"an order was planned at {inputs.days[t]}, when the book was halted"
        assert state == ACTIVE or -held <= order[O_QTY] < 0, f"{inputs.days[t]}: more than a reduction"
        sent += state == REDUCING
    end = expected.index(HALTED)
    halted, bad = inputs.days[end], [str(d) for d, b in zip(inputs.days[:end], lost, strict=False) if b]
    print(f"proof: 2008: reduce-only after {', '.join(bad)}; halted on {halted}; fold and stages alike")
