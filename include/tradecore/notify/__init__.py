"""How an alert reaches its owner: one module per kind of channel, each a `send` that returns or raises.

Nothing heavy is imported here: `watch` runs on a small machine beside everything else.
"""

from __future__ import annotations

from typing import Protocol

from tradecore.alert import Alert
from tradecore.notify.apprise_url import AppriseUrl
from tradecore.notify.console import Console
from tradecore.notify.retry import MAX_ATTEMPTS, is_dead, next_try
from tradecore.notify.smtp import Smtp
from tradecore.notify.webhooks import SlackWebhook, Telegram
from tradecore.settings import AlertChannels

__all__ = ["MAX_ATTEMPTS", "Channel", "channels", "is_dead", "next_try"]


class Channel(Protocol):
    """A way to the owner."""

    def send(self, alert: Alert) -> None:
        """Deliver the alert within a bounded time, or raise DeliveryError; no secret appears in the error."""


def channels(configured: AlertChannels) -> dict[str, Channel]:
    """Return the configured channels by the name that the outbox knows them by.

    With nothing configured the console is used all the same: no alert is lost for want of a channel.
    """
    found: dict[str, Channel] = {}
    if configured.smtp is not None:
        smtp = configured.smtp
        found["smtp"] = Smtp(
            host=smtp.host,
            port=smtp.port,
            security=smtp.security,
            sender=smtp.sender,
            recipients=smtp.recipients,
            username=smtp.user or "",
            password=smtp.password.get_secret_value() if smtp.password is not None else "",
        )
    if configured.slack_webhook_url is not None:
        found["slack"] = SlackWebhook(url=configured.slack_webhook_url.get_secret_value())
    if configured.telegram is not None:
        telegram = configured.telegram
        found["telegram"] = Telegram(
            token=telegram.bot_token.get_secret_value(), chat_id=telegram.chat_id, base_url=telegram.base_url
        )
    for url in configured.apprise_urls:
        channel = AppriseUrl(url=url.get_secret_value())
        found[channel.name] = channel
    if configured.console or not found:
        found = {"console": Console(), **found}
    return found
