"""Alerts to any of the services that Apprise knows, one channel per URL so that each is retried by itself."""

from __future__ import annotations

import hashlib
import io
import logging
from dataclasses import dataclass, field

from tradecore.alert import Alert
from tradecore.errors import DeliveryError
from tradecore.notify.text import message, one_line, subject

_TYPES = {"info": "info", "warning": "warning", "error": "failure", "critical": "failure"}


@dataclass(frozen=True, slots=True, kw_only=True)
class AppriseUrl:
    """One Apprise URL (github.com/caronc/apprise/wiki); its `cto` and `rto` set other timeouts than 4 s."""

    url: str = field(repr=False)

    @property
    def name(self) -> str:
        """Name the channel by the service and a digest: stable when the list is reordered, and no secret."""
        return f"apprise-{self.url.split(':', 1)[0]}-{hashlib.sha256(self.url.encode()).hexdigest()[:6]}"

    def send(self, alert: Alert) -> None:
        """Send through Apprise. Raises DeliveryError with what Apprise logged about it."""
        import apprise  # 60 MB, paid only by those who use it

        next_step = "check APPRISE_URLS against Apprise's wiki, then `python -m tradecore alert test`"
        service = apprise.Apprise()
        if not service.add(self.url):
            raise DeliveryError(
                f"{self.name}: Apprise does not understand this URL", next_step=next_step, channel=self.name
            )
        with apprise.LogCapture(level=logging.WARNING) as captured:
            accepted = service.notify(title=subject(alert), body=message(alert), notify_type=_TYPES[alert.severity])
            said = captured.getvalue() if isinstance(captured, io.StringIO) else ""
        if not accepted:
            raise DeliveryError(
                f"{self.name}: {one_line(said.replace(self.url, '***'))[:300] or 'not delivered'}",
                next_step=next_step,
                channel=self.name,
            )
