"""What each answer of Alpaca means, and that no order leaves without a permit that fits."""

from __future__ import annotations

import json
import logging
import traceback
from datetime import timedelta
from decimal import Decimal
from socket import gaierror
from ssl import SSLCertVerificationError
from typing import Any

import pytest
import requests
from alpaca_answers import KEY, NOW, SECRET, Canned, broker, document, permit, refusal, request
from urllib3.connection import HTTPConnection
from urllib3.exceptions import (
    MaxRetryError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ProxyError,
    SSLError,
)

from tradecore.errors import BrokerError, ConfigError, Rejected, Unavailable, Unknown
from tradecore.execution.alpaca import AlpacaBroker
from tradecore.execution.alpaca_http import address

NO_CONNECTION = requests.exceptions.ConnectionError(
    MaxRetryError(None, "/", NewConnectionError(HTTPConnection("localhost"), "refused"))  # type: ignore[arg-type]
)
CUT = requests.exceptions.ConnectionError(ProtocolError("Connection aborted."))
LOST: dict[str, Any] = {
    "read time-out": requests.exceptions.ReadTimeout("late"),
    "cut before the answer": CUT,
    "broken encryption": requests.exceptions.SSLError(MaxRetryError(None, "/", SSLError("bad record mac"))),  # type: ignore[arg-type]
    "cut in the answer": requests.exceptions.ChunkedEncodingError("half"),
    "500": refusal(500, 50010000, "internal server error occurred"),
    "502": (502, b"<html>bad gateway</html>"),
    "503": (503, b""),
    "504": refusal(504, None, "upstream request timeout"),
    "301": (301, b""),
    "no JSON": (200, b'{"id": "61e69015<!-- upstream -->'),
    "no number": (200, b'{"id": "1", "qty": NaN}'),
    "no document": (200, b'"fine"'),
    "empty": (200, b""),
    "without id": document(id=...),
    "id is null": document(id=None),
    "unreadable quantity": document(qty="ten"),
    "infinite quantity": document(filled_qty="Infinity"),
    "another order": document(client_order_id="two"),
    "a refusal that cannot be read": (422, b"<html>no</html>"),
}
NOT_SENT = {
    "no connection": NO_CONNECTION,
    "no such host": requests.exceptions.ConnectionError(
        MaxRetryError(None, "/", NameResolutionError("paper-api", HTTPConnection("localhost"), gaierror()))  # type: ignore[arg-type]
    ),
    "another's certificate": requests.exceptions.SSLError(
        MaxRetryError(None, "/", SSLError(SSLCertVerificationError("certificate verify failed: self-signed")))  # type: ignore[arg-type]
    ),
    "no proxy": requests.exceptions.ProxyError(
        MaxRetryError(
            None,  # type: ignore[arg-type]
            "/",
            ProxyError("Cannot connect to proxy", NewConnectionError(HTTPConnection("localhost"), "refused")),
        )
    ),
    "connect time-out": requests.exceptions.ConnectTimeout("late"),
    "429": refusal(429, 42910000, "rate limit exceeded"),
    "429 without a word": (429, b""),
}
REFUSED = {
    "duplicate_id": refusal(422, 40010001, "client_order_id must be unique"),
    "wash_trade": refusal(403, 40310000, "potential wash trade detected. use complex orders"),
    "held_shares": refusal(403, 40310000, "insufficient qty available for order (requested: 10, available: 0)"),
    "buying_power": refusal(403, 40310000, "insufficient buying power"),
    "window": refusal(422, 42210000, "opg orders cannot be submitted after 9:28am and before 7:00pm ET"),
    "fractional": refusal(422, 42210000, "fractional orders must be DAY orders"),
    "short": refusal(403, 40310000, "account is not allowed to short"),
    "no_such_symbol": refusal(422, 42210000, 'asset "XYZ" not found'),
    "untradable": refusal(422, 42210000, 'asset "XYZ" is not active'),
    "malformed": refusal(422, 40010001, "client_order_id must be no more than 128 characters"),
    "auth": refusal(401, 40110000, "request is not authorized"),
    "other": refusal(403, 40310000, "new orders are rejected by user request"),
}


