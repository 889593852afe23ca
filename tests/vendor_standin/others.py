"""Alpha Vantage's and Bitstamp's documents, as their public documentation and ccxt's reader describe them."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from vendor_standin.market import COINS, Market

VANTAGE_KEY = "STANDIN-VANTAGE-KEY"
COMPACT = 100


def vantage(market: Market, query: dict[str, str]) -> dict[str, Any]:
    """Answer /query: everything with 200, errors in a field."""
    if query.get("apikey") != VANTAGE_KEY:
        return {"Error Message": "the parameter apikey is invalid or missing. Please claim your free API key."}
    function, symbol = query.get("function", ""), query.get("symbol", "")
    if symbol not in market.bars:
        return {"Error Message": f"Invalid API call. Please retry or visit the documentation for {function}."}
    mine = [row for row in market.actions if row["symbol"] == symbol]
    if function == "DIVIDENDS":
        return {"symbol": symbol, "data": [_dividend(row) for row in mine if row["kind"] == "dividend"]}
    if function == "SPLITS":
        return {"symbol": symbol, "data": [_split(row) for row in mine if row["kind"] == "split"]}
    days = sorted(market.published(symbol))
    if query.get("outputsize", "compact") == "compact":
        days = days[-COMPACT:]
    names = ("1. open", "2. high", "3. low", "4. close", "5. volume")
    series = {
        str(day): {
            name: f"{value:.4f}" if name != "5. volume" else str(value)
            for name, value in zip(names, market.published(symbol)[day], strict=True)
        }
        for day in reversed(days)
    }
    head = {"1. Information": "Daily Prices (open, high, low, close) and Volumes", "2. Symbol": symbol}
    head |= {"3. Last Refreshed": str(days[-1]) if days else "", "5. Time Zone": "US/Eastern"}
    return {"Meta Data": head, "Time Series (Daily)": series}


def _dividend(row: dict[str, str]) -> dict[str, str]:
    paid = date.fromisoformat(row["ex_date"]) + timedelta(days=21)
    dates = {"ex_dividend_date": row["ex_date"], "declaration_date": "None", "record_date": "None"}
    return {**dates, "payment_date": str(paid), "amount": row["dividend_usd"]}


def _split(row: dict[str, str]) -> dict[str, str]:
    factor = int(row["ratio_num"]) / int(row["ratio_den"])
    return {"effective_date": row["ex_date"], "split_factor": f"{factor:.4f}"}


def markets() -> list[dict[str, Any]]:
    """Answer /api/v2/markets/."""
    return [
        {
            "name": coin.replace("-", "/"),
            "market_symbol": coin.replace("-", "").lower(),
            "base_currency": coin.split("-")[0],
            "base_decimals": 8,
            "counter_currency": "USD",
            "counter_decimals": 2,
            "minimum_order_value": "10",
            "trading": "Enabled",
            "instant_order_counter_decimals": 2,
            "instant_and_market_orders": "Enabled",
            "description": f"{coin.split('-')[0]} / U.S. dollar",
            "market_type": "SPOT",
        }
        for coin in COINS
    ]


def ohlc(market: Market, pair: str, query: dict[str, str]) -> dict[str, Any] | None:
    """Answer /api/v2/ohlc/PAIR/, None for a pair that is not traded."""
    coin = next((name for name in COINS if name.replace("-", "").lower() == pair), None)
    if coin is None:
        return None
    start, end = int(query["start"]), int(query["end"])
    rows = [(int(at.timestamp()), row) for at, row in market.candles(coin)]
    names = ("open", "high", "low", "close", "volume")
    chosen = [
        {"timestamp": str(at), **{name: str(value) for name, value in zip(names, row, strict=True)}}
        for at, row in rows
        if start <= at <= end
    ]
    return {"data": {"pair": coin.replace("-", "/"), "ohlc": chosen[: int(query.get("limit", 1_000))]}}
