"""The configured vendors, opened: options from trading.yaml, keys from the settings, one limit for all processes."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import psycopg

from tradecore.errors import ConfigError
from tradecore.feeds import Access, open_feed, requests_per_minute
from tradecore.feeds.base import Feed
from tradecore.settings import Settings
from tradecore.storage import throttle
from tradecore.storage.connection import prepare


def feed_of(settings: Settings, conn: psycopg.Connection | None = None) -> Feed:
    """Open the first vendor; a relative folder in its options is below the project's.

    conn: the database that holds the vendor's limit, for who is going to ask; without it nothing is shared.
    """
    data = settings.trading.data
    return _open(settings, conn, data.feed, data.options, "data")


def second_feed_of(settings: Settings, conn: psycopg.Connection | None = None) -> Feed | None:
    """Open the second vendor, None where none is configured."""
    second = settings.trading.data.second
    return None if second is None else _open(settings, conn, second.feed, second.options, "data.second")


def _open(settings: Settings, conn: psycopg.Connection | None, name: str, given: Mapping[str, Any], where: str) -> Feed:
    options = dict(given)
    if "folder" in options:
        options["folder"] = str(settings.resolve(options["folder"]))
    if name == "yahoo":
        options.setdefault("cache_dir", str(settings.local_dir / "yahoo"))
        if settings.yahoo_base_url:
            options.setdefault("base_url", settings.yahoo_base_url)
    api_key, secret_key = _keys(settings, name)
    try:
        allowed = None if conn is None else requests_per_minute(name, options=options, where=where)
        if conn is None or allowed is None:
            access = Access(api_key=api_key, secret_key=secret_key)
        else:
            pace = shared_pace(conn, _account(name, api_key), allowed)
            access = Access(api_key=api_key, secret_key=secret_key, pace=pace)
        return open_feed(name, options=options, access=access, where=where)
    except ConfigError as error:
        raise settings.located(error) from error


def _keys(settings: Settings, name: str) -> tuple[str, str]:
    if name == "alpaca" and settings.alpaca is not None:
        return settings.alpaca.api_key.get_secret_value(), settings.alpaca.secret_key.get_secret_value()
    if name == "alpha_vantage" and settings.alpha_vantage_api_key is not None:
        return settings.alpha_vantage_api_key.get_secret_value(), ""
    return "", ""


def _account(name: str, api_key: str) -> str:
    """Return what a limit is kept under: the vendor, and the key by its sum where the limit is the key's."""
    return f"data:{name}" + (f":{hashlib.sha256(api_key.encode()).hexdigest()[:12]}" if api_key else "")


def shared_pace(conn: psycopg.Connection, account: str, allowed: int) -> Callable[[], None]:
    """Return what waits for a turn: no minute sees more than `allowed` requests of all processes, by the database.

    Each turn is taken over a connection of its own: conn may be in the middle of a transaction.
    """
    dsn, password = conn.info.dsn, conn.info.password

    def pace() -> None:
        with psycopg.connect(dsn, password=password or None) as own:
            row = prepare(own).execute("SELECT clock_timestamp()").fetchone()
            assert row is not None
            wait_s = throttle.take_of(own, account, allowed=allowed, now=row[0])
        if wait_s > 0:
            time.sleep(wait_s)

    return pace