@pytest.mark.parametrize("answer", LOST.values(), ids=LOST)
def test_an_order_without_a_clear_answer_is_unknown(answer: Any):
    line = Canned(answer)
    with pytest.raises(Unknown):
        broker(line).submit(request(), permit())
    assert len(line.trades) == 1, "it is never sent again"


@pytest.mark.parametrize("answer", NOT_SENT.values(), ids=NOT_SENT)
def test_an_order_that_was_never_accepted_is_unavailable(answer: Any):
    line = Canned(answer)
    with pytest.raises(Unavailable):
        broker(line).submit(request(), permit())
    assert len(line.trades) == 1


@pytest.mark.parametrize("code", REFUSED)
def test_a_refusal_has_its_code(code: str):
    with pytest.raises(Rejected) as caught:
        broker(Canned(REFUSED[code])).submit(request(), permit())
    assert caught.value.details["code"] == code


@pytest.mark.parametrize("answer", [*LOST.values(), *NOT_SENT.values()], ids=[*LOST, *NOT_SENT])
def test_a_question_without_a_clear_answer_changed_nothing(answer: Any):
    with pytest.raises(Unavailable):
        broker(Canned(answer)).order("one")


def test_never_seen_is_only_what_the_venue_itself_says():
    assert broker(Canned(refusal(404, 40410000, "order not found for one"))).order("one") is None
    for other in ((404, b"<html>"), refusal(404, None, "endpoint not found."), (404, b"")):
        with pytest.raises(Unavailable):
            broker(Canned(other)).order("one")


def test_a_refused_key_is_no_answer_to_a_question():
    with pytest.raises(Unavailable) as caught:
        broker(Canned(REFUSED["auth"])).order("one")
    assert caught.value.details["code"] == "auth"
    assert "ALPACA_API_KEY" in caught.value.next_step


@pytest.mark.parametrize(
    "answer, outcome",
    [
        ((204, b""), None),
        (refusal(422, 42210000, "order pending cancel"), None),
        (refusal(422, 42210000, 'order is already in "filled" state'), "not_open"),
        (refusal(422, 42210000, "order is not cancelable"), "not_open"),
        (refusal(404, 40410000, "order not found for 1"), "no_such_order"),
    ],
)
def test_a_cancel_says_whether_there_was_anything_to_cancel(answer: Any, outcome: str | None):
    if outcome is None:
        broker(Canned(answer)).cancel("1")
        return
    with pytest.raises(Rejected) as caught:
        broker(Canned(answer)).cancel("1")
    assert caught.value.details["code"] == outcome


@pytest.mark.parametrize(
    "changes, code",
    [
        ({"client_order_id": "two"}, "auth"),
        ({"account_number": "PA999"}, "auth"),
        ({"live": True}, "auth"),
        ({"not_before": NOW + timedelta(microseconds=1)}, "window"),
        ({"not_after": NOW}, "window"),
    ],
)
def test_nothing_leaves_without_a_permit_that_fits(changes: dict[str, Any], code: str):
    line = Canned(lambda sent: document())
    venue = broker(line)
    for act in (
        lambda: venue.submit(request(), permit(**changes)),
        lambda: venue.replace("1", client_order_id="one", qty=Decimal(5), limit_price=None, permit=permit(**changes)),
    ):
        with pytest.raises(Rejected) as caught:
            act()
        assert caught.value.details["code"] == code
    assert not line.trades


def test_an_account_that_does_not_answer_lets_nothing_leave():
    line = Canned(document())
    for answer in ((500, b""), (200, b"{}"), (200, b'{"account_number": null, "cash": "1"}')):
        line.account = answer
        with pytest.raises(Unavailable):
            broker(line).submit(request(), permit())
    assert not line.trades


