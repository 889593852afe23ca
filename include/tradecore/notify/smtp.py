"""Alerts by email, through any SMTP server: plain, STARTTLS or TLS from the first byte."""

from __future__ import annotations

import logging
import smtplib
import ssl
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.utils import format_datetime

from tradecore.alert import Alert
from tradecore.errors import DeliveryError
from tradecore.notify.text import message, one_line, subject

SECURITIES = ("none", "starttls", "tls")
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Smtp:
    """One mail server and who gets the mail. `tls_context` None trusts the system's certificates."""

    host: str
    port: int
    security: str
    sender: str
    recipients: tuple[str, ...]
    username: str = ""
    password: str = field(default="", repr=False)
    timeout_s: float = 10.0
    tls_context: ssl.SSLContext | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.security not in SECURITIES:
            raise ValueError(f"security {self.security!r} is none of {', '.join(SECURITIES)}")
        if not self.recipients:
            raise ValueError("an SMTP channel needs at least one recipient")

    def send(self, alert: Alert) -> None:
        """Hand the mail to the server. Every network wait ends after `timeout_s`.

        A server that takes the mail for some recipients has taken it: a retry would repeat it for those, so
        the refused ones are logged instead. Raises DeliveryError when it was taken for nobody.
        """
        try:
            with self._connect() as server:
                if self.username:
                    server.login(self.username, self.password)
                refused = server.send_message(self._mail(alert))
        except (smtplib.SMTPException, OSError) as error:
            reason = one_line(str(error)).replace(self.password or "\0", "***")
            raise DeliveryError(
                f"smtp: {self.host}:{self.port} ({self.security}): {type(error).__name__}: {reason}",
                next_step="check the SMTP_ settings, then `python -m tradecore alert test`",
                channel="smtp",
            ) from error
        if refused:
            log.warning("smtp: %s refused %s; the others have the mail", self.host, ", ".join(sorted(refused)))

    def _connect(self) -> smtplib.SMTP:
        # An address literal for EHLO: looking up the own name can take half a minute without DNS.
        own_name = "[127.0.0.1]"
        if self.security == "tls":
            return smtplib.SMTP_SSL(
                self.host, self.port, local_hostname=own_name, timeout=self.timeout_s, context=self._context()
            )
        server = smtplib.SMTP(self.host, self.port, local_hostname=own_name, timeout=self.timeout_s)
        if self.security == "starttls":
            try:
                server.starttls(context=self._context())
            except (smtplib.SMTPException, OSError):
                server.close()
                raise
        return server

    def _context(self) -> ssl.SSLContext:
        return self.tls_context or ssl.create_default_context()

    def _mail(self, alert: Alert) -> EmailMessage:
        mail = EmailMessage()
        mail["Subject"] = subject(alert)
        mail["From"] = self.sender
        mail["To"] = ", ".join(self.recipients)
        mail["Date"] = format_datetime(alert.raised_at)
        # The same id on a repeated send: mail programs show it once.
        mail["Message-ID"] = f"<{alert.alert_id}.{alert.raised_at:%Y%m%dT%H%M%S}.{alert.kind}@tradecore>"
        if alert.severity in ("error", "critical"):
            mail["X-Priority"] = "1"
        mail.set_content(message(alert))
        return mail
