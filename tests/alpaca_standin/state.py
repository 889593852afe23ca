"""The stand-in's state: plain records that pickle and copy. Money and quantities are Decimal."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

ZERO = Decimal(0)
FINEST_QTY = Decimal("0.000000001")
OPEN = frozenset({"new", "accepted", "pending_new", "partially_filled", "held", "pending_cancel", "pending_replace"})
DEFAULT_NULLS = (
    "crypto_tier",
    "user_configurations",
    "admin_configurations",
    "crypto_status",
    "pending_transfer_in",
    "pending_transfer_out",
)


@dataclass(slots=True, kw_only=True)
class Config:
    """What stays the same over an account's life. `rate_limit_per_min` 0 switches the limit off."""

    key_id: str = "STANDIN-KEY"
    secret_key: str = "standin-secret"
    seed: int = 0
    account_number: str = "PA0STANDIN00"
    cash_usd: Decimal = Decimal(100_000)
    multiplier: int = 2
    paper: bool = True
    partial_fill_frac: Decimal = Decimal("0.1")
    rate_limit_per_min: int = 200
    null_fields: tuple[str, ...] = DEFAULT_NULLS
    missing_fields: tuple[str, ...] = ()
    assets: dict[str, dict[str, Any]] = field(default_factory=dict)
    created_at: str = "2020-01-02T15:04:05.123456Z"


@dataclass(slots=True, kw_only=True)
class Order:
    """One order at the venue. `qty` is None for a notional order; `live_until` None for GTC."""

    id: str
    client_order_id: str
    symbol: str
    side: str
    type: str
    time_in_force: str
    qty: Decimal | None
    notional: Decimal | None
    limit_price: Decimal | None
    stop_price: Decimal | None
    trail_price: Decimal | None
    trail_percent: Decimal | None
    hwm: Decimal | None
    extended_hours: bool
    order_class: str
    created_at: datetime
    updated_at: datetime
    submitted_at: datetime
    live_from: datetime
    live_until: datetime | None
    status: str = "accepted"
    filled_qty: Decimal = ZERO
    filled_notional: Decimal = ZERO
    filled_at: datetime | None = None
    expired_at: datetime | None = None
    canceled_at: datetime | None = None
    failed_at: datetime | None = None
    replaced_at: datetime | None = None
    replaced_by: str | None = None
    replaces: str | None = None
    triggered: bool = False
    parent: str | None = None
    leg: str = ""
    legs: list[str] = field(default_factory=list)
    intent: str = ""
    source: str | None = None
    drop_fills_s: float | None = None
    double_fills: bool = False

    @property
    def is_open(self) -> bool:
        return self.status in OPEN

    @property
    def sign(self) -> int:
        return 1 if self.side == "buy" else -1

    @property
    def remaining_qty(self) -> Decimal:
        """Shares still to fill; of a notional order 0, its shares are known at the price only."""
        return ZERO if self.qty is None else self.qty - self.filled_qty

    def notional_filled_out(self, price: Decimal) -> bool:
        """Tell whether what is left of a notional order buys less than the finest quantity."""
        return self.notional is not None and self.notional - self.filled_notional < price * FINEST_QTY


@dataclass(slots=True, kw_only=True)
class Activity:
    """One account activity. `shown_at` is when the REST list has it (None: never), `copies` how often."""

    at: datetime
    document: dict[str, Any]
    shown_at: datetime | None
    copies: int = 1

    @property
    def id(self) -> str:
        return str(self.document["id"])


@dataclass(slots=True, kw_only=True)
class Holding:
    """A position: signed shares and their average entry price."""

    qty: Decimal = ZERO
    avg_price: Decimal = ZERO


@dataclass(slots=True, kw_only=True)
class Scheduled:
    """A fill that comes after the order was cancelled."""

    at: datetime
    order_id: str


@dataclass(slots=True, kw_only=True)
class Counters:
    """What arrived at POST /v2/orders, whatever came of it."""

    posts_received: int = 0
    posts_accepted: int = 0
    requests: int = 0
    received: dict[str, int] = field(default_factory=dict)
    accepted: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class State:
    """Everything that an account at the venue is."""

    config: Config = field(default_factory=Config)
    now: datetime | None = None
    cash: Decimal = ZERO
    orders: dict[str, Order] = field(default_factory=dict)
    open_ids: dict[str, None] = field(default_factory=dict)
    by_client_id: dict[str, str] = field(default_factory=dict)
    holdings: dict[str, Holding] = field(default_factory=dict)
    activities: list[Activity] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    scheduled: list[Scheduled] = field(default_factory=list)
    used_volume: dict[str, tuple[datetime, Decimal]] = field(default_factory=dict)
    equity_marks: dict[str, Decimal] = field(default_factory=dict)
    configurations: dict[str, Any] = field(default_factory=dict)
    counters: Counters = field(default_factory=Counters)
    minted: int = 0
    window: tuple[int, int] = (0, 0)

    @classmethod
    def new(cls, config: Config | None = None) -> State:
        """Return a fresh account holding its starting cash."""
        state = cls(config=config or Config())
        state.cash = state.config.cash_usd
        return state

    def mint(self, what: str) -> str:
        """Return a new id that follows from the seed and the number of ids before it."""
        self.minted += 1
        return str(uuid.UUID(bytes=digest(self.config.seed, what, self.minted)[:16], version=4))

    def open_orders(self, symbol: str | None = None) -> list[Order]:
        """Return the open orders, oldest first."""
        found = (self.orders[key] for key in self.open_ids)
        return [order for order in found if symbol is None or order.symbol == symbol]

    def close(self, order: Order) -> None:
        """Drop an order from the index of open ones: call it when the status became final."""
        self.open_ids.pop(order.id, None)


def digest(*parts: object) -> bytes:
    """Return a hash of the parts, the stand-in's only source of chance."""
    return hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).digest()


def chance(*parts: object) -> float:
    """Return a number in [0, 1) that follows from the parts."""
    return int.from_bytes(digest(*parts)[:7], "big") / float(1 << 56)


def text(value: Decimal | None, places: int = 9) -> str | None:
    """Return a number as Alpaca prints it: a plain string without needless zeros; None stays None."""
    if value is None:
        return None
    rounded = value.quantize(Decimal(1).scaleb(-places)) if -int(value.as_tuple().exponent) > places else value
    plain = format(rounded, "f")
    plain = plain.rstrip("0").rstrip(".") if "." in plain else plain
    return "0" if plain in ("-0", "") else plain


def stamp(at: datetime | None) -> str | None:
    """Return a time as Alpaca prints it, or None."""
    return None if at is None else at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class ApiError(Exception):
    """A refusal: status, and the body {"code", "message", ...}."""

    def __init__(self, status: int, code: int | None, message: str, **extra: Any) -> None:
        super().__init__(message)
        self.status = status
        self.body = {**({} if code is None else {"code": code}), "message": message, **extra}


def invalid(message: str, code: int = 42210000) -> ApiError:
    """Return the refusal of a request that is wrong in itself."""
    return ApiError(422, code, message)