def test_the_account_is_asked_once():
    line = Canned(document())
    venue = broker(line)
    for _ in range(3):
        venue.submit(request(), permit())
    assert [str(sent.url).rsplit("/", 1)[1] for sent in line.seen] == ["account", "orders", "orders", "orders"]
    assert line.timeouts == [(7, 7)] * 4


def test_a_replacement_keeps_its_side():
    line = Canned(lambda sent: document())
    venue = broker(line)
    with pytest.raises(Rejected) as caught:
        venue.replace("1", client_order_id="one", qty=Decimal(-5), limit_price=None, permit=permit())
    assert caught.value.details["code"] == "malformed"
    assert not line.trades
    venue.replace("1", client_order_id="one", qty=Decimal("7.5"), limit_price=Decimal("1.10"), permit=permit())
    (sent,) = line.trades
    assert json.loads(sent.body or b"") == {"qty": "7.5", "client_order_id": "one", "limit_price": "1.10"}
    assert sent.method == "PATCH"


@pytest.mark.parametrize("live, host", [(True, "https://api."), (False, "https://paper-api.")])
def test_orders_go_to_the_accounts_own_address(live: bool, host: str):
    line = Canned(document())
    broker(line, live=live).submit(request(), permit(live=live))
    assert {str(sent.url).split("alpaca.markets/v2")[0] for sent in line.seen} == {host}


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8098", "http://localhost:1/", "http://[::1]:2", "http://127.1.2.3/v2"]
)
@pytest.mark.parametrize("live", [True, False])
def test_a_stand_in_on_this_machine_may_take_the_place_of_alpaca(url: str, live: bool):
    assert address(live, url) == url.rstrip("/").removesuffix("/v2")


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "http://192.168.1.4:8098",
        "https://api.alpaca.markets.example.com",
        "https://user:pass@paper-api.alpaca.markets",
        "http://paper-api.alpaca.markets",
        "https://127.0.0.1.example.com",
        "https://data.alpaca.markets",
        "http://0.0.0.0:1",
    ],
)
@pytest.mark.parametrize("live", [True, False])
def test_no_other_address_is_taken(url: str, live: bool):
    with pytest.raises(ConfigError) as caught:
        address(live, url)
    assert "pass" not in str(caught.value)


def test_paper_and_live_addresses_are_not_mixed_up():
    assert address(True, "https://api.alpaca.markets/v2/") == "https://api.alpaca.markets"
    for live, other in ((True, "https://paper-api.alpaca.markets"), (False, "https://api.alpaca.markets")):
        with pytest.raises(ConfigError):
            address(live, other)


def test_no_message_log_or_traceback_shows_a_key(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    shown = [repr(broker(Canned(document()))), repr(vars(broker(Canned(document()))))]
    echo = f"key {KEY} with {SECRET} is not known"
    for answer in (refusal(401, 40110000, echo), refusal(422, 1, echo), CUT, NO_CONNECTION, (500, echo.encode())):
        with pytest.raises(BrokerError) as caught:
            broker(Canned(answer)).submit(request(), permit())
        error = caught.value
        shown += [str(error), repr(error.details), "".join(traceback.format_exception(error))]
        assert error.__context__ is None, "the vendor's error would bring its request along"
    for text in (*shown, caplog.text):
        assert KEY not in text
        assert SECRET not in text
    assert len(shown) == 2 + 5 * 3


@pytest.mark.parametrize("value", ["", " key", "key\n", "schlüssel"])
def test_what_cannot_be_a_key_is_refused_without_showing_it(value: str):
    with pytest.raises(ConfigError) as caught:
        AlpacaBroker(api_key="k", secret_key=value, live=False, clock=lambda: NOW, timeout_s=1)
    assert "ALPACA_SECRET_KEY" in str(caught.value)
    assert not value.strip() or value.strip() not in str(caught.value).removeprefix("ALPACA_SECRET_KEY is no key")
