"""The models of trading.yaml: what is traded, by which strategies, within which limits.

Every field states its unit and meaning; docs/configuration.md is generated from here. Models are frozen,
refuse keys that they do not know, and hold the rules that no kernel can check: fractions are whole parts per
million, money is Decimal, and what contradicts another section is refused before a run starts.
"""

from __future__ import annotations

import hashlib
import json
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, PlainValidator, field_validator, model_validator

from tradecore.config_risk import PreTrade, Risk, Throttle
from tradecore.config_source import PathParts, unknown
from tradecore.config_values import (
    BookName,
    Bps,
    Calendar,
    ConfigModel,
    Count,
    Fraction,
    Name,
    Number,
    QtyStep,
    Symbol,
    Tick,
    Timeframe,
    Usd,
    UsdPerShare,
    broken_rules,
    is_symbol,
    symbols_or_all,
)


class BookConfig(ConfigModel):
    """The book that this profile trades, and when its runs start."""

    name: BookName = Field("sim", description="Name of the book; ledger and state are kept per book.")
    broker: Literal["simulated", "alpaca-paper", "alpaca-live"] = Field(
        "simulated",
        description="Venue of the configured book. alpaca-live trades real money only where three keys agree: "
        "PAPER_TRADING=false, `tradecore live enable`, and the account number that the broker reports.",
    )
    account: BookName = Field("sim", description="Account at the venue; part of every client order id.")
    calendar: Calendar = Field(
        "XNYS",
        description="Exchange calendar: XNYS, 24/7 (each day from midnight to midnight UTC), or the absolute path of a "
        "table of sessions.",
    )
    currency: Literal["USD"] = Field("USD", description="Currency of cash and prices. One for now.")
    timeframe: Timeframe = Field(
        "1d",
        description="Length of a bar: '1d', or 'Nm', N from 1 to 390 minutes ('195m' = two bars a session).",
    )
    run_delay_minutes: Count = Field(
        30, ge=0, le=720, description="Minutes after the bar's end at which the run starts."
    )
    decision_timeout_s: Count = Field(
        900, ge=10, le=86_400, description="Seconds that a decision may take before it is given up."
    )


class Member(ConfigModel):
    """A name of the universe: since when listed, from when to when a member, tick and quantity step."""

    member_from: date | None = Field(None, description="First session as a member; null: since it was listed.")
    member_to: date | None = Field(
        None, description="First session on which it no longer is one: what is held is then sold; null: open end."
    )
    tick_usd: Tick = Field(Decimal("0.01"), description="Price step in USD, at most 4 decimal places.")
    qty_step_shares: QtyStep = Field(Decimal("1"), description="Quantity step in shares, at most 6 decimal places.")
    list_from: date | None = Field(None, description="First session on which the symbol names this instrument.")
    tags: tuple[Name, ...] = Field(
        (), max_length=16, description="Groups that it belongs to, a sector or any other: risk.limits.groups caps them."
    )

    @property
    def due_from(self) -> date | None:
        """First session on which a bar is due; None: always."""
        return self.member_from or self.list_from

    def is_due(self, on: date) -> bool:
        """Tell whether the name is a member on a session, so that its bar counts for coverage."""
        return (self.due_from is None or on >= self.due_from) and (self.member_to is None or on < self.member_to)

    @model_validator(mode="after")
    def _dates_in_order(self) -> Self:
        broken: list[tuple[PathParts, object, str]] = []
        if self.member_from and self.list_from and self.member_from < self.list_from:
            broken.append((("member_from",), self.member_from, f"must not be before list_from ({self.list_from})"))
        if self.due_from and self.member_to and self.member_to <= self.due_from:
            broken.append((("member_to",), self.member_to, f"must be after the first session ({self.due_from})"))
        if broken:
            raise broken_rules(broken)
        return self


