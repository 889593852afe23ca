"""A line of the sheet as the orders that a venue gets: laws over random lines, and the named styles."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradecore.config_models import Execution
from tradecore.execution.window import Window
from tradecore.order_style import Styled, styled

WINDOW = Window(opens_at=datetime(2025, 6, 5, 13, 30, tzinfo=UTC), closes_at=datetime(2025, 6, 5, 19, 59, tzinfo=UTC))
SHARE = 1_000_000


def orders(
    qty: int = 100, ref: float = 50.0, window: Window = WINDOW, step: int = SHARE, covers: bool = False, **settings
) -> tuple[Styled, ...]:
    return styled(
        Execution.model_validate(settings),
        line=3,
        qty_e6=qty * SHARE,
        ref_e4=round(ref * 10_000),
        tick_e4=100,
        step_e6=step,
        window=window,
        covers=covers,
    )


@pytest.mark.parametrize(
    ("style", "kind", "tif"),
    [
        ("market_on_open", "market", "opg"),
        ("market", "market", "day"),
        ("market_on_close", "market", "cls"),
        ("limit", "limit", "day"),
    ],
)
def test_style_is_type_and_time_in_force(style: str, kind: str, tif: str):
    (order,) = orders(order_style=style)
    assert (order.order_type, order.time_in_force, order.qty_e6, order.line) == (kind, tif, 100 * SHARE, 3)


@given(
    ref=st.integers(1, 10**8),
    qty=st.integers(-(10**5), 10**5).filter(bool),
    bps=st.integers(0, 1_000),
    tick=st.sampled_from([1, 100]),
)
def test_limit_is_within_the_collar_and_on_the_tick(ref: int, qty: int, bps: int, tick: int):
    settings = Execution.model_validate({"order_style": "limit", "limit_collar_bps": bps})
    (order,) = styled(settings, line=0, qty_e6=qty * SHARE, ref_e4=ref, tick_e4=tick, step_e6=SHARE, window=WINDOW)
    assert order.limit_e4 % tick == 0
    assert order.limit_e4 >= tick
    if qty > 0:
        assert order.limit_e4 * 10_000 <= ref * (10_000 + bps) or order.limit_e4 == tick
    else:
        assert order.limit_e4 * 10_000 >= ref * (10_000 - bps)


@given(qty=st.integers(1, 10**5), slices=st.integers(2, 50), sell=st.booleans(), minutes=st.integers(1, 330))
def test_slices_sum_to_their_parent_and_stay_in_the_window(qty: int, slices: int, sell: bool, minutes: int):
    sign = -1 if sell else 1
    parent, *children = orders(
        sign * qty, order_style="market", algorithm="twap", twap_slices=slices, twap_minutes=minutes
    )
    if not children:
        assert qty == 1, "one share is not sliced"
        return
    assert parent.order_type == "twap"
    assert len(children) == min(slices, qty)
    assert sum(c.qty_e6 for c in children) == sign * qty * SHARE
    assert all(c.qty_e6 * sign > 0 and c.qty_e6 % SHARE == 0 for c in children)
    assert max(abs(c.qty_e6) for c in children) - min(abs(c.qty_e6) for c in children) <= SHARE
    times = [c.not_before_at for c in children]
    assert times == sorted(times)
    assert times[0] == WINDOW.opens_at
    assert times[-1] < WINDOW.closes_at
    assert len({c.line for c in (parent, *children)}) == len(children) + 1


def test_slices_are_squeezed_into_a_short_window():
    short = Window(opens_at=WINDOW.opens_at, closes_at=WINDOW.opens_at + timedelta(minutes=10))
    _, *children = orders(order_style="limit", algorithm="twap", twap_slices=4, twap_minutes=60, window=short)
    assert [c.not_before_at - short.opens_at for c in children] == [timedelta(minutes=3) * k for k in range(4)]


def test_bracket_is_attached_to_buys_alone():
    settings = {"order_style": "market", "stop_loss_frac": 0.05, "take_profit_frac": 0.101}
    (buy,) = orders(100, 33.33, **settings)
    assert (buy.stop_loss_e4, buy.take_profit_e4, buy.time_in_force) == (31_67_00, 36_69_00, "gtc")
    (cover,) = orders(100, 33.33, covers=True, **settings)  # of a short: a stop that fires would open it again
    assert (cover.stop_loss_e4, cover.take_profit_e4, cover.time_in_force) == (0, 0, "day")
    (sell,) = orders(-100, 33.33, **settings)
    assert (sell.stop_loss_e4, sell.take_profit_e4, sell.time_in_force) == (0, 0, "day")
