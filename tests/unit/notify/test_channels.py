"""What a channel sends, what it raises, and that no secret leaves it in an error. Real servers, locally."""

from __future__ import annotations

import io
import logging
import socket
import ssl
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

from http_standin import TOKEN, HttpStandin
from tradecore.alert import Alert
from tradecore.errors import DeliveryError
from tradecore.notify.apprise_url import AppriseUrl
from tradecore.notify.console import Console
from tradecore.notify.smtp import Smtp
from tradecore.notify.text import BODY_MAX_CHARS, message, subject
from tradecore.notify.webhooks import SlackWebhook, Telegram

ALERT = Alert(
    alert_id=7,
    severity="error",
    kind="task_failed",
    book="sim",
    session_date=date(2004, 9, 1),
    stage="validate",
    title="The gate is closed",
    body="IBM has no bar; 3 of 5 members <seen> & checked.",
    next_step="look at the quarantine, then clear the task",
    link="http://127.0.0.1:8080/dags/trading_day/runs/x",
    raised_at=datetime(2004, 9, 1, 20, 31, tzinfo=UTC),
)
WHAT_EVERY_ALERT_CARRIES = ("2004-09-01", "validate", "look at the quarantine", "/dags/trading_day/runs/x")


@pytest.fixture
def http() -> Iterator[HttpStandin]:
    with HttpStandin() as server:
        yield server


class Inbox:
    """aiosmtpd handler that keeps the mails and refuses the recipients it is told to refuse."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.refused: set[str] = set()

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        if address in self.refused:
            return "550 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        mail = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        return "250 OK"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def smtp_server() -> Iterator[tuple[Inbox, Smtp]]:
    inbox = Inbox()
    controller = Controller(inbox, hostname="127.0.0.1", port=_free_port())
    controller.start()
    yield (
        inbox,
        Smtp(
            host="127.0.0.1",
            port=controller.port,
            security="none",
            sender="desk@example.org",
            recipients=("owner@example.org", "second@example.org"),
            timeout_s=5,
        ),
    )
    controller.stop()


def _carried(text: str) -> list[str]:
    return [part for part in WHAT_EVERY_ALERT_CARRIES if part not in text]


def test_console_prints_one_line_with_session_stage_next_step_and_link() -> None:
    out = io.StringIO()
    Console(stream=out).send(replace(ALERT, title="two\nlines", body="a\r\nb"))
    assert out.getvalue().count("\n") == 1
    assert not _carried(out.getvalue())


def test_console_closed_is_a_delivery_error() -> None:
    out = io.StringIO()
    out.close()
    with pytest.raises(DeliveryError, match="console"):
        Console(stream=out).send(ALERT)


def test_smtp_mail_carries_everything_and_repeats_its_id(smtp_server: tuple[Inbox, Smtp]) -> None:
    inbox, channel = smtp_server
    channel.send(ALERT)
    channel.send(ALERT)
    first, second = inbox.mails
    assert not _carried(f"{first['Subject']} {first.get_content()}")
    assert first["To"] == "owner@example.org, second@example.org"
    assert first["Message-ID"] == second["Message-ID"]
    assert first["Date"].datetime == ALERT.raised_at


def test_smtp_a_line_break_in_a_title_starts_no_header(smtp_server: tuple[Inbox, Smtp]) -> None:
    inbox, channel = smtp_server
    channel.send(replace(ALERT, title="x\r\nBcc: thief@example.org"))
    assert inbox.mails[0]["Bcc"] is None
    assert "thief" in inbox.mails[0]["Subject"]


def test_smtp_one_refused_recipient_does_not_repeat_the_mail_to_the_other(
    smtp_server: tuple[Inbox, Smtp], caplog: pytest.LogCaptureFixture
) -> None:
    inbox, channel = smtp_server
    inbox.refused = {"second@example.org"}
    with caplog.at_level(logging.WARNING):
        channel.send(ALERT)
    assert len(inbox.mails) == 1
    assert "second@example.org" in caplog.text


def test_smtp_all_recipients_refused_is_a_delivery_error(smtp_server: tuple[Inbox, Smtp]) -> None:
    inbox, channel = smtp_server
    inbox.refused = set(channel.recipients)
    with pytest.raises(DeliveryError, match="SMTPRecipientsRefused"):
        channel.send(ALERT)


def test_smtp_nobody_listens_is_a_delivery_error() -> None:
    channel = Smtp(host="127.0.0.1", port=_free_port(), security="none", sender="a@b", recipients=("c@d",))
    with pytest.raises(DeliveryError, match="ConnectionRefusedError"):
        channel.send(ALERT)


def test_smtp_a_silent_server_times_out() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        channel = Smtp(
            host="127.0.0.1",
            port=silent.getsockname()[1],
            security="none",
            sender="a@b",
            recipients=("c@d",),
            timeout_s=0.3,
        )
        with pytest.raises(DeliveryError, match="timed out"):
            channel.send(ALERT)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1, made by the `cryptography` that Airflow brings."""
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "standin")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2120, 1, 1, tzinfo=UTC))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "cert.pem", folder / "key.pem"