class Universe(ConfigModel):
    """The names that are loaded, validated and open to strategies."""

    name: Name = Field(description="Name of the universe; membership and quality results are kept under it.")
    members: dict[Symbol, Member] = Field(
        default_factory=dict,
        description="Names with their details, by symbol; `AAPL: {}` takes the defaults.",
    )
    plain: tuple[Symbol, ...] = Field(
        (), alias="symbols", exclude=True, repr=False, description="Shorthand: names that take the defaults."
    )

    @property
    def symbols(self) -> tuple[str, ...]:
        """All names, in configured order."""
        return tuple(self.members)

    def due(self, on: date) -> tuple[str, ...]:
        """Return the names that are members on a session, in configured order."""
        return tuple(symbol for symbol, member in self.members.items() if member.is_due(on))

    @model_validator(mode="before")
    @classmethod
    def _symbols_are_members(cls, data: Any) -> Any:
        """Give names of the shorthand the defaults; what is wrong with them is reported where they stand."""
        if not isinstance(data, dict) or not isinstance(data.get("members") or {}, dict):
            return data
        details = {symbol: {} if member is None else member for symbol, member in (data.get("members") or {}).items()}
        plain = data.get("symbols")
        listed = list(plain) if isinstance(plain, list | tuple) else []
        names = [name for name in listed if is_symbol(name)]
        twice: list[tuple[PathParts, object, str]] = [
            (("symbols", i), name, "is named twice")
            for i, name in enumerate(listed)
            if (is_symbol(name) and name in details) or name in listed[:i]
        ]
        if twice:
            raise broken_rules(twice)
        return {**data, "members": {**{name: {} for name in names}, **details}}

    @model_validator(mode="after")
    def _someone(self) -> Self:
        if not self.members:
            raise broken_rules([(("members",), None, "must name at least one symbol (`symbols: [AAPL]`)")])
        return self


FeedName = Literal["csv", "parquet", "yahoo", "alpaca", "alpha_vantage", "crypto"]


class SecondFeed(ConfigModel):
    """Who is asked for bars that the first vendor lacks, or that look wrong. Both values and the decision are kept."""

    feed: FeedName = Field(description="The second vendor.")
    options: dict[str, Any] = Field(default_factory=dict, description="Options of that feed.")
    compare: Literal["suspect", "all"] = Field(
        "suspect",
        description="What it is asked for: bars that are missing, cannot be, or jump beyond validation.max_jump_frac; "
        "or all of them.",
    )
    tolerance_frac: Fraction = Field(
        0.005, ge=0, le=1, description="Largest difference of open, high, low or close at which two bars agree."
    )
    on_dispute: Literal["first", "second", "neither"] = Field(
        "first", description="Whose bar counts where both are possible and differ; neither: the bar is missing."
    )
    patience_minutes: Count = Field(
        30, ge=0, le=1_440, description="Minutes after a bar's end that the first vendor has to publish it."
    )


class Data(ConfigModel):
    """Where bars come from."""

    feed: FeedName = Field("csv", description="Where bars come from (docs/data.md); their source in the database.")
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="Options of that feed; csv and parquet: folder, relative to the project. Never a key.",
    )
    second: SecondFeed | None = Field(None, description="A second vendor for missing and disputed bars; null: none.")
    publication_lag_minutes: Count = Field(
        15,
        ge=0,
        le=1_440,
        description="Minutes after a bar's end at which a bulk load assumes that it was known.",
    )
    restate_sessions: Count = Field(
        5, ge=0, le=252, description="Sessions back that each run asks for again, to notice restated bars."
    )
    last_session: date | None = Field(
        None,
        description="Last session that the feed can serve; nothing is scheduled after it. null: open end.",
    )


class Validation(ConfigModel):
    """When bars are good enough to decide on. The gate closes below the coverage and above `max_missing`."""

    min_coverage: Fraction = Field(0.95, ge=0, le=1, description="Least fraction of the members due with a good bar.")
    max_missing: Count = Field(1, ge=0, le=10_000, description="Names that may be missing whatever the coverage.")
    max_jump_frac: Fraction = Field(
        0.4,
        gt=0,
        le=10,
        description="Largest change against the adjusted previous close without a corporate action.",
    )
    stale_repeat_bars: Count = Field(
        5,
        ge=2,
        le=252,
        description="Equal bars in a row (open, high, low, close, volume) that count as stale.",
    )


class StrategyConfig(ConfigModel):
    """One strategy: on or off, its names, its share of the capital, its parameters."""

    enabled: bool = Field(True, description="Whether it decides. A disabled one may stay in the file.")
    kind: Name = Field("", description="Which strategy it is; default: its name in the file.")
    symbols: Annotated[tuple[str, ...] | Literal["all"], PlainValidator(symbols_or_all)] = Field(
        "all", description="Names that it may hold: 'all' of the universe, or a list."
    )
    capital_share: Number = Field(
        1.0, gt=0, le=1, description="Its share of the equity; the enabled ones sum to at most 1."
    )
    throttle: Throttle | None = Field(None, description="Drawdown throttle of its capital; null: none.")
    on_failure: Literal["hold", "flatten", "stop"] = Field(
        "hold",
        description="If it fails: hold what it holds, flatten it, or stop the decision of the whole book.",
    )
    require_certificate: bool | None = Field(
        None, description="Whether it trades only with a passed certificate; null: as require_certificate of all says."
    )
    params: dict[str, Any] = Field(default_factory=dict, description="Its parameters, checked against its own model.")


