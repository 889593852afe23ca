"""Stage 1: where prices come from. One file per vendor, whose library is imported when its feed is opened."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, TypeVar

from tradecore.errors import ConfigError
from tradecore.feeds.base import BAR_DTYPE, BarBatch, CorporateAction, Feed, Reject, SymbolFailure, make_rows

__all__ = [
    "BAR_DTYPE",
    "BarBatch",
    "CorporateAction",
    "Feed",
    "Reject",
    "SymbolFailure",
    "make_rows",
    "open_feed",
]

FEEDS = ("csv", "yahoo")

Options = TypeVar("Options")


def open_feed(name: str, *, options: Mapping[str, Any]) -> Feed:
    """Open a feed by its name in the configuration.

    Parameters: name (one of FEEDS); options (see `CsvOptions` and `YahooOptions`; an unknown one is refused).
    Raises ConfigError for an unknown feed, an unknown option or a value that cannot be.
    """
    if name == "csv":
        from tradecore.feeds.csv import CsvFeed, CsvOptions

        return CsvFeed(_options(CsvOptions, name, options))
    if name == "yahoo":
        from tradecore.feeds.yahoo import YahooFeed, YahooOptions

        return YahooFeed(_options(YahooOptions, name, options))
    close = difflib.get_close_matches(name, FEEDS, n=1, cutoff=0.4)
    raise ConfigError(
        f"data.feed is {name!r}; known feeds: {', '.join(FEEDS)}.",
        next_step=f"Set data.feed to {(close or FEEDS)[0]}.",
        location="data.feed",
        value=name,
    )


def _options(kind: type[Options], feed: str, options: Mapping[str, Any]) -> Options:
    known = list(kind.__annotations__)
    for key in options:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1, cutoff=0.4)
            raise ConfigError(
                f"data.options.{key} is not an option of the {feed} feed; known: {', '.join(known)}.",
                next_step=f"Did you mean {close[0]}?" if close else "Remove it.",
                location=f"data.options.{key}",
                value=options[key],
            )
    try:
        return kind(**options)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"data.options of the {feed} feed: {error}",
            next_step="Correct the option in the configuration.",
            location="data.options",
            value=dict(options),
        ) from error