def test_smtp_starttls_and_login(certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(cert, key)
    seen: list[LoginPassword] = []

    def authenticate(server: Any, session: Any, envelope: Any, mechanism: str, data: LoginPassword) -> AuthResult:
        seen.append(data)
        return AuthResult(success=data.password == b"right-password", handled=False)

    inbox = Inbox()
    controller = Controller(
        inbox,
        hostname="127.0.0.1",
        port=_free_port(),
        tls_context=served,
        require_starttls=True,
        authenticator=authenticate,
        auth_required=True,
    )
    controller.start()
    channel = Smtp(
        host="127.0.0.1",
        port=controller.port,
        security="starttls",
        sender="a@example.org",
        recipients=("b@example.org",),
        username="desk",
        password="right-password",
        timeout_s=5,
        tls_context=ssl.create_default_context(cafile=cert),
    )
    try:
        channel.send(ALERT)
        assert len(inbox.mails) == 1
        assert seen[0].login == b"desk"
        with pytest.raises(DeliveryError, match="SMTPAuthenticationError") as wrong:
            replace(channel, password="wrong-password").send(ALERT)
        assert "wrong-password" not in f"{wrong.value!s} {wrong.value!r}"
        with pytest.raises(DeliveryError, match="CERTIFICATE_VERIFY_FAILED"):
            replace(channel, tls_context=None).send(ALERT)
    finally:
        controller.stop()
    assert "right-password" not in repr(channel)


def test_slack_posts_escaped_text(http: HttpStandin) -> None:
    SlackWebhook(url=http.slack_url).send(ALERT)
    text = http.requests[0].json["text"]
    assert not _carried(text)
    assert "&lt;seen&gt; &amp; checked" in text


def test_slack_throttled_says_how_long_and_keeps_its_secret(
    http: HttpStandin, caplog: pytest.LogCaptureFixture
) -> None:
    http.answer_next(429, "slow down", {"Retry-After": "77"})
    with (
        caplog.at_level(logging.DEBUG, "httpx"),
        pytest.raises(DeliveryError, match="HTTP 429: slow down") as error,
    ):
        SlackWebhook(url=http.slack_url).send(ALERT)
    assert error.value.details["retry_after_s"] == 77
    told = f"{error.value!s} {error.value!r} {caplog.text} {SlackWebhook(url=http.slack_url)}"
    assert "standin-secret" not in told


def test_slack_redirect_is_not_followed(http: HttpStandin) -> None:
    http.answer_next(302, "", {"Location": f"{http.url}/elsewhere"})
    with pytest.raises(DeliveryError, match="HTTP 302"):
        SlackWebhook(url=http.slack_url).send(ALERT)
    assert len(http.requests) == 1


def test_slack_slow_answer_times_out(http: HttpStandin) -> None:
    http.answer_next(200, "ok", delay_s=1.0)
    with pytest.raises(DeliveryError, match="ReadTimeout"):
        SlackWebhook(url=http.slack_url, timeout_s=0.2).send(ALERT)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/hook/secret-part", "nonsense://secret-part", "http://[secret-part"]
)
def test_slack_unreachable_or_nonsense_address_is_a_delivery_error_without_the_address(url: str) -> None:
    with pytest.raises(DeliveryError, match="slack: ") as error:
        SlackWebhook(url=url, timeout_s=2).send(ALERT)
    assert "secret-part" not in str(error.value)
    assert error.value.__cause__ is None


def test_telegram_sends_plain_text_to_the_chat(http: HttpStandin) -> None:
    Telegram(token=TOKEN, chat_id="42", base_url=http.url).send(ALERT)
    assert http.requests[0].json["chat_id"] == "42"
    assert not _carried(http.requests[0].json["text"])


def test_telegram_wrong_token_is_refused_and_not_repeated_in_the_error(http: HttpStandin) -> None:
    with pytest.raises(DeliveryError, match=r"HTTP 401.*Unauthorized") as error:
        Telegram(token="999:other-secret", chat_id="42", base_url=http.url).send(ALERT)
    assert "other-secret" not in str(error.value)


def test_telegram_200_without_ok_is_not_taken_for_delivered(http: HttpStandin) -> None:
    http.answer_next(200, "<html>captive portal</html>")
    with pytest.raises(DeliveryError, match="without ok"):
        Telegram(token=TOKEN, chat_id="42", base_url=http.url).send(ALERT)


def test_apprise_url_delivers_and_reports_failure(http: HttpStandin) -> None:
    channel = AppriseUrl(url=http.url.replace("http://", "json://user:apprise-secret@") + "/hook")
    http.answer_next(200, "")
    channel.send(ALERT)
    assert not _carried(f"{http.requests[0].json['title']} {http.requests[0].json['message']}")
    http.answer_next(500, "boom")
    with pytest.raises(DeliveryError, match="apprise-json-") as error:
        channel.send(ALERT)
    assert "apprise-secret" not in f"{error.value} {channel} {channel.name}"


def test_apprise_unknown_scheme_is_a_delivery_error() -> None:
    with pytest.raises(DeliveryError, match="does not understand"):
        AppriseUrl(url="pigeon://loft").send(ALERT)


def test_a_long_body_is_cut_with_a_mark_and_keeps_what_to_do() -> None:
    text = message(replace(ALERT, body="x" * 10_000))
    assert len(text) < BODY_MAX_CHARS + 500
    assert "(cut; the log has the rest)" in text
    assert not _carried(text)


def test_subject_without_a_session_has_no_gap() -> None:
    bare = replace(ALERT, session_date=None, book="", stage="")
    assert subject(bare) == "[ERROR] The gate is closed"


def test_an_unknown_severity_is_refused_at_birth() -> None:
    with pytest.raises(ValueError, match="severity 'fatal'"):
        replace(ALERT, severity="fatal")