class Execution(ConfigModel):
    """Costs and manners of orders. In simulation these are the fill kernel's."""

    slippage_bps: Bps = Field(2, description="Fill price worse than the open, in 1/100 of a percent.")
    commission_bps: Bps = Field(1, description="Commission on the notional, in 1/100 of a percent.")
    commission_per_share_usd: UsdPerShare = Field(Decimal(0), description="Commission per share, in USD.")
    commission_min_usd: Usd = Field(Decimal(0), description="Least commission of a fill, in USD.")
    participation_frac: Fraction = Field(0.10, gt=0, le=1, description="Largest part of a bar's volume that is ours.")
    remainder: Literal["cancel", "carry"] = Field("cancel", description="The rest of a partial fill.")
    max_order_age_bars: Count = Field(5, ge=1, le=1_000, description="Bars after which a carried order expires.")
    approval_required: bool = Field(
        False, description="A person approves the order sheet in Airflow before it is sent; no answer: no orders."
    )
    order_style: Literal[
        "market_on_open", "market", "market_on_close", "limit", "stop", "stop_limit", "trailing_stop"
    ] = Field(
        "market_on_open",
        description="At a real broker: into the opening auction (sent the evening before or in the morning), after the "
        "open, into the closing auction, or a limit order after the open. Simulated books and backtests: at the next "
        "open, at the next close, a limit order for the next bar, or, for what opens a position, a stop order.",
    )
    limit_collar_bps: Bps = Field(
        50, description="Limit orders: worst price against the reference (stop_limit: the stop), in 1/100 of a percent."
    )
    stop_trigger_bps: Bps = Field(
        100, description="Stop orders: how far from the reference, and how far a trailing one stays behind, in bps."
    )
    algorithm: Literal["none", "twap"] = Field(
        "none", description="twap: slices of a market or limit order, equally spaced after the open."
    )
    twap_slices: Count = Field(6, ge=2, le=50, description="twap: child orders of each parent.")
    twap_minutes: Count = Field(60, ge=1, le=330, description="twap: minutes from the first child to the last.")
    stop_loss_frac: Fraction | None = Field(
        None,
        gt=0,
        lt=1,
        description="At a real broker: a stop attached to each buy, this far below the reference. Simulated books and "
        "backtests: a stop on what is held, this far from its average cost.",
    )
    take_profit_frac: Fraction | None = Field(
        None,
        gt=0,
        le=10,
        description="At a real broker: a limit attached to each buy, this far above the reference. Simulated books and "
        "backtests: a limit on what is held, this far from its average cost.",
    )
    margin_frac: Fraction = Field(
        0, ge=0, le=3, description="Simulated: cash that may be borrowed to buy, of the equity at the last mark."
    )
    interest_credit_frac: Fraction = Field(
        0, ge=0, le=1, description="Simulated: yearly rate on cash above what shorts brought; days / 360, each session."
    )
    interest_debit_frac: Fraction = Field(
        0, ge=0, le=1, description="Simulated: yearly rate on borrowed cash; days / 360."
    )
    borrow_frac: Fraction = Field(
        0, ge=0, le=5, description="Simulated: yearly rate on the value of shorts at the mark before; days / 360."
    )
    window_margin_s: Count = Field(60, ge=0, le=3_600, description="Seconds kept free before a venue's cut-off.")
    max_clock_skew_s: Count = Field(30, ge=1, le=600, description="Own clock against the broker's; beyond: no orders.")
    lookup_gap_s: Count = Field(
        20, ge=1, le=600, description="Seconds between the two look-ups after which an order counts as never received."
    )
    http_timeout_s: Count = Field(10, ge=1, le=120, description="Seconds that the broker has for an answer.")
    requests_per_minute: Count = Field(
        200,
        ge=5,
        le=10_000,
        description="What the venue allows the account a minute, of every kind and process: 3/5 at once, 2/5 a minute.",
    )
    checks: PreTrade = Field(default_factory=lambda: PreTrade(), description="Limits of the pre-trade checks.")


