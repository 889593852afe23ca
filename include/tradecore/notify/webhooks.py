"""Alerts over HTTP: a Slack incoming webhook and the Telegram Bot API. Their addresses are secrets."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from tradecore.alert import Alert
from tradecore.errors import DeliveryError
from tradecore.notify.text import message, one_line, subject

TELEGRAM_URL = "https://api.telegram.org"
RETRY_AFTER_MAX_S = 3_600


@dataclass(frozen=True, slots=True, kw_only=True)
class SlackWebhook:
    """An incoming webhook, posting to the channel it was made for."""

    url: str = field(repr=False)
    timeout_s: float = 10.0

    def send(self, alert: Alert) -> None:
        """Post the alert. Raises DeliveryError for anything but a 200 (Slack says `ok`)."""
        text = f"*{_slack_escape(subject(alert))}*\n{_slack_escape(message(alert))}"
        _post(
            "slack",
            self.url,
            {"text": text},
            self.timeout_s,
            secret=self.url,
            next_step="check SLACK_WEBHOOK_URL, then `python -m tradecore alert test`",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Telegram:
    """A bot's sendMessage to one chat. `base_url` can be an own Bot API server (or a test's)."""

    token: str = field(repr=False)
    chat_id: str
    base_url: str = TELEGRAM_URL
    timeout_s: float = 10.0

    def send(self, alert: Alert) -> None:
        """Send the alert as plain text. Raises DeliveryError unless the API says ok."""
        next_step = "check TELEGRAM_BOT_TOKEN and TELEGRAM_CHAT_ID, then `python -m tradecore alert test`"
        answer = _post(
            "telegram",
            f"{self.base_url.rstrip('/')}/bot{self.token}/sendMessage",
            {
                "chat_id": self.chat_id,
                "text": f"{subject(alert)}\n{message(alert)}",
                "disable_web_page_preview": True,
            },
            self.timeout_s,
            secret=self.token,
            next_step=next_step,
        )
        try:
            accepted = json.loads(answer)["ok"] is True
        except (ValueError, KeyError, TypeError):
            accepted = False
        if not accepted:
            raise DeliveryError(
                f"telegram: answered 200 without ok: {one_line(answer)[:200]}",
                next_step=next_step,
                channel="telegram",
            )


def _post(
    channel: str, url: str, payload: Mapping[str, object], timeout_s: float, *, secret: str, next_step: str
) -> str:
    """POST JSON once and return the answer's text; retrying is the outbox's work, not the client's."""
    import httpx  # 20 MB that `watch` only pays when it has something to send

    # At INFO httpx logs each URL, which here is the secret.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        answer = httpx.post(url, json=payload, timeout=httpx.Timeout(timeout_s), follow_redirects=False)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        reason = one_line(str(error)).replace(secret, "***")
        raise DeliveryError(
            f"{channel}: {type(error).__name__}: {reason}", next_step=next_step, channel=channel
        ) from None  # the cause's request holds the address
    if answer.status_code == httpx.codes.OK:
        return answer.text
    text = one_line(answer.text)[:200].replace(secret, "***")
    raise DeliveryError(
        f"{channel}: HTTP {answer.status_code}: {text}",
        next_step=next_step,
        channel=channel,
        retry_after_s=_retry_after_s(answer.headers.get("retry-after", "")),
    )


def _retry_after_s(header: str) -> int | None:
    """Return the wait that a 429 or 503 asks for in whole seconds; dates and nonsense count as not said."""
    return min(int(header), RETRY_AFTER_MAX_S) if header.strip().isdecimal() else None


def _slack_escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
