"""The channel that always works: one line on standard error (a task's log, or the journal)."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TextIO

from tradecore.alert import Alert
from tradecore.errors import DeliveryError
from tradecore.notify.text import single_line


@dataclass(frozen=True, slots=True, kw_only=True)
class Console:
    """Writes to `stream`; None is whatever standard error is at the time of sending."""

    stream: TextIO | None = None

    def send(self, alert: Alert) -> None:
        """Print the alert. Raises DeliveryError when the stream is closed."""
        try:
            print(single_line(alert), file=self.stream or sys.stderr, flush=True)
        except (OSError, ValueError) as error:  # ValueError: write to a closed file
            raise DeliveryError(f"console: {error}", next_step="see why standard error is closed") from error