class AlertRouting(ConfigModel):
    """When something that did not happen is an alert. Channels and their keys are in the environment."""

    stale_after_sessions: Count = Field(3, ge=1, le=252, description="Sessions without a bar of a name that is held.")
    late_after_minutes: Count = Field(
        60, ge=1, le=1_440, description="Minutes after its start time that a run is late."
    )


class Maintenance(ConfigModel):
    """How long raw data stay in the database, and logs on the disk: `ops_maintenance`. No part of a decision's hash."""

    minute_bars_days: Count = Field(730, ge=7, le=36_500, description="Days that raw minute bars stay.")
    trades_days: Count = Field(90, ge=1, le=36_500, description="Days that trades (ticks) stay.")
    archive: bool = Field(
        True, description="Write raw data to Parquet files before they go; false: they are dropped for good."
    )
    archive_folder: str = Field(
        ".local/archive", description="Where those files are, relative to the project; best on another disk."
    )
    compress_after_days: Count = Field(
        30, ge=1, le=36_500, description="Age at which chunks of raw data are compressed (Community edition)."
    )
    compress_bars_after_days: Count = Field(
        800, ge=30, le=36_500, description="The same for bars and their versions, in chunks of a year."
    )
    log_days: Count = Field(30, ge=1, le=3_650, description="Days that logs of tasks stay.")
    hour_utc: Count = Field(
        7, ge=0, le=23, description="Hour at which maintenance begins, if the trading day is at rest."
    )


