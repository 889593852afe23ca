"""Trades to bars: a buffer that grows at its end, and bars by time, trades, volume and value, in any batches."""

from __future__ import annotations

from tradecore.ticks.bars import BarMaker, dollar_bars, tick_bars, time_bars, volume_bars
from tradecore.ticks.growing import Growing

__all__ = ["BarMaker", "Growing", "dollar_bars", "tick_bars", "time_bars", "volume_bars"]
