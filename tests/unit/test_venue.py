"""Which broker a book gets, and what is said where it can get none."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import SecretStr

from tradecore.errors import ConfigError
from tradecore.execution.alpaca import AlpacaBroker
from tradecore.execution.simulated import SimulatedBroker
from tradecore.settings import Alpaca, Settings, load
from tradecore.storage.books import BookRecord
from tradecore.venue import open_desk

NOW = datetime(2026, 11, 24, tzinfo=UTC)
KEYS = Alpaca(api_key=SecretStr("PKTESTKEY0001"), secret_key=SecretStr("a-secret-of-length"), base_url=None)


def record(kind: str) -> BookRecord:
    return BookRecord(
        book="b", kind=kind, account="a", calendar="XNYS", currency="USD", timeframe="1d", source="csv",
        universe="u", inception_at=NOW,
    )  # fmt: skip


def configured(alpaca: Alpaca | None) -> Settings:
    return load({}).model_copy(update={"alpaca": alpaca})


def desk(kind: str, alpaca: Alpaca | None = KEYS) -> Any:
    return open_desk(configured(alpaca), None, record(kind), lambda: NOW, time.sleep)  # type: ignore[arg-type]


def test_the_kind_of_the_book_decides():
    assert isinstance(desk("simulated").broker, SimulatedBroker)
    assert isinstance(desk("simulated", None).broker, SimulatedBroker)
    for kind, live in (("alpaca-paper", False), ("alpaca-live", True)):
        opened = desk(kind)
        assert isinstance(opened.broker, AlpacaBroker)
        assert (opened.broker.live, opened.broker.name, opened.broker.batch) == (live, kind, 1)
        assert (opened.clock(), opened.sleep) == (NOW, time.sleep)


@pytest.mark.parametrize("kind", ["alpaca-paper", "alpaca-live"])
def test_without_keys_it_says_what_to_do(kind: str):
    with pytest.raises(ConfigError) as caught:
        desk(kind, None)
    told = str(caught.value)
    assert all(word in told for word in ("ALPACA_API_KEY", "ALPACA_SECRET_KEY", ".env", kind.split("-")[1], "sandbox"))


@pytest.mark.parametrize(
    "kind, url",
    [
        ("alpaca-paper", "https://api.alpaca.markets"),
        ("alpaca-live", "https://paper-api.alpaca.markets"),
        ("alpaca-paper", "https://example.com"),
    ],
)
def test_an_address_that_is_not_the_accounts_is_refused(kind: str, url: str):
    with pytest.raises(ConfigError, match="ALPACA_BASE_URL"):
        desk(kind, KEYS.model_copy(update={"base_url": url}))


def test_no_desk_shows_a_key():
    assert "a-secret-of-length" not in repr(desk("alpaca-paper"))


def test_a_book_of_an_unknown_kind_has_no_broker():
    with pytest.raises(ConfigError, match="elsewhere"):
        desk("elsewhere")


def test_keys_that_come_later_go_to_the_configured_address():
    """Those of Airflow's connection, with nothing but the sandbox's address in the environment."""
    found = load({"ALPACA_BASE_URL": "http://127.0.0.1:8098"})
    assert found.alpaca is None
    given = found.with_broker_keys("PKTESTKEY0001", "a-secret-of-length").alpaca
    assert given is not None
    assert given.base_url == "http://127.0.0.1:8098"