class Trading(ConfigModel):
    """The whole of trading.yaml."""

    book: BookConfig = Field(default_factory=BookConfig)
    universe: Universe
    data: Data = Field(default_factory=Data)
    validation: Validation = Field(default_factory=Validation)
    require_certificate: bool = Field(
        False,
        description="Strategies trade only with a passed certificate of their code and parameters (see `certify`).",
    )
    strategies: dict[Name, StrategyConfig]
    risk: Risk = Field(default_factory=Risk)
    execution: Execution = Field(default_factory=Execution)
    alerts: AlertRouting = Field(default_factory=AlertRouting)
    maintenance: Maintenance = Field(default_factory=Maintenance, exclude=True)

    def enabled(self) -> tuple[str, ...]:
        """Return the names of the enabled strategies, in configured order: fills are allocated in it."""
        return tuple(name for name, strategy in self.strategies.items() if strategy.enabled)

    def needs_certificate(self, name: str) -> bool:
        """Tell whether a strategy trades only with a certificate."""
        own = self.strategies[name].require_certificate
        return self.require_certificate if own is None else own

    def strategy_symbols(self, name: str) -> tuple[str, ...]:
        """Return the names that a strategy may hold, 'all' resolved."""
        symbols = self.strategies[name].symbols
        return self.universe.symbols if symbols == "all" else symbols

    def config_hash(self) -> str:
        """Return the sha256 of the canonical JSON: spelling and defaults do not matter, order does."""
        text = json.dumps(_canonical(self), separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @field_validator("strategies", mode="before")
    @classmethod
    def _kind_is_the_name(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        named = {name: {} if raw is None else raw for name, raw in data.items()}
        return {name: {"kind": name, **raw} if isinstance(raw, dict) else raw for name, raw in named.items()}

    @model_validator(mode="after")
    def _sections_agree(self) -> Self:
        broken: list[tuple[PathParts, object, str]] = []
        if self.execution.algorithm == "twap" and self.execution.order_style not in ("market", "limit"):
            rule = f"needs order_style market or limit, not {self.execution.order_style}"
            broken.append((("execution", "algorithm"), "twap", rule))
        attached = self.execution.stop_loss_frac is not None or self.execution.take_profit_frac is not None
        if attached and self.execution.algorithm == "twap":
            rule = "must be none with stop_loss_frac or take_profit_frac: slices carry no stop"
            broken.append((("execution", "algorithm"), "twap", rule))
        if attached and self.execution.order_style == "market_on_close" and self.book.broker != "simulated":
            rule = "cannot have stop_loss_frac or take_profit_frac: a bracket is not for the closing auction"
            broken.append((("execution", "order_style"), "market_on_close", rule))
        shares = sum(self.strategies[name].capital_share for name in self.enabled())
        if shares > 1 + 1e-9:
            broken.append(
                (
                    ("strategies",),
                    round(shares, 9),
                    "capital_share of the enabled strategies must sum to 1 or less",
                )
            )
        for name, strategy in self.strategies.items():
            for i, symbol in enumerate(() if strategy.symbols == "all" else strategy.symbols):
                if symbol not in self.universe.members:
                    rule = "is not in the universe: " + unknown(symbol, self.universe.symbols, "symbol")
                    broken.append((("strategies", name, "symbols", i), symbol, rule))
        broken += self._simulated_only()
        broken += self._risk_names()
        if self.data.second is not None and self.data.second.feed == self.data.feed:
            rule = "must be another vendor than data.feed"
            broken.append((("data", "second", "feed"), self.data.second.feed, rule))
        if self.risk.max_position_size > self.risk.max_exposure:
            rule = f"must not exceed max_exposure ({self.risk.max_exposure:g})"
            broken.append((("risk", "max_position_size"), self.risk.max_position_size, rule))
        if self.data.publication_lag_minutes > self.book.run_delay_minutes:
            delay = self.book.run_delay_minutes
            rule = f"must not exceed book.run_delay_minutes ({delay}): a run would see no bar"
            broken.append((("data", "publication_lag_minutes"), self.data.publication_lag_minutes, rule))
        if broken:
            raise broken_rules(broken)
        return self

    def _risk_names(self) -> list[tuple[PathParts, object, str]]:
        """Return the names and tags of the risk section that nobody has."""
        risk, symbols, broken = self.risk, self.universe.symbols, list[tuple[PathParts, object, str]]()
        tags = tuple({tag: None for member in self.universe.members.values() for tag in member.tags})
        for tag in risk.limits.groups:
            if tag not in tags:
                rule = "is no member's tag: " + unknown(tag, tags, "tag")
                broken.append((("risk", "limits", "groups", tag), tag, rule))
        for path, name in (
            (("risk", "limits", "index_symbol"), risk.limits.index_symbol),
            (("risk", "sizing", "hedge_symbol"), risk.sizing.hedge_symbol),
        ):
            if name is not None and name not in symbols:
                broken.append((path, name, "is not in the universe: " + unknown(name, symbols, "symbol")))
        for shock, moves in risk.tail.shocks.items():
            for name in moves:
                if name not in (*symbols, *tags, "all"):
                    rule = "is no symbol, no tag and not 'all': " + unknown(name, (*symbols, *tags, "all"), "name")
                    broken.append((("risk", "tail", "shocks", shock, name), name, rule))
        method = risk.position_sizing_method
        if risk.sizing.hedge_symbol is not None and method in ("volatility_adjusted", "equal_weight"):
            rule = f"needs a sizing method that knows returns, not {method}"
            broken.append((("risk", "sizing", "hedge_symbol"), risk.sizing.hedge_symbol, rule))
        return broken

    def _simulated_only(self) -> list[tuple[PathParts, object, str]]:
        """Return what is set that a real broker's book cannot do yet, or that needs another setting."""
        risk, execution, broken = self.risk, self.execution, list[tuple[PathParts, object, str]]()
        most = round(1 + execution.margin_frac + risk.allow_short, 6)
        if risk.max_exposure > most:
            rule = f"must not exceed {most:g}: 1, and 1 more with risk.allow_short, and execution.margin_frac"
            broken.append((("risk", "max_exposure"), risk.max_exposure, rule))
        if self.book.broker == "simulated":
            return broken
        rule = f"is for simulated books and backtests, not for {self.book.broker}"
        if risk.allow_short:
            broken.append((("risk", "allow_short"), True, rule))
        if execution.margin_frac:
            broken.append((("execution", "margin_frac"), execution.margin_frac, rule))
        if execution.order_style in ("stop", "stop_limit", "trailing_stop"):
            broken.append((("execution", "order_style"), execution.order_style, rule))
        return broken


def _canonical(value: Any) -> Any:
    """Return JSON-able data in which equal settings look equal (DESIGN.md 2.13).

    Models keep the order of their fields; mappings by name (members, strategies) become lists of pairs,
    because their order decides who is filled first; free-form options are sorted by key.
    """
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        kept = {name: getattr(value, name) for name, info in fields.items() if not info.exclude}
        return {
            name: _pairs(item) if name in ("members", "strategies") else _canonical(item) for name, item in kept.items()
        }
    if isinstance(value, dict):
        return {str(key): _canonical(value[key]) for key in sorted(value, key=str)}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    if isinstance(value, Decimal):
        return format(value.normalize(), "f")
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value.isoformat() if isinstance(value, date) else value


def _pairs(mapping: dict[str, Any]) -> list[list[Any]]:
    return [[name, _canonical(item)] for name, item in mapping.items()]
