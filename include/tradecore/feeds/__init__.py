"""Stage 1: where prices come from. One file per vendor, whose library is imported when its feed is opened."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib import import_module
from typing import Any, TypeVar, cast

from tradecore.errors import ConfigError
from tradecore.feeds.base import (
    BAR_DTYPE,
    TRADE_DTYPE,
    Access,
    BarBatch,
    CorporateAction,
    Feed,
    Reject,
    SymbolFailure,
    make_rows,
)

__all__ = [
    "BAR_DTYPE",
    "FEEDS",
    "TRADE_DTYPE",
    "Access",
    "BarBatch",
    "CorporateAction",
    "Feed",
    "Reject",
    "SymbolFailure",
    "make_rows",
    "open_feed",
    "requests_per_minute",
]

# name in the configuration: (module, class of the feed, class of its options, whether it takes an Access)
_VENDORS = {
    "csv": ("csv", "CsvFeed", "CsvOptions", False),
    "parquet": ("parquet", "ParquetFeed", "ParquetOptions", False),
    "yahoo": ("yahoo", "YahooFeed", "YahooOptions", True),
    "alpaca": ("alpaca", "AlpacaFeed", "AlpacaOptions", True),
    "alpha_vantage": ("alpha_vantage", "AlphaVantageFeed", "AlphaVantageOptions", True),
    "crypto": ("crypto", "CryptoFeed", "CryptoOptions", True),
}
FEEDS = tuple(_VENDORS)

Options = TypeVar("Options")


def open_feed(name: str, *, options: Mapping[str, Any], access: Access | None = None, where: str = "data") -> Feed:
    """Open a feed by its name in the configuration.

    Parameters: name (one of FEEDS); options (see the options of its module; an unknown one is refused); access: keys
    and the shared limit; where: the section that messages name.
    Raises ConfigError for an unknown feed, an unknown option or a value that cannot be.
    """
    if name not in _VENDORS:
        close = difflib.get_close_matches(name, FEEDS, n=1, cutoff=0.4)
        raise ConfigError(
            f"{where}.feed is {name!r}; known feeds: {', '.join(FEEDS)}.",
            next_step=f"Set {where}.feed to {(close or FEEDS)[0]}.",
            location=f"{where}.feed",
            value=name,
        )
    module, feed, _, with_access = _VENDORS[name]
    found = _checked(name, options, where)
    made = getattr(import_module(f"tradecore.feeds.{module}"), feed)
    return cast(Feed, made(found, access or Access()) if with_access else made(found))


def requests_per_minute(name: str, *, options: Mapping[str, Any], where: str = "data") -> int | None:
    """Return how often a feed may ask in a minute, by its options or their default; None: it asks nobody."""
    allowed = getattr(_checked(name, options, where), "requests_per_minute", None)
    return None if allowed is None else max(1, int(allowed))


def _checked(name: str, options: Mapping[str, Any], where: str) -> Any:
    module, _, kind, _ = _VENDORS[name]
    given = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    return _options(getattr(import_module(f"tradecore.feeds.{module}"), kind), name, given, where)


def _options(kind: type[Options], feed: str, options: Mapping[str, Any], where: str) -> Options:
    known = list(kind.__annotations__)
    for key in options:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1, cutoff=0.4)
            raise ConfigError(
                f"{where}.options.{key} is not an option of the {feed} feed; known: {', '.join(known)}.",
                next_step=f"Did you mean {close[0]}?" if close else "Remove it.",
                location=f"{where}.options.{key}",
                value=options[key],
            )
    try:
        return kind(**options)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{where}.options of the {feed} feed: {error}",
            next_step="Correct the option in the configuration.",
            location=f"{where}.options",
            value=dict(options),
        ) from error
