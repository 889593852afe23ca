"""What limits a book in trading.yaml: sizing, limits, breakers, and the checks of an order. Rules: docs/risk.md."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Literal, Self

from pydantic import Field, model_validator

from tradecore.config_values import Bps, ConfigModel, Count, Fraction, Name, Number, Symbol, Usd, broken_rules


class Throttle(ConfigModel):
    """Less capital for a strategy in a drawdown of its own scores: none of it from stop_frac on. Rule: docs/risk.md."""

    lookback_bars: Count = Field(60, ge=5, le=2_000, description="Bars of its paper record.")
    start_frac: Fraction = Field(0.05, ge=0, lt=1, description="Drawdown from which its capital shrinks.")
    stop_frac: Fraction = Field(0.15, gt=0, le=1, description="Drawdown at which it has none; straight in between.")

    @model_validator(mode="after")
    def _start_before_stop(self) -> Self:
        if self.start_frac >= self.stop_frac:
            rule = f"must be above start_frac ({self.start_frac:g})"
            raise broken_rules([(("stop_frac",), self.stop_frac, rule)])
        return self


class SizingParams(ConfigModel):
    """Parameters of the sizing methods that look at returns; what each of them is: docs/risk.md."""

    covariance: Literal["ledoit_wolf", "ewma", "sample"] = Field(
        "ledoit_wolf", description="Estimate of the covariance of bar returns."
    )
    lookback_bars: Count = Field(120, ge=5, le=2_000, description="Returns in that estimate.")
    ewma_decay: Fraction = Field(0.94, gt=0, le=1, description="ewma: weight of a return over that of the next one.")
    trade_risk_frac: Fraction = Field(
        0.01, gt=0, le=1, description="fixed_fractional: capital lost at the stop (execution.stop_loss_frac; none: 1)."
    )
    kelly_frac: Fraction = Field(0.5, gt=0, le=1, description="kelly: part of the full bet.")
    kelly_shrink: bool = Field(True, description="kelly: draw mean returns towards 0 as far as they are noise.")
    risk_aversion: Number = Field(5.0, gt=0, le=1_000, description="mean_variance: price of variance, per bar.")
    skill: Fraction = Field(
        0.05, gt=0, le=1, description="mean_variance: expected return of a score of 1, in volatilities of a bar."
    )
    hedge_symbol: Symbol | None = Field(
        None, description="Name of the universe, no strategy's pick, that brings each strategy's beta to the target."
    )
    hedge_beta: Number = Field(0.0, ge=-2, le=2, description="Target beta of the hedge, of the strategy's capital.")


class LimitParams(ConfigModel):
    """Limits on targets beside name, gross and turnover; null: off. Order and rules: docs/risk.md."""

    groups: dict[Name, Fraction] = Field(
        default_factory=dict, max_length=64, description="Largest gross weight of all names with a tag, by tag."
    )
    max_net: Fraction | None = Field(None, ge=0, le=4, description="Largest net weight, long less short.")
    max_leverage: Fraction | None = Field(
        None, gt=0, le=4, description="Largest sum of positions, each of all strategies together, over equity."
    )
    max_beta: Fraction | None = Field(None, ge=0, le=4, description="Largest beta of the book to the index.")
    max_adv_frac: Fraction | None = Field(
        None, gt=0, le=100, description="Largest position of a name, of its 20-bar average traded value."
    )
    max_cluster: Fraction | None = Field(
        None, gt=0, le=4, description="Largest gross weight of names that move together."
    )
    cluster_correlation: Fraction = Field(0.8, gt=0, le=1, description="Correlation from which names move together.")
    max_names: Count | None = Field(None, ge=1, le=10_000, description="Most names that are held; the smallest go.")
    min_names: Count | None = Field(
        None, ge=2, le=10_000, description="With fewer names max_exposure is that part of itself."
    )
    lookback_bars: Count = Field(120, ge=20, le=2_000, description="Returns behind betas and correlations.")
    index_symbol: Symbol | None = Field(
        None, description="Name whose returns are the index; null: the mean of the universe."
    )


class TailParams(ConfigModel):
    """Portfolio risk at the close, and the limits that it sets; a loss is a positive fraction of equity."""

    measure: Literal["value_at_risk", "expected_shortfall"] = Field(
        "expected_shortfall", description="What max_loss speaks of: of one bar, from the returns of the past."
    )
    confidence: Fraction = Field(0.99, ge=0.5, lt=1, description="Its confidence.")
    lookback_bars: Count = Field(250, ge=20, le=2_520, description="Returns behind it, and behind the report's.")
    ewma_decay: Fraction = Field(0.94, gt=0, lt=1, description="Decay of the filtered estimates.")
    max_loss: Fraction | None = Field(None, gt=0, le=1, description="Targets are scaled down to this; null: off.")
    shocks: dict[Name, dict[str, Number]] = Field(
        default_factory=dict,
        max_length=64,
        description="Fixed shocks: {name: {symbol, tag or all: return}}; the first that fits in this order counts.",
    )
    max_stress: Fraction | None = Field(
        None, gt=0, le=1, description="Largest loss in any of the shocks; targets are scaled down to it; null: off."
    )
    windows: dict[Name, tuple[date, date]] = Field(
        default_factory=dict,
        max_length=64,
        description="Historical windows of the report's stress: {name: [from, to]}.",
    )


class Breakers(ConfigModel):
    """Circuit breakers beside daily loss and drawdown: what a backtest cannot know. null: off. Rules: docs/risk.md."""

    gate_sessions: Count | None = Field(
        None, ge=1, le=252, description="Bars in a row with a closed data gate: REDUCING until it opens."
    )
    open_breaks: bool = Field(
        False,
        description="An open break between ledger and broker: REDUCING until there is none (it sends nothing anyway).",
    )
    losing_sessions: Count | None = Field(
        None, ge=2, le=252, description="Losing sessions in a row: REDUCING until one does not lose."
    )
    turnover_ratio: Number | None = Field(
        None, ge=1, le=1_000, description="Turnover over its median of 60 decisions: REDUCING until it is usual again."
    )
    slippage_excess_bps: Bps | None = Field(
        None,
        description="Mean slippage of the newest fills above execution.slippage_bps: REDUCING until a person lifts it.",
    )
    slippage_fills: Count = Field(20, ge=1, le=1_000, description="How many fills that is measured on.")
    broker_error_frac: Fraction | None = Field(
        None, ge=0, lt=1, description="Part of the newest orders rejected or in doubt: HALTED until a person lifts it."
    )
    broker_orders: Count = Field(20, ge=1, le=1_000, description="How many orders that is measured on.")
    min_disk_mb: Count | None = Field(
        None, ge=1, le=1_000_000, description="Free disk: below, HALTED until there is more."
    )
    min_memory_mb: Count | None = Field(None, ge=1, le=1_000_000, description="Available memory: below, HALTED.")
    max_temperature_c: Number | None = Field(None, ge=30, le=120, description="Hottest sensor: above, HALTED.")
    max_clock_skew_s: Count | None = Field(
        None, ge=1, le=3_600, description="Own clock against the database's: beyond, HALTED."
    )

    @property
    def on(self) -> bool:
        """Whether any of them is set."""
        limits = {
            name for name in type(self).model_fields if name not in ("open_breaks", "slippage_fills", "broker_orders")
        }
        return self.open_breaks or any(getattr(self, name) is not None for name in limits)


class Risk(ConfigModel):
    """Sizing and limits. Fractions are of the book's equity, whole parts per million."""

    max_position_size: Fraction = Field(0.15, gt=0, le=1, description="Largest weight of one name.")
    max_exposure: Fraction = Field(
        0.90,
        gt=0,
        le=4,
        description="Largest gross weight of all names together; above 1 only with shorts or margin.",
    )
    allow_short: bool = Field(
        False,
        description="Scores below 0 are sold short, in simulated books and backtests; false: they count as 0.",
    )
    max_daily_loss: Fraction = Field(
        0.03,
        gt=0,
        lt=1,
        description="Loss against the previous session's equity that makes the book reduce-only.",
    )
    max_drawdown: Fraction = Field(0.15, gt=0, lt=1, description="Loss against the peak equity that halts the book.")
    position_sizing_method: Literal[
        "volatility_adjusted",
        "equal_weight",
        "fixed_fractional",
        "inverse_volatility",
        "volatility_target",
        "kelly",
        "risk_parity",
        "minimum_variance",
        "mean_variance",
    ] = Field("volatility_adjusted", description="How scores become weights.")
    sizing: SizingParams = Field(default_factory=lambda: SizingParams(), description="Parameters of the sizing.")
    limits: LimitParams = Field(default_factory=lambda: LimitParams(), description="More limits on targets.")
    tail: TailParams = Field(
        default_factory=lambda: TailParams(), description="Value at risk, stress and their limits."
    )
    breakers: Breakers = Field(default_factory=lambda: Breakers(), description="More circuit breakers.")
    target_volatility: Fraction = Field(
        0.20, gt=0, le=5, description="Yearly volatility at which a name gets its full weight."
    )
    volatility_lookback_bars: Count = Field(20, ge=2, le=1_000, description="Returns in the volatility estimate.")
    max_turnover: Fraction = Field(1.0, gt=0, le=2, description="Largest traded notional of one decision.")
    min_order_notional_usd: Usd = Field(Decimal(100), description="Smaller orders are not sent, except to close.")
    rebalance_band_frac: Fraction = Field(
        0.01, ge=0, lt=1, description="Smaller changes of a name that is held are left alone."
    )
    reduce_lifts_after_sessions: Count = Field(
        1, ge=1, le=252, description="Sessions that reduce-only of a breaker lasts."
    )
    halt_lifts_after_sessions: Count | None = Field(
        None,
        ge=1,
        le=2_520,
        description="Sessions that a halt of a breaker lasts; null, or ordered by a person: until a person lifts it.",
    )


