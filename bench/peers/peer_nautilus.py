"""nautilus_trader: an engine in Rust and Cython, strategies in Python. Bars fill at their close."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import common
import numpy as np
import pandas as pd
from nautilus_trader.backtest.engine import BacktestEngine, BacktestEngineConfig
from nautilus_trader.config import LoggingConfig
from nautilus_trader.indicators import SimpleMovingAverage
from nautilus_trader.model.currencies import USD
from nautilus_trader.model.data import BarType
from nautilus_trader.model.enums import AccountType, OmsType, OrderSide, TimeInForce
from nautilus_trader.model.identifiers import InstrumentId, Symbol, Venue
from nautilus_trader.model.instruments import Equity
from nautilus_trader.model.objects import Money, Price, Quantity
from nautilus_trader.persistence.wranglers import BarDataWrangler
from nautilus_trader.trading.strategy import Strategy

VENUE = Venue("XNYS")


def equity(name: str, commission: float) -> Equity:
    """Return an instrument with a commission on the notional."""
    return Equity(
        instrument_id=InstrumentId(Symbol(name), VENUE),
        raw_symbol=Symbol(name),
        currency=USD,
        price_precision=2,
        price_increment=Price.from_str("0.01"),
        lot_size=Quantity.from_int(1),
        ts_event=0,
        ts_init=0,
        maker_fee=Decimal(str(commission)),
        taker_fee=Decimal(str(commission)),
    )


class Cross(Strategy):
    """Nearly all the cash while the fast average is above the slow one."""

    def __init__(self, instrument: Equity, bar_type: BarType) -> None:
        super().__init__()
        self.instrument, self.bar_type, self.held = instrument, bar_type, 0
        self.fast, self.slow = SimpleMovingAverage(common.FAST), SimpleMovingAverage(common.SLOW)

    def on_start(self) -> None:
        self.register_indicator_for_bars(self.bar_type, self.fast)
        self.register_indicator_for_bars(self.bar_type, self.slow)
        self.subscribe_bars(self.bar_type)

    def on_bar(self, bar: object) -> None:
        if not self.slow.initialized:
            return
        above = self.fast.value > self.slow.value
        if above and not self.held:
            cash = self.portfolio.account(VENUE).balance_free(USD).as_double()
            self.trade(int(0.99 * cash / float(bar.close)))
        elif not above and self.held:
            self.trade(-self.held)

    def trade(self, qty: int) -> None:
        side = OrderSide.BUY if qty > 0 else OrderSide.SELL
        self.submit_order(
            self.order_factory.market(
                self.instrument.id, side, Quantity.from_int(abs(qty)), time_in_force=TimeInForce.GTC
            )
        )
        self.held += qty


class Rebalance(Strategy):
    """Target weights at every session, once the last symbol's bar is there."""

    def __init__(self, instruments: list[Equity], bar_types: list[BarType], weights: np.ndarray) -> None:
        super().__init__()
        self.instruments, self.bar_types, self.weights = instruments, bar_types, weights
        self.day, self.price, self.qty = 0, np.zeros(len(instruments)), np.zeros(len(instruments), np.int64)
        self.place = {bar_type: i for i, bar_type in enumerate(bar_types)}

    def on_start(self) -> None:
        for bar_type in self.bar_types:
            self.subscribe_bars(bar_type)

    def on_bar(self, bar: object) -> None:
        i = self.place[bar.bar_type]
        self.price[i] = float(bar.close)
        if i + 1 < len(self.instruments):
            return
        cash = self.portfolio.account(VENUE).balance_total(USD).as_double()
        worth = cash + float(self.qty @ self.price)
        target = (self.weights[self.day] * worth / self.price).astype(np.int64)
        self.day += 1
        for k in np.argsort(target - self.qty):
            change = int(target[k] - self.qty[k])
            if change:
                side = OrderSide.BUY if change > 0 else OrderSide.SELL
                order = self.order_factory.market(self.instruments[k].id, side, Quantity.from_int(abs(change)))
                self.submit_order(order)
                self.qty[k] += change


def prepared(
    columns: dict[str, tuple[np.ndarray, np.ndarray]], freq: str, spec: str, commission: float
) -> tuple[list[Equity], list[BarType], list[object]]:
    """Return instruments, bar types and all bars."""
    instruments, types, bars = [], [], []
    for name, (open_, close) in columns.items():
        instrument = equity(name, commission)
        bar_type = BarType.from_str(f"{instrument.id}-{spec}-LAST-EXTERNAL")
        frame = common.bars(open_.round(2), close.round(2), freq).rename(columns=str.lower)
        frame.index = pd.DatetimeIndex(frame.index).tz_localize("UTC")
        instruments.append(instrument)
        types.append(bar_type)
        bars.extend(BarDataWrangler(bar_type, instrument).process(frame))
    return instruments, types, bars


def run(instruments: list[Equity], bars: list[object], strategy: Strategy, cash: float) -> np.ndarray:
    """Return the account's cash after a run (positions are not sold)."""
    engine = BacktestEngine(BacktestEngineConfig(logging=LoggingConfig(bypass_logging=True), run_analysis=False))
    engine.add_venue(
        venue=VENUE,
        oms_type=OmsType.NETTING,
        account_type=AccountType.CASH,
        base_currency=USD,
        starting_balances=[Money(cash, USD)],
    )
    for instrument in instruments:
        engine.add_instrument(instrument)
    engine.add_data(bars)
    engine.add_strategy(strategy)
    engine.run()
    left = engine.portfolio.account(VENUE).balance_total(USD).as_double()
    engine.dispose()
    return np.array([left])


def single(data: dict[str, np.ndarray]) -> Callable[[], np.ndarray]:
    """Return one symbol's run."""
    names = {"S000": (data["open"], data["close"])}
    instruments, types, bars = prepared(names, "min", "1-MINUTE", common.COST)
    return lambda: run(instruments, bars, Cross(instruments[0], types[0]), 1e9)


def portfolio(data: dict[str, np.ndarray]) -> Callable[[], np.ndarray]:
    """Return a run of all symbols on one cash account."""
    open_, close = data["open"], data["close"]
    names = {f"S{i:03d}": (open_[:, i], close[:, i]) for i in range(close.shape[1])}
    instruments, types, bars = prepared(names, "B", "1-DAY", common.COMMISSION)

    def call() -> np.ndarray:
        weights = common.weights(common.frame(close)).to_numpy()
        return run(instruments, bars, Rebalance(instruments, types, weights), common.CASH)

    return call


WORK = {"single": single, "portfolio": portfolio}