class PreTrade(ConfigModel):
    """Limits of the checks that each order to a real broker passes before it is sent."""

    max_order_frac: Fraction = Field(0.15, gt=0, le=1, description="Notional of one order, of the equity.")
    max_adv_frac: Fraction = Field(0.01, gt=0, le=1, description="Quantity of one order, of the 20-session volume.")
    price_collar_frac: Fraction = Field(
        0.05, gt=0, le=1, description="Limit price against the reference; a reference older than a session refuses."
    )
    max_orders_per_run: Count = Field(50, ge=1, le=10_000, description="Orders of one decision.")
    max_orders_per_day: Count = Field(100, ge=1, le=100_000, description="Orders of one session and account.")
    max_orders_per_symbol: Count = Field(4, ge=1, le=1_000, description="Orders of one session and symbol.")
    max_children_per_parent: Count = Field(50, ge=1, le=1_000, description="Children of one parent (twap).")
    duplicate_minutes: Count = Field(5, ge=0, le=1_440, description="Same symbol and side, sent less than this ago.")
    min_cash_frac: Fraction = Field(0.05, ge=0, lt=1, description="Cash kept after all open buys, of the equity.")
    max_turnover_ratio: Number = Field(
        3.0, ge=1, le=1_000, description="Turnover against its median of 60 sessions; above: a person approves."
    )
    restricted: tuple[Symbol, ...] = Field((), description="Names that are never ordered.")
